package page

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/browsertest"
	"provium/internal/event"
)

// picture is what the timeline shows, once it is drawn.
const picture = `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
  done(document.querySelector(".lanes canvas").toDataURL()))))`

// TestKeyboard uses the page without a pointer, in a wide and a narrow window, light and dark.
func TestKeyboard(t *testing.T) {
	b := browsertest.Open(t)
	var made Builder
	if err := made.Read(event.NewReader(stream(t, whole()...))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Write(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, width := range []int{1280, 420} {
		for _, scheme := range []string{"light", "dark"} {
			b.Show("file://"+path, width, scheme)
			useKeyboard(t, b, fmt.Sprintf("%d px, %s", width, scheme))
			if found := b.Errors(); found != nil {
				t.Errorf("%d px, %s: %q", width, scheme, found)
			}
		}
	}
}

func useKeyboard(t *testing.T, b *browsertest.Browser, what string) {
	b.Want(what, "document.documentElement.scrollWidth <= innerWidth", "true")
	// Everything that can be used is reached, in the order of the page, and seen.
	var order []string
	for range 60 {
		b.Press("Tab")
		at := b.Eval(browsertest.Focused)
		if strings.HasPrefix(at, "BODY") || len(order) > 0 && at == order[0] {
			break
		}
		order = append(order, at)
		if got := b.Eval(browsertest.FocusShows); got != "true" {
			t.Errorf("%s: the focus on %s is not seen", what, at)
		}
	}
	next := 0
	steps := []string{"skip", "A Failures", "A Timeline", "A Tests", "SUMMARY </script><b>", "BUTTON +", "lanes",
		"filter", "BUTTON failed 1", "list"}
	for _, at := range order {
		if next < len(steps) && len(at) >= len(steps[next]) && at[:len(steps[next])] == steps[next] {
			next++
		}
	}
	if next < len(steps) {
		t.Errorf("%s: Tab does not reach %q in %q", what, steps[next], order)
	}

	b.Eval(`document.querySelector("#failures summary").focus()`)
	open := `String(document.querySelector("#failures details").open)`
	before := b.Eval(open)
	b.Press("Enter")
	if b.Eval(open) == before {
		t.Errorf("%s: Enter does not open and close a failure", what)
	}
	b.Press(" ")
	b.Want(what, open, before)

	b.Eval(`document.querySelector(".lanes").focus()`)
	whole := b.Eval(picture)
	b.Press("+")
	if b.Eval(picture) == whole {
		t.Errorf("%s: + does not zoom in", what)
	}
	zoomed := b.Eval(picture)
	b.Press("ArrowRight")
	if b.Eval(picture) == zoomed {
		t.Errorf("%s: the right arrow does not move the timeline", what)
	}
	b.Press("-", "0")
	if b.Eval(picture) != whole {
		t.Errorf("%s: 0 does not show all", what)
	}
	b.Press("Enter")
	b.Want(what, `String($("detail").hidden)`, "false")
	// Tab stays in what covers the page, in both directions.
	for range 30 {
		b.Press("Tab")
		b.Want(what, `String($("detail").contains(document.activeElement))`, "true")
	}
	b.Press("Escape")
	b.Want(what, `String($("detail").hidden)`, "true")
	b.Want(what, browsertest.Focused, "lanes")

	b.Press("/")
	b.Want(what, browsertest.Focused, "filter")
	b.Press("f", "l", "a")
	b.Want(what, `document.querySelectorAll(".list .row:not(.file)").length + ""`, "1")
	b.Eval(`document.querySelector(".list").focus()`)
	b.Press("ArrowDown", "Enter")
	b.Want(what, `$("detail").querySelector("h3").textContent`, "flaky flaky")
	b.Press("Shift+Tab", "Shift+Tab", "Escape")
	b.Want(what, browsertest.Focused, "list")
}

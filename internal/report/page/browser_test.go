package page

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/event"
)

// browser is a headless Chromium, driven over the pipes of its DevTools protocol.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	last    int
	session string
}

// openBrowser starts Chromium. It skips the test on a machine without it.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed, which this test drives")
	}
	if testing.Short() {
		t.Skip("a browser takes seconds to start")
	}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
		"--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{in, out} // its descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	stop := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() }) // a browser that hangs
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.call("Browser.close", nil)
		to.Close()
		from.Close()
		_ = cmd.Wait()
		stop.Stop()
	})
	var targets struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	b.read(b.call("Target.getTargets", nil), &targets)
	for _, target := range targets.TargetInfos {
		if target.Type == "page" {
			var attached struct{ SessionID string }
			to := map[string]any{"targetId": target.TargetID, "flatten": true}
			b.read(b.call("Target.attachToTarget", to), &attached)
			b.session = attached.SessionID
		}
	}
	if b.session == "" {
		t.Fatalf("no page in %+v", targets)
	}
	return b
}

// call sends a command to the browser and returns its answer.
func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	b.last++
	request := map[string]any{"id": b.last, "method": method, "params": params}
	if params == nil {
		delete(request, "params")
	}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	text, err := json.Marshal(request)
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	for err == nil {
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		if text, err = b.from.ReadBytes(0); err != nil {
			break
		}
		if err = json.Unmarshal(text[:len(text)-1], &answer); err == nil && answer.ID == b.last {
			if answer.Error != nil {
				b.t.Fatalf("%s: %s", method, answer.Error)
			}
			return answer.Result
		}
	}
	b.t.Fatalf("%s: %v", method, err)
	return nil
}

func (b *browser) read(answer json.RawMessage, into any) {
	b.t.Helper()
	if err := json.Unmarshal(answer, into); err != nil {
		b.t.Fatalf("%v: %s", err, answer)
	}
}

// eval returns what a JavaScript expression is, as a text. It waits for promises.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	b.read(b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true,
		"returnByValue": true}), &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %v", expression, got.ExceptionDetails)
	}
	return fmt.Sprint(got.Result.Value)
}

// press types keys.
func (b *browser) press(keys ...string) {
	b.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38,
		"ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36}
	for _, key := range keys {
		shift := 0
		if key == "Shift+Tab" {
			key, shift = "Tab", 8
		}
		down := map[string]any{"type": "rawKeyDown", "key": key, "windowsVirtualKeyCode": codes[key],
			"modifiers": shift}
		switch {
		case key == "Enter":
			down["type"], down["text"] = "keyDown", "\r"
		case len(key) == 1:
			down["type"], down["text"] = "keyDown", key
		}
		b.call("Input.dispatchKeyEvent", down)
		b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key,
			"windowsVirtualKeyCode": codes[key], "modifiers": shift})
	}
}

// want compares what an expression is.
func (b *browser) want(what, expression, want string) {
	b.t.Helper()
	if got := b.eval(expression); got != want {
		b.t.Errorf("%s: %s is %s, want %s", what, expression, got, want)
	}
}

// focused describes the element that has the focus.
const focused = `(() => { const e = document.activeElement;
  return e.id || e.className || e.tagName + " " + e.textContent.slice(0, 20).trim(); })()`

// isSeen reports whether the focus shows: an outline that differs from the background, on an
// element within the window.
const isSeen = `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
  return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 &&
    s.outlineColor !== getComputedStyle(document.body).backgroundColor &&
    r.bottom > 0 && r.top < innerHeight && r.right > 0 && r.left < innerWidth; })()`

// picture is what the timeline shows, once it is drawn.
const picture = `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
  done(document.querySelector(".lanes canvas").toDataURL()))))`

// TestKeyboard uses the page without a pointer, in a wide and a narrow window, light and dark.
func TestKeyboard(t *testing.T) {
	b := openBrowser(t)
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
			b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800,
				"deviceScaleFactor": 1, "mobile": false})
			b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{
				map[string]string{"name": "prefers-color-scheme", "value": scheme}}})
			b.call("Page.navigate", map[string]any{"url": "file://" + path})
			b.eval(`new Promise((done) => { const wait = () => document.readyState === "complete" && document.title ?
				done(1) : requestAnimationFrame(wait); wait(); })`)
			useKeyboard(b, fmt.Sprintf("%d px, %s", width, scheme))
		}
	}
}

func useKeyboard(b *browser, what string) {
	b.want(what, "document.documentElement.scrollWidth <= innerWidth", "true")
	// Everything that can be used is reached, in the order of the page, and seen.
	var order []string
	for range 60 {
		b.press("Tab")
		at := b.eval(focused)
		if strings.HasPrefix(at, "BODY") || len(order) > 0 && at == order[0] {
			break
		}
		order = append(order, at)
		if got := b.eval(isSeen); got != "true" {
			b.t.Errorf("%s: the focus on %s is not seen", what, at)
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
		b.t.Errorf("%s: Tab does not reach %q in %q", what, steps[next], order)
	}

	b.eval(`document.querySelector("#failures summary").focus()`)
	open := `String(document.querySelector("#failures details").open)`
	before := b.eval(open)
	b.press("Enter")
	if b.eval(open) == before {
		b.t.Errorf("%s: Enter does not open and close a failure", what)
	}
	b.press(" ")
	b.want(what, open, before)

	b.eval(`document.querySelector(".lanes").focus()`)
	whole := b.eval(picture)
	b.press("+")
	if b.eval(picture) == whole {
		b.t.Errorf("%s: + does not zoom in", what)
	}
	zoomed := b.eval(picture)
	b.press("ArrowRight")
	if b.eval(picture) == zoomed {
		b.t.Errorf("%s: the right arrow does not move the timeline", what)
	}
	b.press("-", "0")
	if b.eval(picture) != whole {
		b.t.Errorf("%s: 0 does not show all", what)
	}
	b.press("Enter")
	b.want(what, `String($("detail").hidden)`, "false")
	// Tab stays in what covers the page, in both directions.
	for range 30 {
		b.press("Tab")
		b.want(what, `String($("detail").contains(document.activeElement))`, "true")
	}
	b.press("Escape")
	b.want(what, `String($("detail").hidden)`, "true")
	b.want(what, focused, "lanes")

	b.press("/")
	b.want(what, focused, "filter")
	b.press("f", "l", "a")
	b.want(what, `document.querySelectorAll(".list .row:not(.file)").length + ""`, "1")
	b.eval(`document.querySelector(".list").focus()`)
	b.press("ArrowDown", "Enter")
	b.want(what, `$("detail").querySelector("h3").textContent`, "flaky flaky")
	b.press("Shift+Tab", "Shift+Tab", "Escape")
	b.want(what, focused, "list")
}

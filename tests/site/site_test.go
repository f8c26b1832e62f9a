package site

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"provium/internal/browsertest"
	"provium/internal/fulltest"
)

// made makes the site once for all tests.
var made = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "site")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("../../scripts/site", dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv(siteVariable) == "" && fulltest.Wanted() {
		if dir, _ := made(); dir != "" {
			os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// siteVariable names a site that is there already.
const siteVariable = "PROVIUM_SITE"

// site returns the directory of the site. It takes 20 s to make one.
func site(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(siteVariable); dir != "" {
		return dir
	}
	if !fulltest.Wanted() {
		t.Skip("a site takes long to make: `make site` tests it, and so does `make test-full`")
	}
	if _, err := exec.LookPath("sphinx-build"); err != nil {
		t.Skip("sphinx-build is not installed, which makes the site")
	}
	dir, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// page is what a page of the site has.
type page struct {
	anchors map[string]bool
	links   []string // as they are written: pages, pictures, scripts and styles
}

func readPage(t *testing.T, path string) page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	p := page{anchors: map[string]bool{"": true}}
	for n := range root.Descendants() {
		for _, a := range n.Attr {
			switch {
			case a.Key == "id" && p.anchors[a.Val]:
				t.Errorf("%s has two elements `%s`", path, a.Val)
			case a.Key == "id", a.Key == "name" && n.Data == "a":
				p.anchors[a.Val] = true
			case a.Key == "href", a.Key == "src", a.Key == "action":
				p.links = append(p.links, a.Val)
			case a.Key == "data-content_root", a.Key == "data-url_root":
				p.links = append(p.links, a.Val+"index.html")
			}
		}
	}
	return p
}

// TestLinks follows every link of the site that stays in it.
func TestLinks(t *testing.T) {
	dir := site(t)
	pages := map[string]page{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".html") {
			pages[path] = readPage(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for path, p := range pages {
		for _, link := range p.links {
			to, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if to.Scheme != "" || to.Host != "" {
				continue
			}
			target := path
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(to.Path))
			}
			seen++
			if other, isPage := pages[target]; isPage {
				if !other.anchors[to.Fragment] {
					t.Errorf("%s: there is no `%s` in %s", path, to.Fragment, target)
				}
			} else if info, err := os.Stat(target); err != nil || info.IsDir() {
				t.Errorf("%s: %s leads nowhere", path, link)
			}
		}
	}
	if len(pages) < 40 || seen < 1000 {
		t.Errorf("%d pages, %d links", len(pages), seen)
	}
}

// TestBrowser uses the site from the disk, in a wide and a narrow window, light and dark.
func TestBrowser(t *testing.T) {
	dir := site(t)
	b := browsertest.Open(t)
	address := func(page string) string { return "file://" + filepath.Join(dir, page) }
	for _, width := range []int{1400, 420} {
		backgrounds := map[string]bool{}
		for _, scheme := range []string{"light", "dark"} {
			what := fmt.Sprintf("%d px, %s", width, scheme)
			for _, page := range []string{"reference/vm.html", "index.html", "cli.html"} {
				b.Show(address(page), width, scheme)
				b.Want(what+", "+page, "document.documentElement.scrollWidth <= innerWidth", "true")
				// What a page needs is in the site.
				b.Want(what+", "+page, `performance.getEntriesByType("resource").map((r) => r.name)
					.filter((name) => !name.startsWith("file://`+dir+`/")).join()`, "")
				if found := b.Errors(); found != nil {
					t.Errorf("%s, %s: %q", what, page, found)
				}
			}
			backgrounds[b.Eval("getComputedStyle(document.body).backgroundColor")] = true
		}
		if len(backgrounds) != 2 {
			t.Errorf("%d px: the background is the same, light and dark: %v", width, backgrounds)
		}
	}
	b.Show(address("guides/ci.html"), 1400, "light")
	useKeyboard(t, b, []string{"skip", "sidebar-brand", "sidebar-search", "../cli.html", "theme-toggle",
		"next-page", "#gitlab"})
	b.Show(address("guides/ci.html"), 420, "dark")
	useKeyboard(t, b, []string{"skip", "nav-overlay-icon", "../index.html", "theme-toggle", "toc-overlay-icon",
		"next-page"})
	useDrawers(b)
	changeTheme(t, b)
	for query, want := range map[string]string{
		"wait_until":     "reference/globals.html",
		"power cut":      "disks.html",
		"--rerun-failed": "cli.html",
		"PROVIUM_SHARD":  "cli.html",
		"xyzzy":          "",
	} {
		search(t, b, address("index.html"), query, want)
	}
}

// search types a query on the page and follows the result that is wanted. An empty one says that
// nothing may be found.
func search(t *testing.T, b *browsertest.Browser, from, query, want string) {
	t.Helper()
	b.Show(from, 1400, "light")
	b.Eval(`document.querySelector(".sidebar-search").focus()`)
	for _, key := range query {
		b.Press(string(key))
	}
	b.Press("Enter")
	b.Await(`location.pathname.endsWith("/search.html") && document.querySelector("#search-results .search-summary") &&
		/found|did not match/.test(document.querySelector("#search-results .search-summary").textContent)`)
	links := `[...document.querySelectorAll("#search-results li a")]`
	if want == "" {
		b.Want(query, links+`.length`, "0")
		return
	}
	found := links + `.find((a) => new URL(a.href).pathname.endsWith("/` + want + `"))`
	b.Await(`/found/.test(document.querySelector("#search-results .search-summary").textContent) && ` + found)
	if got := b.Eval(links + `.indexOf(` + found + `)`); len(got) > 1 {
		t.Errorf("%q: %s is result %s", query, want, got)
	}
	b.Eval(found + `.focus()`)
	b.Press("Enter")
	b.Await(`location.pathname.endsWith("/` + want + `") && document.readyState === "complete"`)
	b.Await(`document.querySelector("span.highlighted") !== null`)
}

// useKeyboard goes through the page with Tab: everything has its turn, among it those of wants in their
// order, and shows when it has it.
func useKeyboard(t *testing.T, b *browsertest.Browser, wants []string) {
	t.Helper()
	var order []string
	for range 150 {
		b.Press("Tab")
		at := b.Eval(`(document.activeElement.getAttribute("href") || "") + " " + ` + browsertest.Focused)
		if strings.HasPrefix(at, " BODY") || len(order) > 0 && at == order[0] {
			break
		}
		order = append(order, at)
		if len(wants) > 0 && strings.Contains(at, wants[0]) {
			wants = wants[1:]
		}
		if got := b.Eval(browsertest.FocusShows); got != "true" {
			t.Errorf("the focus on %s is not seen", at)
		}
	}
	if len(wants) > 0 {
		t.Errorf("Tab does not reach %q in %q", wants, order)
	}
}

// useDrawers opens and closes the navigation and the contents of a page in a narrow window.
func useDrawers(b *browsertest.Browser) {
	for label, drawer := range map[string]string{".nav-overlay-icon": ".sidebar-drawer",
		".toc-header-icon": ".toc-drawer"} {
		in := `String(document.querySelector("` + drawer + `").contains(document.activeElement))`
		button := `document.querySelector("` + label + `")`
		for _, key := range []string{"Enter", " "} {
			b.Eval(button + ".focus()")
			b.Press(key)
			b.Want(label, in, "true")
			b.Want(label, button+`.getAttribute("aria-expanded")`, "true")
			b.Await(browsertest.FocusShows) // the drawer has come
			b.Press("Escape")
			b.Want(label, `String(document.activeElement === `+button+`)`, "true")
			b.Want(label, button+`.getAttribute("aria-expanded")`, "false")
		}
	}
}

// changeTheme chooses light and dark by hand, which the next page knows.
func changeTheme(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	const theme = `document.body.dataset.theme`
	b.Want("theme", theme, "auto")
	b.Eval(`document.querySelector(".theme-toggle-header button").focus()`)
	seen := map[string]bool{}
	for range 3 {
		b.Press("Enter")
		seen[b.Eval(theme)] = true
	}
	if len(seen) != 3 || !seen["light"] || !seen["dark"] {
		t.Errorf("themes: %v", seen)
	}
	b.Want("theme", theme, "auto")
}

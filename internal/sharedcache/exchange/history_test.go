package exchange

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/history"
	"provium/internal/sharedcache"
)

// TestHistory has two machines push what they know of test files, of which a third one then knows all. What it knows
// by itself stays.
func TestHistory(t *testing.T) {
	shared, err := sharedcache.Open("oci:"+t.TempDir(), "/", 0)
	must(t, err)
	machine := func(h history.History) (*Locals, Temp) {
		l, dir := user(t)
		l.History = filepath.Join(dir, "home", "history.json")
		if h != nil {
			must(t, history.Write(l.History, h))
		}
		return l, Temp{dir, dir}
	}
	one, _ := machine(history.History{"/a": {Seconds: 1}, "/b": {Seconds: 2}})
	two, _ := machine(history.History{"/b": {Seconds: 20}, "/c": {Seconds: 30, CPUSeconds: 3}})
	tell, got := texts()
	for _, l := range []*Locals{one, two} {
		must(t, l.Push(t.Context(), shared, tell))
		expect(t, got, "history")
		must(t, l.Push(t.Context(), shared, tell))
		expect(t, got, "history was there")
	}
	all, err := shared.List(t.Context(), func(err error) { t.Error(err) })
	if must(t, err); len(all) != 1 || all[0].Note != "durations of 3 test files" {
		t.Errorf("%+v", all)
	}

	three, temp := machine(nil)
	must(t, three.Pull(t.Context(), shared, temp, tell))
	expect(t, got, "history")
	want := history.History{"/a": {Seconds: 1}, "/b": {Seconds: 20}, "/c": {Seconds: 30, CPUSeconds: 3}}
	if h := history.Read(three.History); fmt.Sprint(h) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", h, want)
	}
	must(t, three.Pull(t.Context(), shared, temp, tell))
	expect(t, got, "history was there")
	if left, err := os.ReadDir(filepath.Dir(three.History)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}

	four, temp := machine(history.History{"/a": {Seconds: 100}})
	must(t, four.Pull(t.Context(), shared, temp, tell))
	expect(t, got, "history")
	if h := history.Read(four.History); len(h) != 3 || h["/a"].Seconds != 100 {
		t.Errorf("%v", h)
	}

	// One that knows nothing pushes nothing, and one without a place for it brings nothing.
	five, temp := machine(nil)
	must(t, five.Push(t.Context(), shared, tell))
	expect(t, got, "")
	five.History = ""
	must(t, five.Pull(t.Context(), shared, temp, tell))
	expect(t, got, "history was there")
}

// TestForeignHistory has one that is too long, and one that is something else.
func TestForeignHistory(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"too long":       {strings.Repeat(" ", history.MaxBytes+1), "the history has 2097153 bytes"},
		"something else": {"[]", "history was there"},
	} {
		t.Run(name, func(t *testing.T) {
			shared, err := sharedcache.Open("oci:"+t.TempDir(), "/", 0)
			must(t, err)
			file := filepath.Join(t.TempDir(), historyName)
			must(t, os.WriteFile(file, []byte(c.text), 0o600))
			_, err = shared.Push(t.Context(), sharedcache.Local{Paths: map[string]string{historyName: file},
				Header: sharedcache.Header{Kind: sharedcache.History, Key: sharedcache.HistoryKey}})
			must(t, err)
			l, dir := user(t)
			l.History = filepath.Join(dir, "history.json")
			tell, got := texts()
			must(t, l.Pull(t.Context(), shared, Temp{dir, dir}, tell))
			if len(*got) != 1 || !strings.Contains((*got)[0], c.want) {
				t.Errorf("%q", *got)
			}
			// A push replaces it.
			must(t, history.Write(l.History, history.History{"/a": {Seconds: 1}}))
			*got = nil
			must(t, l.Push(t.Context(), shared, tell))
			expect(t, got, "history")
		})
	}
}

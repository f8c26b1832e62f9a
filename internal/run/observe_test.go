package run

import (
	"fmt"
	"path/filepath"
	"testing"

	"provium/internal/history"
	"provium/internal/run/workers"
)

func TestOrderOfFiles(t *testing.T) {
	candidates := []Candidate{{Path: "a"}, {Path: "b"}, {Path: "c", FixtureRefs: []string{"f"}}, {Path: "d"}}
	known := []history.Record{{Seconds: 1}, {Seconds: 100}, {Seconds: 10}, {}}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"longest first": {Options{History: "h"}, "[3 1 2 0]"},
		"one at a time": {Options{History: "h", Jobs: 1}, "[0 1 2 3]"},
		"two at a time": {Options{History: "h", Jobs: 2}, "[3 1 2 0]"},
		"shuffled":      {Options{History: "h", Select: Selection{Shuffle: true}}, "[0 1 2 3]"},
		"fail fast":     {Options{History: "h", FailFast: true}, "[0 1 2 3]"},
		"no history":    {Options{}, "[0 1 2 3]"},
	} {
		d := &dispatcher{o: &c.o}
		if got := fmt.Sprint(d.order(candidates, known)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestHistoryIsKept has a run note how long files took, and the next one use it.
func TestHistoryIsKept(t *testing.T) {
	l := newLocalRun(t, "", map[string]string{
		"a": `test("x", function() end)`, "b": `test("x", function() error("y") end)`,
		"c": `test("x", function() end)`,
	})
	l.o.History = filepath.Join(t.TempDir(), "history.json")
	if _, err := l.run(); err != nil {
		t.Fatal(err)
	}
	h := history.Read(l.o.History)
	long := ""
	for path, r := range h {
		if r.Seconds <= 0 || r.CPUSeconds <= 0 || r.Boots == nil {
			t.Errorf("%s: %+v", path, r)
		}
		if filepath.Base(path) == "c"+testSuffix {
			long = path
		}
	}
	if len(h) != 3 {
		t.Fatalf("history of %d files, want 3", len(h))
	}
	h[long] = history.Record{Seconds: 1000, CPUSeconds: 1}
	if err := history.Update(l.o.History, h); err != nil {
		t.Fatal(err)
	}
	d := &dispatcher{o: &l.o}
	found, err := Select(l.o.Config, l.o.Select, 0)
	if err != nil {
		t.Fatal(err)
	}
	if order := d.order(found.Files, d.known(found.Files)); order[0] != 2 {
		t.Errorf("order %v, want the third first", order)
	}
}

// A worker goes to the file whose boots it knows.
func TestWorkersThatSuit(t *testing.T) {
	boots := func(keys ...string) map[string]bool {
		m := map[string]bool{}
		for _, k := range keys {
			m[k] = false
		}
		return m
	}
	d := &dispatcher{waiting: map[string]map[string]bool{"a": boots("x", "y"), "b": boots("z"), "new": nil}}
	for _, path := range []string{"a", "b", "new"} {
		d.begin(path)
	}
	for _, c := range []struct {
		path  string
		knows map[string]bool
		want  int
	}{
		{"a", boots("x", "z", "y"), 2}, {"b", boots("x", "z"), 1}, {"a", boots("w"), 0}, {"a", boots(), 0},
		{"b", boots("x"), -1}, {"new", boots("x"), -1}, {"new", boots("w"), 0},
	} {
		if got := d.suits(c.path, &workers.Worker{Boots: c.knows}); got != c.want {
			t.Errorf("%s, worker that knows %v: %d, want %d", c.path, c.knows, got, c.want)
		}
	}
	d.launched(nil, &fileRun{job: &job{Path: "a"}}, 1)
	if got := d.suits("b", &workers.Worker{Boots: boots("x")}); got != 0 {
		t.Errorf("when the other file has its worker: %d", got)
	}
}

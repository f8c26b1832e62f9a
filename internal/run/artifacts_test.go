package run

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/artifacts"
	"provium/internal/event"
	"provium/internal/run/evidence"
)

// tree returns the paths of all files below dir.
func tree(t *testing.T, dir string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			paths = append(paths, rel)
		}
		return err
	}))
	return paths
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

const leavesEvidence = `
local net = provium:bridge("net")
local vm = provium:vm("n1", "p"):boot()
net:attach(vm)
test("a|b/../c", {retries = 1}, function(t)
  t:attach("../x y", {bytes = "seen"})
  local cap = net:capture()
  t:defer(function() cap:close() end)
  t:fail("boom")
end)
test("caught", function(t) pcall(function() t:skip("no") end) end)
test("fine", function(t) end)
`

func TestEvidenceOfFailures(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": leavesEvidence, "c": "error('no chunk')", "d": passes})
	dir := filepath.Join(t.TempDir(), "kept")
	l.o.Kept, l.o.Seed, l.o.Release = evidence.Options{Dir: dir}, 7, "0.9"
	l.o.Filter.IncludeSlow = true
	must(t, os.MkdirAll(filepath.Join(dir, "mine"), 0o777))
	code, err := l.run()
	if code != ExitFailed || err != nil {
		t.Fatal(code, err)
	}
	want := []string{
		"a.a_b_.._c/README.md", "a.a_b_.._c/attachment-1-.._x_y", "a.a_b_.._c/capture.pcap",
		"a.a_b_.._c/events.jsonl", "a.a_b_.._c/provium.toml", "a.a_b_.._c/replay.json",
		"c/README.md", "c/events.jsonl", "c/provium.toml", "c/replay.json",
	}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	folder := filepath.Join(dir, "a.a_b_.._c")
	if text := read(t, filepath.Join(folder, "attachment-1-.._x_y")); text != "seen" {
		t.Errorf("attachment %q", text)
	}
	for _, part := range []string{"# a.test.lua: a|b/../c", "boom", "| `capture.pcap` | bridge_capture(net)",
		"replay DIR"} {
		if text := read(t, filepath.Join(folder, "README.md")); !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
	events := read(t, filepath.Join(folder, "events.jsonl"))
	for _, part := range []string{`"vm_spawned"`, `"operation_ended"`, `"test_started"`, `"test_failed"`} {
		if !strings.Contains(events, part) {
			t.Errorf("%s is missing in\n%s", part, events)
		}
	}
	r, err := artifacts.ReadRecord(folder)
	must(t, err)
	if r.File != "a.test.lua" || r.Test != "a|b/../c" || r.Seed != 7 || !r.Local || !r.IncludeSlow ||
		r.Timeout != time.Minute || r.Config != l.o.Config.Path || r.Profiles["p"] == "" || r.Host.Provium != "0.9" {
		t.Errorf("%+v", r)
	}
	told := map[string]string{}
	for _, e := range l.events {
		switch e := e.(type) {
		case event.TestFailed:
			told[e.Name] = e.Artifacts
			if !strings.HasSuffix(e.Reason, "\nartifacts: "+e.Artifacts) {
				t.Error(e.Reason)
			}
		case event.FileCompleted:
			told[e.Path] = e.Artifacts
		}
	}
	if told["a|b/../c"] != folder || told["c.test.lua"] != filepath.Join(dir, "c") || told["d.test.lua"] != "" {
		t.Errorf("%q", told)
	}
	if !strings.Contains(l.stderr, "provium: evidence of what failed: "+dir+"/*") {
		t.Error(l.stderr)
	}
	// The next run, which passes, removes it, and nothing else.
	l.o.Select.Paths = []string{filepath.Join(l.o.Config.Dir, "d.test.lua")}
	if code, err = l.run(); code != ExitOK || err != nil || strings.Contains(l.stderr, "evidence") {
		t.Fatal(code, err, l.stderr)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "mine" {
		t.Errorf("%v, %v", entries, err)
	}
}

// The user's cache has the last run that has failed.
func TestEvidenceInTheCache(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": fails, "b": passes})
	dir := filepath.Join(t.TempDir(), "kept")
	l.o.Kept = evidence.Options{Dir: dir, Last: true}
	kept := func() string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(dir, "*", "*", "replay.json"))
		if err != nil || len(all) != 1 {
			t.Fatalf("%q, %v", all, err)
		}
		return all[0]
	}
	for range 2 { // of which the second replaces the first
		if code, err := l.run(); code != ExitFailed || err != nil {
			t.Fatal(code, err)
		}
	}
	second := kept()
	l.o.Select.Paths = []string{filepath.Join(l.o.Config.Dir, "b.test.lua")}
	if code, err := l.run(); code != ExitOK || err != nil || kept() != second {
		t.Error(code, err, "a run that has passed has removed what was there")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err) // the directory and its lock
	}
}

// A directory that cannot be used is told before anything runs; where nobody has named it, it is a note. A verdict
// does not change.
func TestEvidenceCannotBeKept(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": fails})
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	l.o.Kept = evidence.Options{Dir: filepath.Join(file, "below")}
	code, err := l.run()
	if code != ExitError || err == nil || !strings.Contains(err.Error(), "--artifacts: ") || l.stdout != "" {
		t.Error(code, err, l.stdout)
	}
	for _, last := range []bool{false, true} {
		l.o.Kept.Optional, l.o.Kept.Last = true, last
		code, err = l.run()
		if code != ExitFailed || err != nil || l.results() != "a f=failed" || !strings.Contains(l.stderr,
			"provium: note: --artifacts: ") {
			t.Error(last, code, err, l.results(), l.stderr)
		}
	}
	// It goes away while the run goes on.
	dir := filepath.Join(t.TempDir(), "kept")
	l = newLocalRun(t, "[profiles.p]\n", map[string]string{"a": `
test("f", function(t) io.open("` + dir + `", "w"):close() t:fail("no") end)
test("g", function(t) t:fail("no") end)
`})
	l.o.Kept = evidence.Options{Dir: dir}
	code, err = l.run()
	if code != ExitFailed || err != nil || l.results() != "a f=failed g=failed" ||
		strings.Count(l.stderr, "provium: a.test.lua: artifacts: ") != 1 {
		t.Error(code, err, l.results(), l.stderr)
	}
}

// A disk that is full, and one that cannot be written to, are one note, in words, and no other verdict.
func TestEvidenceOnABadDisk(t *testing.T) {
	for options, want := range map[string]string{"size=64k": "no space left on device",
		"nr_inodes=4": "no space left on device", "ro": "read-only file system"} {
		dir := t.TempDir()
		if err := unix.Mount("provium-test", dir, "tmpfs", 0, strings.TrimPrefix(options, "ro")); err != nil {
			t.Skip("a small disk cannot be mounted: ", err)
		}
		t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
		if options == "ro" {
			must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}
		l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": `
test("f", function(t) t:attach("much", {bytes = ("x"):rep(1 << 20)}) t:fail("no") end)
test("g", function(t) t:attach("more", {bytes = ("x"):rep(1 << 20)}) t:fail("no") end)
test("fine", function() end)
`})
		l.o.Kept = evidence.Options{Dir: dir, Optional: true}
		code, err := l.run()
		if code != ExitFailed || err != nil || l.results() != "a f=failed g=failed fine=passed" {
			t.Error(options, code, err, l.results(), l.stderr)
		}
		if strings.Count(l.stderr, want) != 1 || strings.Count(l.stderr, "artifacts: ") != 1 {
			t.Errorf("%s: %s", options, l.stderr)
		}
	}
}

// What the process of a test file leaves behind that was killed is kept by the one that watches it.
func TestEvidenceOfALostRunner(t *testing.T) {
	r := newFakeRun(t, "crash")
	dir, temp := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(temp, "vm1"), 0o700))
	must(t, os.WriteFile(filepath.Join(temp, "vm1", "console.log"), []byte("Linux\n"), 0o600))
	record := artifacts.Record{File: "x.test.lua", Run: temp}
	r.job.TempDir, r.job.Kept = temp, evidence.Job{Place: artifacts.Place{Dir: dir}, Record: record}
	r.run(nil, nil, nil)
	want := []string{"x.b/README.md", "x.b/console-vm1.log", "x.b/events.jsonl", "x.b/replay.json"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	text := read(t, filepath.Join(dir, "x.b", "README.md"))
	if !strings.Contains(text, "runner ended: signal: killed") {
		t.Error(text)
	}
}

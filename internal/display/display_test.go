package display

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hinshun/vt10x"

	"provium/internal/event"
)

var update = flag.Bool("update", false, "rewrite golden files")

// stage is a display on a terminal in memory, with a clock of its own.
type stage struct {
	t     *testing.T
	d     *Display
	now   time.Time
	vt    vt10x.Terminal
	rows  int
	cols  int
	notes bytes.Buffer
	raw   bytes.Buffer // what the terminal got
	shots strings.Builder
}

// Write is the terminal's driver, which makes newlines of two characters.
func (s *stage) Write(p []byte) (int, error) {
	s.raw.Write(p)
	_, err := s.vt.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")))
	return len(p), err
}

func newStage(t *testing.T, rows, cols int, change func(*Config)) *stage {
	s := &stage{t: t, now: time.Unix(1_000_000, 0), rows: rows, cols: cols,
		vt: vt10x.New(vt10x.WithSize(cols, rows))}
	cfg := Config{Screen: s, Notes: &s.notes, Now: func() time.Time { return s.now },
		Size: func() (int, int) { return s.rows, s.cols }}
	if change != nil {
		change(&cfg)
	}
	s.d = New(cfg)
	return s
}

// emit has events happen, and the display look after so long.
func (s *stage) emit(after time.Duration, events ...event.Event) {
	for _, e := range events {
		if op, ok := e.(event.OperationStarted); ok && op.StartNS == 0 {
			op.StartNS = s.now.UnixNano()
			e = op
		}
		if err := s.d.Put(event.NewBatch(0, event.Encoded{Event: e})); err != nil {
			s.t.Fatal(err)
		}
	}
	s.now = s.now.Add(after)
	s.d.Tick()
}

func (s *stage) resize(rows, cols int) {
	s.rows, s.cols = rows, cols
	s.vt.Resize(cols, rows)
	s.d.Resized()
}

// shot takes a picture of the screen.
func (s *stage) shot(title string) {
	fmt.Fprintf(&s.shots, "--- %s\n", title)
	var lines []string
	for _, line := range strings.Split(s.vt.String(), "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	s.shots.WriteString(strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n")
}

func (s *stage) golden(name string) {
	s.t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(s.shots.String()), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.shots.String() != string(want) {
		s.t.Errorf("%s: got\n%s\nwant\n%s", name, &s.shots, want)
	}
}

func (s *stage) print(text string) {
	s.t.Helper()
	if n, err := s.d.Writer().Write([]byte(text)); n != len(text) || err != nil {
		s.t.Fatal(n, err)
	}
}

const gibibyte = 1 << 30

// begin announces some files.
func begin(paths ...string) []event.Event {
	out := []event.Event{event.RunStarted{Files: uint32(len(paths)), Pool: event.Amount{MemoryBytes: 6 * gibibyte,
		CPUs: 8}}}
	for _, path := range paths {
		out = append(out, event.FileDiscovered{Path: path})
	}
	return out
}

// play has a run happen.
func play(s *stage) {
	s.shot("nothing has happened")
	s.emit(2*time.Second, event.ProfileBuildStarted{Profile: "mine", Command: "make"},
		event.DownloadStarted{What: "linux-image-6.1"},
		event.DownloadProgress{What: "linux-image-6.1", DoneBytes: 3 << 20, TotalBytes: 12 << 20})
	s.shot("a profile builds, a kernel is fetched")
	s.emit(0, event.ProfileBuildDone{Profile: "mine"}, event.DownloadDone{What: "linux-image-6.1"})
	s.emit(0, begin("tests/a.test.lua", "tests/net/split.test.lua", "tests/slow.test.lua", "tests/z.test.lua")...)
	s.emit(3*time.Second,
		event.FileDispatched{Path: "tests/net/split.test.lua"}, event.FileDispatched{Path: "tests/a.test.lua"},
		event.PoolState{Used: event.Amount{MemoryBytes: 3 * gibibyte, CPUs: 2},
			Available: event.Amount{MemoryBytes: 3 * gibibyte, CPUs: 6}},
		event.FileBlocked{Path: "tests/z.test.lua", Reason: event.BlockedPoolFull},
		event.VMBootStarted{File: "tests/net/split.test.lua", VMName: "n1"},
		event.VMBootStage{File: "tests/net/split.test.lua", VMName: "n1", Stage: event.StageMachine},
		event.VMBootStarted{File: "tests/net/split.test.lua", VMName: "n2"},
		event.TestStarted{Path: "tests/a.test.lua", Name: "counts"})
	s.shot("two files run")
	s.print("a line of\x20a test\n")
	s.emit(2*time.Second, event.VMSpawned{File: "tests/net/split.test.lua", VMName: "n1"},
		event.VMSpawned{File: "tests/net/split.test.lua", VMName: "n2"},
		event.TestStarted{Path: "tests/net/split.test.lua", Name: "the cluster \x1b[2Jheals\nagain",
			Where: "tests/net/split.test.lua:12"},
		event.OperationStarted{Path: "tests/net/split.test.lua", ID: 1, VMName: "n1", Call: `vm:run("sleep 100")`,
			Where: "tests/net/split.test.lua:14"},
		event.OperationStarted{Path: "tests/net/split.test.lua", ID: 2, VMName: "n2", Call: `vm:run("sync")`},
		event.FixtureBuildStarted{Path: "cluster"})
	s.shot("operations last, a fixture builds")
	s.d.Describe()
	s.shot("somebody has asked what runs")
	s.emit(time.Second, event.OperationEnded{Path: "tests/net/split.test.lua", ID: 1},
		event.FixtureBuildDone{Path: "cluster"},
		event.TestPassed{Path: "tests/a.test.lua", Name: "counts"},
		event.FileCompleted{Path: "tests/a.test.lua", Status: event.FilePassed, DurationNS: 6e9},
		event.TestFailed{Path: "tests/net/split.test.lua", Name: "x"})
	s.print("PASS tests/a.test.lua (1 passed, 0 failed, 0 skipped) 6.00s\n")
	s.shot("a file has passed")
	s.emit(0, event.FileCompleted{Path: "tests/net/split.test.lua", Status: event.FileTimedOut, DurationNS: 6e9},
		event.FileDispatched{Path: "tests/slow.test.lua"})
	s.print("TIME tests/net/split.test.lua (0 passed, 1 failed, 0 skipped) 6.00s\n")
	s.shot("a file was over its limit")
	s.emit(0, event.FileCompleted{Path: "tests/slow.test.lua", Status: event.FilePassed}, event.RunCompleted{})
	s.print("\n4 file(s); and so on\n")
	if err := s.d.Close(); err != nil {
		s.t.Error(err)
	}
	s.print("behind the end")
	s.shot("the end")
}

func TestScreen(t *testing.T) {
	s := newStage(t, 24, 100, func(c *Config) {
		c.Expected = func(path string) time.Duration {
			return map[string]time.Duration{"tests/a.test.lua": 10 * time.Second,
				"tests/slow.test.lua": time.Minute}[path]
		}
	})
	play(s)
	s.golden("wide.txt")
	if strings.Contains(s.raw.String(), "\x1b[2J") {
		t.Error("the name of a test was obeyed by the terminal")
	}
}

func TestNarrowScreen(t *testing.T) {
	for _, size := range [][2]int{{12, 44}, {6, 60}, {3, 15}} {
		s := newStage(t, size[0], size[1], nil)
		play(s)
		s.golden(fmt.Sprintf("%dx%d.txt", size[1], size[0]))
	}
}

func TestResize(t *testing.T) {
	s := newStage(t, 16, 90, nil)
	s.emit(0, begin("tests/one.test.lua", "tests/two.test.lua", "tests/three.test.lua")...)
	s.print("printed before\n")
	s.emit(0, event.FileDispatched{Path: "tests/one.test.lua"}, event.FileDispatched{Path: "tests/two.test.lua"})
	s.shot("as it begins")
	s.resize(16, 30)
	s.shot("narrow")
	s.print("printed while narrow\n")
	s.resize(5, 30)
	s.shot("narrow and low")
	s.resize(20, 110)
	s.emit(time.Minute)
	s.shot("wide and high")
	s.golden("resize.txt")
}

// TestManyFiles has more run than there is room for.
func TestManyFiles(t *testing.T) {
	s := newStage(t, 14, 70, func(c *Config) { c.Color = true })
	var paths []string
	for i := range 20 {
		paths = append(paths, fmt.Sprintf("tests/%02d.test.lua", i))
	}
	s.emit(0, begin(paths...)...)
	for _, path := range paths {
		s.emit(time.Second, event.FileDispatched{Path: path})
	}
	s.emit(0, event.FileCompleted{Path: paths[3], Status: event.FileFailed, DurationNS: 17e9})
	s.shot("twenty files")
	s.golden("many.txt")
	if !strings.Contains(s.raw.String(), "\x1b[1;31m1 failed\x1b[m") {
		t.Errorf("failures are not coloured: %q", s.raw.String())
	}
}

// TestUnchangedIsNotDrawn has nothing written while nothing changes.
func TestUnchangedIsNotDrawn(t *testing.T) {
	s := newStage(t, 14, 70, nil)
	s.emit(0, begin("a")...)
	s.emit(100*time.Millisecond, event.FileDispatched{Path: "a"})
	before := s.raw.Len()
	for range 5 {
		s.emit(100 * time.Millisecond)
	}
	if s.raw.Len() != before {
		t.Errorf("written: %q", s.raw.String()[before:])
	}
	s.emit(500 * time.Millisecond)
	if s.raw.Len() == before {
		t.Error("a second has passed, which is not shown")
	}
}

// TestPause lets another program have the terminal.
func TestPause(t *testing.T) {
	s := newStage(t, 10, 60, nil)
	s.emit(0, begin("a")...)
	w := s.d.Writer()
	if _, err := w.Write([]byte("a whole line\nhalf a line")); err != nil {
		t.Fatal(err)
	}
	s.shot("half a line waits")
	s.d.Pause()
	s.shot("paused")
	if _, err := w.Write([]byte(", its end\nprompt> ")); err != nil {
		t.Fatal(err)
	}
	s.emit(time.Second, event.FileDispatched{Path: "a"})
	s.d.Resized()
	s.d.Describe()
	s.shot("another program has the terminal")
	s.print("exit\n")
	s.d.Resume()
	s.shot("resumed")
	s.golden("pause.txt")
}

// TestLongLine is not held for ever.
func TestLongLine(t *testing.T) {
	s := newStage(t, 10, 60, nil)
	s.emit(0, begin("a")...)
	s.print(strings.Repeat("x", maxHeld+1))
	if !strings.Contains(s.raw.String(), strings.Repeat("x", maxHeld+1)+"\n") {
		t.Error("it is held")
	}
}

func TestSlowNotices(t *testing.T) {
	s := newStage(t, 10, 60, func(c *Config) { c.Screen = nil })
	s.emit(16*time.Second, event.ProfileBuildStarted{Profile: "mine"})
	s.emit(0, event.ProfileBuildDone{Profile: "mine"})
	s.emit(0, begin("a", "b")...)
	s.emit(0, event.FileDispatched{Path: "a"}, event.FileDispatched{Path: "b"},
		event.VMBootStarted{File: "b", VMName: "v"})
	s.emit(14*time.Second, event.TestStarted{Path: "a", Name: "first"})
	s.emit(0, event.TestPassed{Path: "a"}, event.TestStarted{Path: "a", Name: "second", Where: "a:9"},
		event.OperationStarted{Path: "a", ID: 7, VMName: "v", Call: "vm:run(\"x\n\")", Where: "a:10"})
	for range 80 {
		s.emit(time.Second)
	}
	const want = "provium: slow: profile mine builds, 16s\n" +
		"provium: slow: b: at file scope, 15s: vm v waits for room\n" +
		"provium: slow: a: test `second` (a:9), 15s: vm:run(\"x \") of v at a:10, 15s\n" +
		"provium: slow: b: at file scope, 45s: vm v waits for room\n" +
		"provium: slow: a: test `second` (a:9), 45s: vm:run(\"x \") of v at a:10, 45s\n" +
		"provium: slow: b: at file scope, 1:15: vm v waits for room\n" +
		"provium: slow: a: test `second` (a:9), 1:15: vm:run(\"x \") of v at a:10, 1:15\n"
	if s.notes.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &s.notes, want)
	}
	s.notes.Reset()
	s.d.Describe()
	if got := s.notes.String(); !strings.HasPrefix(got, "provium: 0 of 2 files, 0 failed, 2 running, 0 left, 1:34\n") {
		t.Error(got)
	}
}

// TestEstimate says how long a run takes.
// TestWaitUntil shows what is waited for, and how long already, not what is looked at again and again.
func TestWaitUntil(t *testing.T) {
	s := newStage(t, 24, 80, nil)
	s.emit(time.Second, event.RunStarted{}, event.FileDiscovered{Path: "a.test.lua"},
		event.FileDispatched{Path: "a.test.lua"}, event.TestStarted{Path: "a.test.lua", Name: "heals"})
	s.emit(time.Second, event.OperationStarted{Path: "a.test.lua", ID: 1, Call: `wait_until("a leader")`})
	for id := range uint64(3) {
		s.emit(time.Second, event.OperationStarted{Path: "a.test.lua", ID: 2 + id, VMName: "n1",
			Call: `vm:run("look")`})
		if got := strings.Join(s.d.progress.lines(s.now, 24, 80, false), "\n"); !strings.Contains(got,
			fmt.Sprintf("a.test.lua > heals > wait_until(\"a leader\") %ds ", 2+id)) || strings.Contains(got, "more") {
			t.Errorf("look %d: %s", id, got)
		}
		if got := s.d.progress.describe(s.now); !strings.Contains(got, "wait_until(\"a leader\"), ") ||
			strings.Contains(got, "look") {
			t.Errorf("look %d: %s", id, got)
		}
		s.emit(0, event.OperationEnded{Path: "a.test.lua", ID: 2 + id})
	}
	// A look that does not end is shown, too.
	s.emit(longLook, event.OperationStarted{Path: "a.test.lua", ID: 9, VMName: "n1", Call: `vm:run("look")`})
	if got := s.d.progress.describe(s.now); !strings.Contains(got, "vm:run(\"look\") of n1, 2s") {
		t.Error(got)
	}
	s.emit(0, event.OperationEnded{Path: "a.test.lua", ID: 9}, event.OperationEnded{Path: "a.test.lua", ID: 1})
	if got := s.d.progress.describe(s.now); strings.Contains(got, "wait_until") {
		t.Error(got)
	}
}

func TestEstimate(t *testing.T) {
	known := map[string]time.Duration{"a": 10 * time.Second, "b": 30 * time.Second}
	p := newProgress(func(path string) time.Duration { return known[path] })
	now := time.Unix(100, 0)
	want := func(text string) {
		t.Helper()
		left, ok := p.left(now)
		if got := fmt.Sprint(left, ok); got != text {
			t.Errorf("%s, want %s", got, text)
		}
	}
	want("0s false")
	for _, e := range begin("x", "y") {
		p.apply(now, e)
	}
	want("0s false") // nothing is known of them
	for _, e := range begin("a", "b", "c") {
		p.apply(now, e)
	}
	want("1m0s true") // c is like the others
	p.apply(now, event.FileDispatched{Path: "a"})
	p.apply(now, event.FileDispatched{Path: "b"})
	want("30s true")
	now = now.Add(15 * time.Second) // a takes longer than expected
	want("20s true")
	p.apply(now, event.FileCompleted{Path: "a", DurationNS: 16e9})
	p.apply(now, event.FileDispatched{Path: "c"})
	want("23s true")
}

// TestStrangeEvents has events come in no order, as a damaged process may send them.
func TestStrangeEvents(t *testing.T) {
	s := newStage(t, 10, 80, nil)
	s.emit(0, event.FileDispatched{Path: "unknown"}, event.FileCompleted{Path: "other"},
		event.TestStarted{Path: "none"}, event.OperationStarted{Path: "none"},
		event.OperationEnded{Path: "unknown", ID: 3},
		event.VMBootStage{File: "unknown", VMName: "v"}, event.VMShutdown{File: "unknown", VMName: "v"},
		event.DownloadProgress{What: "x"}, event.OperationStarted{Path: "unknown", StartNS: 1 << 62},
		event.FileBlocked{Path: "unknown"}, event.PoolState{})
	s.emit(0, begin()...)
	s.emit(0, event.FileCompleted{Path: "unknown", DurationNS: 1<<64 - 1})
	s.d.Describe()
}

// TestTerminalIsGone has writes fail.
func TestTerminalIsGone(t *testing.T) {
	s := newStage(t, 10, 80, func(c *Config) { c.Screen = broken{} })
	s.emit(0, begin("a")...)
	if _, err := s.d.Writer().Write([]byte("x\n")); !errors.Is(err, errGone) {
		t.Error(err)
	}
	s.d.Describe()
	if err := s.d.Close(); err != nil {
		t.Error(err)
	}
}

type broken struct{}

var errGone = errors.New("gone")

func (broken) Write([]byte) (int, error) { return 0, errGone }

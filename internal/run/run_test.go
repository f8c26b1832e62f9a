package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"provium/internal/config"
	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/plainwords"
	"provium/internal/preparation"
	"provium/internal/report"
)

// localRun is a run of files in a temporary project, on machines without a kernel.
// Its runners are processes of the test binary.
type localRun struct {
	t              *testing.T
	o              Options
	stdout, stderr string
	events         []event.Event
}

const brokenProfile = `
[profiles.broken]
build = "echo why >&2; exit 3"
`

// newLocalRun writes the files, which are named without their suffix.
func newLocalRun(t *testing.T, toml string, files map[string]string) *localRun {
	t.Helper()
	t.Setenv(fakeRunnerVar, "real")
	// Not t.TempDir: its names are long, which a socket's path must not be.
	temp, err := os.MkdirTemp("/tmp", "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name+testSuffix), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, config.FileName)
	if err := os.WriteFile(path, []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, config.Env{CacheHome: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	return &localRun{t: t, o: Options{
		Config: cfg, Select: Selection{WorkDir: dir, Paths: []string{dir}}, Local: true,
		Memory: 4 << 30, CPUs: 8, FileTimeout: time.Minute, JSON: true,
		Events: sink.Options{File: filepath.Join(dir, "events")}, RerunState: filepath.Join(dir, "rerun.json"),
		Self: os.Args[0], RunnerVerb: "-test.run=^$", Version: "test",
		ImageCache: filepath.Join(dir, "images"), TempBase: temp,
	}}
}

// run carries the run out and reads what it has printed and saved.
func (l *localRun) run() (code int, err error) {
	l.t.Helper()
	dir := l.t.TempDir()
	var files [2]*os.File
	for i := range files {
		if files[i], err = os.Create(filepath.Join(dir, string('0'+rune(i)))); err != nil {
			l.t.Fatal(err)
		}
		defer files[i].Close()
	}
	l.o.Stdout, l.o.Stderr = files[0], files[1]
	code, err = Run(l.t.Context(), l.o)
	for i, text := range []*string{&l.stdout, &l.stderr} {
		b, err := os.ReadFile(files[i].Name())
		if err != nil {
			l.t.Fatal(err)
		}
		*text = string(b)
	}
	said := l.stderr + l.stdout
	if err != nil {
		said += err.Error()
	}
	for _, found := range plainwords.Jargon(said) {
		l.t.Error(found)
	}
	l.events = nil
	f, openErr := os.Open(l.o.Events.File)
	if openErr != nil || err != nil {
		return code, err
	}
	defer f.Close()
	for d := event.NewReader(f); ; {
		e, decodeErr := d.Decode()
		if decodeErr == io.EOF {
			break
		}
		if decodeErr != nil {
			l.t.Fatal(decodeErr)
		}
		l.events = append(l.events, e.Event)
	}
	if left, err := os.ReadDir(l.o.TempBase); err != nil || len(left) > 0 {
		l.t.Errorf("temporary files are left: %v, %v", left, err)
	}
	return code, err
}

// results describes the JSON lines.
func (l *localRun) results() string {
	l.t.Helper()
	var out []string
	for line := range strings.Lines(l.stdout) {
		var f struct {
			Path       string
			Passed     bool
			ChunkError *string `json:"chunk_error"`
			Tests      []struct{ Name, Status string }
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			l.t.Fatalf("%v: %s", err, line)
		}
		s := strings.TrimSuffix(f.Path, testSuffix)
		if f.ChunkError != nil {
			s += " chunk error"
		}
		for _, t := range f.Tests {
			s += " " + t.Name + "=" + t.Status
		}
		if f.Passed {
			s += " ok"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func (l *localRun) kinds() (kinds []event.Kind) {
	for _, e := range l.events {
		kinds = append(kinds, e.Kind())
	}
	return kinds
}

const (
	passes = `test("p", function(t) print("hello") end)`
	fails  = `test("f", function(t) t:fail("why") end)`
	guest  = `
provium:claim({memory = "1G", cpus = 2})
test("g", function(t)
  local vm = provium:vm("v", "p")
  vm:boot()
  vm:close()
end)`
)

func TestRun(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{
		"a": passes, "b": fails, "c": "error('at file scope')", "d": guest,
	})
	l.o.Seed = 7
	code, err := l.run()
	if code != ExitFailed || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if got := l.results(); got != "a p=passed ok; b f=failed; c chunk error; d g=passed ok" {
		t.Errorf("%s\n%s", got, l.stderr)
	}
	for _, want := range []string{"hello\n", "provium: 4 file(s), no guests (--vmm local)",
		"4 file(s); 2 passed, 1 failed, 0 skipped"} {
		if !strings.Contains(l.stderr, want) {
			t.Errorf("%q is missing in %s", want, l.stderr)
		}
	}
	if !strings.Contains(l.stdout, ` --seed 7`) {
		t.Errorf("the failure says nothing of the seed: %s", l.stdout)
	}
	kinds := l.kinds()
	for _, want := range []event.Kind{
		event.KindFileDispatched, event.KindTestPassed, event.KindTestFailed, event.KindFileCompleted,
		event.KindClaimAcquired, event.KindVMSpawned, event.KindVMShutdown, event.KindClaimReleased,
	} {
		if !slices.Contains(kinds, want) {
			t.Errorf("no %s in %v", want, kinds)
		}
	}
	if !slices.Equal(kinds[1:5], slices.Repeat([]event.Kind{event.KindFileDiscovered}, 4)) ||
		kinds[0] != event.KindRunStarted || kinds[len(kinds)-1] != event.KindRunCompleted {
		t.Errorf("the start, then the files, and the end: %v", kinds)
	}

	failed, err := readRerun(l.o.RerunState)
	if err != nil || len(failed) != 2 {
		t.Errorf("%v, %v", failed, err)
	}
	l.o.Select.RerunFailed, l.o.Select.RerunState = true, l.o.RerunState
	if code, err = l.run(); code != ExitFailed || err != nil || l.results() != "b f=failed; c chunk error" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	// They are mended: nothing is left to run again.
	for _, name := range []string{"b", "c"} {
		path := filepath.Join(l.o.Config.Dir, name+testSuffix)
		if err := os.WriteFile(path, []byte(passes), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if code, err = l.run(); code != ExitOK || err != nil || l.results() != "b p=passed ok; c p=passed ok" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	if code, err = l.run(); code != ExitOK || err != nil || !strings.Contains(l.stderr, "nothing to re-run") {
		t.Errorf("%d, %v, %s", code, err, l.stderr)
	}
}

func TestRunForPeople(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": passes, "b": fails})
	l.o.JSON, l.o.Events = false, sink.Options{}
	code, err := l.run()
	if code != ExitFailed || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	for _, want := range []string{"hello\n", "PASS a" + testSuffix, "FAIL b" + testSuffix,
		"2 file(s); 1 passed, 1 failed"} {
		if !strings.Contains(l.stdout, want) {
			t.Errorf("%q is missing in %s", want, l.stdout)
		}
	}
}

func TestRunStopsAtTheFirstFailure(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": fails, "b": passes, "c": passes})
	l.o.FailFast, l.o.Jobs = true, 1
	code, err := l.run()
	if code != ExitFailed || err != nil || l.results() != "a f=failed" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	if !strings.Contains(l.stderr, "1 of 3 files failed (1 test failed, 2 not started)") {
		t.Error(l.stderr)
	}
}

func TestRunRepeats(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": passes})
	l.o.Repeat = 2
	if code, err := l.run(); code != ExitOK || err != nil || l.results() != "a p=passed ok; a p=passed ok" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	for _, want := range []string{"iteration 2", "\nfailed 0 of 2\n2 iteration(s); 2 passed, 0 failed, 0 skipped; "} {
		if !strings.Contains(l.stderr, want) {
			t.Errorf("%q is missing in %s", want, l.stderr)
		}
	}
	// It passes until a file is there that its first run has left.
	l = newLocalRun(t, "[profiles.p]\n", map[string]string{"a": `
test("p", function(t)
  t:assert(not io.open("seen"), "seen before")
  io.open("seen", "w"):close()
end)`})
	l.o.UntilFail = true
	if code, err := l.run(); code != ExitFailed || err != nil || l.results() != "a p=passed ok; a p=failed" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	l.o.JSON, l.o.UntilFail, l.o.Repeat = false, false, 3
	zero := 0
	l.o.Durations = &zero
	if code, err := l.run(); code != ExitFailed || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	for _, want := range []string{"FAIL a.test.lua (0 passed, 1 failed, 0 skipped)", "slowest 3 of 3 tests:\n",
		"failed 3 of 3: a.test.lua: p\nfailed 3 of 3\n3 iteration(s); 0 passed, 3 failed, 0 skipped; "} {
		if !strings.Contains(l.stdout, want) {
			t.Errorf("%q is missing in %s", want, l.stdout)
		}
	}
	if strings.Contains(l.stdout, "file(s)") {
		t.Errorf("more than one summary: %s", l.stdout)
	}
}

func TestRunIsInterrupted(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{
		"a": `
test("w", function(t)
  io.open("up", "w"):close()
  while true do end
end)
test("n", function(t) end)`,
		"b": passes,
	})
	l.o.Jobs = 1
	signals := make(chan os.Signal, 1)
	l.o.Signals = signals
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(l.o.Config.Dir, "up")); err == nil {
				signals <- syscall.SIGINT
				return
			}
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	code, err := l.run()
	if code != ExitFailed || err != nil || l.results() != "a w=failed n=skipped" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	if !strings.Contains(l.stderr, "closing what runs; once more kills it") ||
		!strings.Contains(l.stderr, "1 of 2 files failed (1 test failed, 1 interrupted, 1 not started)") {
		t.Error(l.stderr)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Run("a claim beyond the pool", func(t *testing.T) {
		l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": `provium:claim({memory = "64G"})`})
		if code, err := l.run(); code != ExitFailed || err != nil || l.results() != "a chunk error" {
			t.Errorf("%d, %v, %s", code, err, l.results())
		}
	})
	t.Run("a build that fails", func(t *testing.T) {
		l := newLocalRun(t, brokenProfile, map[string]string{"a": passes})
		l.o.Local = false // machines without a kernel need no build
		code, err := l.run()
		var build *preparation.BuildError
		if code != ExitError || !errors.As(err, &build) || build.Profile != "broken" || build.Code != 3 {
			t.Errorf("%d, %v", code, err)
		}
		const want = "profile `broken`: build command failed (exit code 3)\nwhy\n"
		if err == nil || err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	})
	t.Run("an events file that cannot be written", func(t *testing.T) {
		l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": passes})
		l.o.Events.File = l.o.Config.Dir
		if code, err := l.run(); code != ExitError || err == nil || !strings.Contains(err.Error(), "--save-events: ") {
			t.Errorf("%d, %v", code, err)
		}
	})
	t.Run("no files", func(t *testing.T) {
		l := newLocalRun(t, "[profiles.p]\n", nil)
		l.o.JSON = false
		if code, err := l.run(); code != ExitOK || err != nil ||
			!strings.Contains(l.stdout, "no *.test.lua files found in `"+l.o.Config.Dir+"`\n") {
			t.Errorf("%d, %v, %s", code, err, l.stdout)
		}
		l.o.JSON = true
		if code, err := l.run(); code != ExitOK || err != nil || l.stdout != "" ||
			!strings.Contains(l.stderr, "no *.test.lua files found in `") {
			t.Errorf("%d, %v, %s", code, err, l.stdout)
		}
	})
}

// TestPrinterKeepsTheFirstError has the reader of the results gone.
func TestPrinterKeepsTheFirstError(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	for _, asJSON := range []bool{false, true} {
		p := newPrinter(&Options{JSON: asJSON, Stdout: w, Stderr: w}, false)
		p.ended(0, &report.FileResult{Path: "a", Status: report.FileFailed})
		p.iteration(time.Second, 1, true)
		if !errors.Is(p.err, syscall.EPIPE) || p.counts.FilesFailed != 1 || p.counts.NotStarted != 1 {
			t.Errorf("%v, %+v", p.err, p.counts)
		}
	}
}

// TestOrderOfResults: text comes when a file has ended, JSON lines in candidate order.
func TestOrderOfResults(t *testing.T) {
	for _, c := range []struct {
		json bool
		want []string
	}{{false, []string{"c", "b"}}, {true, []string{"b", "c"}}} {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		p := newPrinter(&Options{JSON: c.json, Stdout: out, Stderr: out}, false)
		p.ended(2, &report.FileResult{Path: "c.test.lua"})
		p.ended(0, nil)
		p.ended(1, &report.FileResult{Path: "b.test.lua"})
		out.Close()
		text, _ := os.ReadFile(out.Name())
		first := bytes.Index(text, []byte(c.want[0]+".test.lua"))
		second := bytes.Index(text, []byte(c.want[1]+".test.lua"))
		if first < 0 || second < first {
			t.Errorf("json %v: %s", c.json, text)
		}
	}
}

// TestExports writes the results in the formats of other programs.
func TestExports(t *testing.T) {
	files := map[string]string{
		"a": `test("passes", function() end) test("fails", function(t) t:fail("so") end)`, "b": `error("why")`,
	}
	t.Run("files", func(t *testing.T) {
		l := newLocalRun(t, "", files)
		dir := l.o.Config.Dir
		l.o.Repeat = 2
		l.o.Exports = Exports{JUnit: dir + "/j.xml", TAP: dir + "/t.tap", KTAP: "/dev/stderr", Annotate: true,
			Workspace: filepath.Dir(dir)}
		if code, err := l.run(); code != ExitFailed || err != nil {
			t.Fatal(code, err)
		}
		for path, want := range map[string]string{
			dir + "/j.xml": `<testsuites name="provium" tests="6" errors="2" failures="2"`, dir + "/t.tap": "1..4\n",
		} {
			text, err := os.ReadFile(path)
			text = regexp.MustCompile(` time="[0-9.]*"`).ReplaceAll(text, nil)
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%v\n%s", err, text)
			}
		}
		want := "::error file=" + filepath.Base(dir) + "/a.test.lua,line=1,title=fails::so"
		if !strings.Contains(l.stderr, want) {
			t.Errorf("no %s in\n%s", want, l.stderr)
		}
	})
	t.Run("no files", func(t *testing.T) {
		l := newLocalRun(t, "", nil)
		l.o.Exports = Exports{JUnit: l.o.Config.Dir + "/j.xml"}
		if code, err := l.run(); code != ExitOK || err != nil {
			t.Fatal(code, err)
		}
		if text, err := os.ReadFile(l.o.Exports.JUnit); err != nil || !strings.Contains(string(text), "<testsuites") {
			t.Errorf("%v %s", err, text)
		}
	})
	t.Run("unwritable", func(t *testing.T) {
		l := newLocalRun(t, "", files)
		l.o.Exports = Exports{TAP: l.o.Config.Dir + "/no/t.tap"}
		code, err := l.run()
		if code != ExitError || err == nil || !strings.HasPrefix(err.Error(), "--tap: open ") || l.stdout != "" {
			t.Errorf("%d, %v, %s", code, err, l.stdout)
		}
	})
}

func TestRunRetries(t *testing.T) {
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": `
local runs = 0
after_each(function() runs = runs + 1 end)
test("flaky", function(t) t:assert_ge(runs, 2, "too early") end)
test("fails", function(t) t:fail("always") end)
test("passes", function(t) t:assert_eq(runs, 6) end)
`, "b": `
local runs = 0
test("flaky", function(t)
  runs = runs + 1
  t:assert_eq(runs, 2)
end)
`})
	l.o.Retries = 2
	if code, err := l.run(); code != ExitFailed || err != nil ||
		l.results() != "a flaky=passed fails=failed passes=passed; b flaky=passed ok" {
		t.Errorf("%d, %v, %s", code, err, l.results())
	}
	if !strings.Contains(l.stdout, `"retries":2,"flaky":true`) {
		t.Error(l.stdout)
	}
	if n := strings.Count(l.stderr, "2 file(s); 3 passed, 1 failed, 0 skipped, 2 flaky; "); n != 1 {
		t.Error(l.stderr)
	}
	l.o.JSON = false
	if code, err := l.run(); code != ExitFailed || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	for _, want := range []string{"FAIL a.test.lua (2 passed, 1 failed, 0 skipped, 1 flaky)",
		"FLAKY b.test.lua (1 passed, 0 failed, 0 skipped, 1 flaky)", "    FLAKY flaky (",
		"        run 1 of 3 failed:\n            a.test.lua:4: too early: 0 is not at least 2",
		"run 2 of 3 failed:\n        a.test.lua:5: always", "run 1 of 2 failed:\n            b.test.lua:5: "} {
		if !strings.Contains(l.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, l.stdout)
		}
	}
}

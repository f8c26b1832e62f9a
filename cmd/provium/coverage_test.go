package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/event"
	"provium/internal/run"
)

func TestCoverage(t *testing.T) {
	p := newCLI(t, nil)
	meta := event.Meta{"spec": "s1 s2", "tags": []any{"fast"}}
	var in []byte
	for _, e := range []event.Event{
		event.TestStarted{Path: "a", Name: "works", Meta: meta},
		event.TestPassed{Path: "a", Name: "works", Meta: meta, DurationNS: 1e9},
	} {
		var err error
		if in, err = event.AppendFrame(in, event.Envelope{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{"one": in, "cut": in[:len(in)-3],
		"damaged": append(append([]byte{}, in...), 0, 0, 0, 1, 0xc1)} {
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const table = "      tests  passed  failed  skipped   time\n          1       1       0        0  1.00s  "
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"coverage one", 0, "coverage: 1 file, 1 test", ""},
		{"coverage one --by spec", 0, "by spec: 2 of 2 values have a test that passed\n" + table + "s1\n", ""},
		{"coverage one --by tag --by file", 0, "\nby file: 1 of 1 value", ""},
		{"coverage one --by tags --format json", 0, `"key": "tags",`, ""},
		{"coverage one --by tag --format html", 0, "<h2>By tag</h2>", ""},
		{"coverage one cut", 0, "coverage: 1 file, 1 test", "warning: cut: event decode at offset "},
		{"coverage damaged", 2, "coverage: 1 file, 1 test", "damaged: event decode at offset "},
		{"coverage one --by spek", 2, "",
			"--by: no test has `spek` in its meta; did you mean `spec`? (there are: file, spec"},
		{"coverage one --by=", 2, "", "--by"},
		{"coverage one --format xml", 2, "", "expected text, html or json"},
		{"coverage", 2, "", "expected at least one FILE"},
		{"coverage gone", 2, "", "gone: no such file or directory"},
	} {
		code, stdout, stderr := p.run(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) ||
			c.stderr == "" && stderr != "" || c.stdout == "" && stdout != "" {
			t.Errorf("%s: code %d, stdout\n%s\nstderr %q", c.args, code, stdout, stderr)
		}
	}
}

// reporter is a tool that shows what it gets.
const reporter = `#!/bin/sh
echo "$0 $*"
echo "user $PROVIUM_COVERAGE_USER_FILE"
for f in "$PROVIUM_COVERAGE_TMP" "$PROVIUM_COVERAGE_MARKER"; do
	[ -z "$f" ] || echo "there: $(basename "$f" | tr -d 0-9)"
done
`

// coverageRun is a run of one event with --coverage.
type coverageRun struct {
	*cli
	code int   // of the tests
	err  error // of the run
	with func(o run.Options)
}

func newCoverageRun(t *testing.T, tool string) *coverageRun {
	files := map[string]string{"provium.toml": autoConfig, "tests/a.test.lua": ""}
	if tool != "" {
		files["bin/provium-coverage"] = tool
	}
	r := &coverageRun{cli: newCLI(t, files)}
	r.vars["PATH"] += ":" + os.Getenv("PATH") // for the tool itself
	r.vars["TMPDIR"] = t.TempDir()
	r.self = filepath.Join(r.dir, "bin/provium")
	r.environ = os.Environ
	r.runTests = func(_ context.Context, o run.Options) (int, error) {
		r.started = append(r.started, o)
		for _, place := range o.Events.Other {
			if err := place.To.Put(event.NewBatch(1, event.Encoded{Event: event.FixtureCacheHit{}})); err != nil {
				t.Error(err)
			}
			if err := place.To.Close(); err != nil {
				t.Error(err)
			}
		}
		if r.with != nil {
			r.with(o)
		}
		return r.code, r.err
	}
	return r
}

// check runs it, and looks for what is left behind.
func (r *coverageRun) check(wantCode int, args string) (stdout, stderr string) {
	r.t.Helper()
	code, stdout, stderr := r.run(strings.Fields("--coverage " + args)...)
	if code != wantCode {
		r.t.Errorf("code %d, want %d: %s", code, wantCode, stderr)
	}
	left, err := filepath.Glob(filepath.Join(r.vars["TMPDIR"], "provium-coverage-*"))
	if err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %v, %v", left, err)
	}
	return stdout, stderr
}

func TestCoverageStep(t *testing.T) {
	const temp = "there: provium-coverage-.msgpack\nthere: provium-coverage-.msgpack.marker\n"
	r := newCoverageRun(t, reporter)
	for _, code := range []int{0, 1} {
		r.code = code
		stdout, _ := r.check(code, "")
		if !strings.HasPrefix(stdout, "\n"+r.dir+"/bin/provium-coverage --from "+r.vars["TMPDIR"]) ||
			!strings.HasSuffix(stdout, "\nuser \n"+temp) {
			t.Error(stdout)
		}
	}
	r.code = 0
	for _, flag := range []string{"--json", "--events-stdout"} {
		if stdout, stderr := r.check(0, flag); stdout != "" || !strings.Contains(stderr, temp) {
			t.Errorf("%s: %q, %q", flag, stdout, stderr)
		}
	}
	// The user's file is reported, and stays.
	user := filepath.Join(r.dir, "events")
	if err := os.WriteFile(user, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, _ := r.check(0, "--save-events events")
	if !strings.HasSuffix(stdout, " --from "+user+"\nuser "+user+"\n") {
		t.Error(stdout)
	}
	if text, err := os.ReadFile(user); err != nil || string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
	if stdout, _ := r.check(0, "--save-events /dev/null"); !strings.HasSuffix(stdout, temp) {
		t.Error(stdout) // what is no file cannot be read again
	}
	// Without a file beside the program, that on PATH is taken.
	onPath := filepath.Join(strings.Split(r.vars["PATH"], ":")[0], "provium-coverage")
	if err := os.Rename(filepath.Join(r.dir, "bin/provium-coverage"), onPath); err != nil {
		t.Fatal(err)
	}
	if stdout, _ := r.check(0, ""); !strings.HasPrefix(stdout, "\n"+onPath+" --from ") {
		t.Error(stdout)
	}
}

func TestCoverageStepFails(t *testing.T) {
	r := newCoverageRun(t, "")
	r.vars["PATH"] = strings.Split(r.vars["PATH"], ":")[0]
	if _, stderr := r.check(2, ""); !strings.Contains(stderr, "there is no provium-coverage beside "+r.self+
		", nor on PATH") || len(r.started) != 0 {
		t.Errorf("%s, %d runs", stderr, len(r.started))
	}

	r = newCoverageRun(t, "#!/bin/sh\nexit 7\n")
	if _, stderr := r.check(1, ""); !strings.Contains(stderr, "provium-coverage: exit status 7") {
		t.Error(stderr)
	}
	r = newCoverageRun(t, "no program")
	r.check(1, "")

	r = newCoverageRun(t, reporter)
	r.code, r.err = 2, errors.New("cannot be")
	if stdout, _ := r.check(2, ""); stdout != "" {
		t.Error(stdout)
	}
	r.vars["TMPDIR"] = filepath.Join(r.dir, "gone")
	if _, stderr := r.check(2, "--no-preflight"); !strings.Contains(stderr, "--coverage: temporary event file: ") {
		t.Error(stderr)
	}
}

// TestCoverageInterrupted has a signal during the run, and one during the report.
func TestCoverageInterrupted(t *testing.T) {
	signals := make(chan os.Signal, 1)
	r := newCoverageRun(t, reporter)
	r.signals = func() (<-chan os.Signal, func()) { return signals, func() {} }
	r.code = 1
	r.with = func(o run.Options) {
		signals <- os.Interrupt
		<-o.Signals
	}
	if stdout, _ := r.check(1, ""); stdout != "" {
		t.Errorf("reported: %s", stdout)
	}

	ready := filepath.Join(t.TempDir(), "ready")
	r = newCoverageRun(t, "#!/bin/sh\necho up >"+ready+"\nsleep 1000\n")
	if err := unix.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	r.signals = func() (<-chan os.Signal, func()) { return signals, func() {} }
	go func() {
		if _, err := os.ReadFile(ready); err != nil {
			t.Error(err)
		}
		signals <- os.Interrupt
	}()
	if _, stderr := r.check(1, ""); !strings.Contains(stderr, "signal: killed") {
		t.Error(stderr)
	}
}

// TestCoverageFileOfAnother: what does not prove to be the file of the run stays.
func TestCoverageFileOfAnother(t *testing.T) {
	r := newCoverageRun(t, reporter)
	var marker string
	r.with = func(run.Options) {
		found, err := filepath.Glob(filepath.Join(r.vars["TMPDIR"], "*.marker"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		marker = found[0]
		if err := os.WriteFile(marker, []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, stderr := r.run("--coverage")
	if _, err := os.Stat(strings.TrimSuffix(marker, ".marker")); err != nil || !strings.Contains(stderr,
		"is not the file of its marker; both are left") {
		t.Errorf("%v, %s", err, stderr)
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/event"
)

// savedRun returns the stream of a run of one file with a test that fails.
func savedRun(t *testing.T, f event.Format, path, shard string) []byte {
	t.Helper()
	var out []byte
	for i, e := range []event.Event{
		event.RunStarted{ProtocolVersion: event.ProtocolVersion, Iteration: 1, Files: 1, Shard: shard},
		event.FileDiscovered{Path: path},
		event.FileDispatched{Path: path},
		event.TestStarted{Path: path, Name: "works"},
		event.TestPassed{Path: path, Name: "works", Log: []string{"a note"}},
		event.TestStarted{Path: path, Name: "fails"},
		event.OperationEnded{Path: path, Name: "fails", Call: `vm:run("x")`, Status: event.OperationOK},
		event.TestFailed{Path: path, Name: "fails", Reason: path + ":3: explicit failure (t:fail)"},
		event.FileCompleted{Path: path, Status: event.FileFailed, DurationNS: 2e9},
		event.RunCompleted{ExitCode: 1, DurationNS: 3e9},
	} {
		b, err := event.NewBatch(int64(i)*1e9, event.Encoded{Event: e}).Bytes(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

const (
	savedA = "FAIL a (1 passed, 1 failed, 0 skipped) 2.00s\n    FAIL fails\n        a:3: explicit failure (t:fail)\n"
	savedB = "FAIL b (1 passed, 1 failed, 0 skipped) 2.00s\n    FAIL fails\n        b:3: explicit failure (t:fail)\n"
)

func TestReport(t *testing.T) {
	p := newCLI(t, nil)
	one, two := savedRun(t, event.Msgpack, "a", "1/2"), savedRun(t, event.JSONL, "b", "2/2")
	damaged := append([]byte{}, one...)
	damaged[len(one)-20] = 0xc1
	for name, b := range map[string][]byte{"one": one, "two": two, "cut": one[:len(one)-60], "damaged": damaged} {
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"report one", 0, savedA, ""},
		{"report one two", 0, savedA + savedB, ""},
		{"report -v two", 0, "    PASS works\n        log:\n            a note\n", ""},
		{"report --json one", 0, `{"path":"a","status":"failed","timeout":"in_time","passed":false,`, "2 failed"},
		{"report cut", 0, "", "provium: warning: cut: event decode at offset "},
		{"report damaged two", 2, savedA + savedB, "damaged: event decode at offset "},
	} {
		code, stdout, stderr := p.run(strings.Fields(c.args)...)
		want := c.stderr
		if want == "2 failed" {
			want = "1 file(s); 1 passed, 1 failed, 0 skipped; 3.00s"
		}
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, want) ||
			want == "" && stderr != "" {
			t.Errorf("%s: code %d, stdout\n%s\nstderr %q", c.args, code, stdout, stderr)
		}
	}
	if _, stdout, _ := p.run("report", "one", "two"); !strings.HasSuffix(stdout,
		"\n2 file(s); 2 passed, 2 failed, 0 skipped; 3.00s\n") {
		t.Errorf("%s", stdout)
	}
}

// passedRun returns the stream of a shard with one file that passes.
func passedRun(t *testing.T, path, shard, durations string) []byte {
	t.Helper()
	var out []byte
	for i, e := range []event.Event{
		event.RunStarted{ProtocolVersion: event.ProtocolVersion, Shard: shard, Durations: durations},
		event.FileDiscovered{Path: path}, event.FileDispatched{Path: path},
		event.TestStarted{Path: path, Name: "works"}, event.TestPassed{Path: path, Name: "works"},
		event.FileCompleted{Path: path, Status: event.FilePassed, DurationNS: 2e9},
		event.RunCompleted{DurationNS: 3e9},
	} {
		b, err := event.NewBatch(int64(i)*1e9, event.Encoded{Event: e}).Bytes(event.Msgpack)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// TestReportMergesManyShards merges 500 shards, of which one is missing and one was cut off.
func TestReportMergesManyShards(t *testing.T) {
	p := newCLI(t, nil)
	args := []string{"report", "--quiet", "--exit-code"}
	for i := 1; i <= 500; i++ {
		name := fmt.Sprintf("shard-%d.events", i)
		stream := passedRun(t, fmt.Sprintf("%d.test.lua", i), fmt.Sprintf("%d/500", i), "")
		switch i {
		case 321:
			continue
		case 322:
			stream = stream[:len(stream)-40]
		}
		args = append(args, name)
		if err := os.WriteFile(filepath.Join(p.dir, name), stream, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := p.run(args...)
	for _, want := range []string{"2 of 501 files failed (2 crashed)\n", "shard 321/500 (crashed)",
		"shard 322/500 (crashed)", "499 passed, 0 failed"} {
		if code != 1 || !strings.Contains(stdout, want) {
			t.Errorf("code %d, no %q in\n%s%s", code, want, stdout, stderr)
		}
	}
}

func TestReportMergesShards(t *testing.T) {
	p := newCLI(t, nil)
	passed := func(path, shard, durations string) []byte { return passedRun(t, path, shard, durations) }
	one := passed("a", "1/2", "")
	died := one[:strings.LastIndex(string(one), "run_completed")-20]
	for name, b := range map[string][]byte{"one": one, "two": passed("b", "2/2", ""), "died": died,
		"provium.toml": []byte("[provium]\nroots = [\".\"]\n"), "a.test.lua": nil, "b.test.lua": nil,
		"balanced": passed("b", "2/2", "sha256:1"), "again": one, "empty": nil,
		"failed": savedRun(t, event.Msgpack, "b", "2/2")} {
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"report one two --exit-code", 0, "2 file(s); 2 passed, 0 failed", ""},
		{"report one failed", 0, "FAIL b", ""},
		{"report one failed --exit-code", 1, "FAIL b", ""},
		{"report one", 0, "1 file(s); 1 passed", ""}, // looked at alone
		{"report one --exit-code", 1, "shard 2/2", ""},
		{"report one --junit x.xml", 0, "it is missing: 1 of 2 shards are there", ""},
		{"report died two --exit-code", 1, "it died, or has not ended yet: died ends before the run does", ""},
		{"report one one two", 2, "3 file(s)", "\n  one: it is given twice\n"},
		{"report one again two", 2, "3 file(s)", "again: shard 1/2 came twice, in one, too: give one of them"},
		{"report one nowhere --exit-code", 2, "shard 2/2", "provium: nowhere: no such file or directory\n"},
		{"report one provium.toml --exit-code", 2, "shard 2/2", ": it is no event stream"},
		{"report one empty --exit-code", 1, "empty has no run: nothing was saved before its end", ""},
		{"report one balanced", 2, "2 file(s)",
			"balanced: another durations file (sha256:1) than one (no): give all shards the same"},
		{"report one two --save-durations d.json", 0, "2 file(s)", ""},
		{"report one two --save-durations oci:durations:ci", 0, "2 file(s)",
			"durations: --durations-file oci:durations@sha256:"},
		{"report one two --save-durations oci:durations@sha256:ab", 2, "2 file(s)",
			"--save-durations: `oci:durations@sha256:ab`: "},
		{"list --durations-file oci:durations:ci", 2, "", "--durations-file: `oci:durations:ci`: expected a digest"},
		{"report one -o page.html --exit-code", 2, "", "exit-code"},
		{"report one two -o page.html", 0, "", ""},
		{"report died two -o lost.html", 0, "", "shard 1/2: it died"},
	} {
		code, stdout, stderr := p.run(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) ||
			c.code == 0 && c.stderr == "" && stderr != "" {
			t.Errorf("%s: code %d, stdout\n%s\nstderr %q", c.args, code, stdout, stderr)
		}
	}
	_, _, stderr := p.run("report", "one", "two", "--save-durations", "oci:durations")
	_, ref, _ := strings.Cut(strings.TrimSpace(stderr), "--durations-file ")
	code, stdout, stderr := p.run("list", "--shard", "2/2", "--durations-file", ref)
	if code != 0 || stdout != "b.test.lua\n" {
		t.Errorf("%s: code %d, %q, %q", ref, code, stdout, stderr)
	}
	for name, want := range map[string]string{
		"d.json":    "{\n  \"version\": 1,\n  \"files\": {\n    \"a\": 2000,\n    \"b\": 2000\n  }\n}\n",
		"x.xml":     `<testsuite name="shard 2/2"`,
		"lost.html": `"path":"shard 1/2","status":"crashed","error":"it died`,
	} {
		if text, err := os.ReadFile(filepath.Join(p.dir, name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}

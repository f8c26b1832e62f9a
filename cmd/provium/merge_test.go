package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"provium/internal/event"
)

// outcomes are the events of test files that end in all ways, by path.
func outcomes() map[string][]event.Event {
	file := func(path string, status event.FileStatus, failed string, between ...event.Event) []event.Event {
		all := append([]event.Event{event.FileDispatched{Path: path}}, between...)
		return append(all, event.FileCompleted{Path: path, Status: status, DurationNS: 1e9, ChunkError: failed})
	}
	start := func(path, name string) event.Event { return event.TestStarted{Path: path, Name: name} }
	return map[string][]event.Event{
		"pass": file("pass", event.FilePassed, "", event.TestOutput{Path: "pass", Text: "of the file\n"},
			start("pass", "one"), event.TestOutput{Path: "pass", Name: "one", Text: "printed\n"},
			event.TestAttachment{Path: "pass", Name: "one", Attachment: "x.txt", Size: 4, Data: []byte("data")},
			event.TestPassed{Path: "pass", Name: "one", Log: []string{"a note"}, DurationNS: 1e6}),
		"fail": file("fail", event.FileFailed, "", start("fail", "one"), event.KernelReport{File: "fail", Title: "BUG"},
			event.TestFailed{Path: "fail", Name: "one", Reason: "fail:3: no", ConsoleExcerpt: "panic"}),
		"flaky": file("flaky", event.FilePassed, "", start("flaky", "one"),
			event.TestRetried{Path: "flaky", Name: "one", Reason: "once"},
			event.TestPassed{Path: "flaky", Name: "one"}),
		"skip":   file("skip", event.FilePassed, "", event.TestSkipped{Path: "skip", Name: "one", Reason: "why"}),
		"broken": file("broken", event.FileFailed, "broken:1: near `end`"),
		"timeout": file("timeout", event.FileTimedOut, "", start("timeout", "one"),
			event.TestFailed{Path: "timeout", Name: "one"}),
		"crash":   file("crash", event.FileCrashed, "signal: killed", start("crash", "one")),
		"stopped": file("stopped", event.FileInterrupted, "", start("stopped", "one")),
		"late":    nil, // selected, and never started
	}
}

// savedShard returns the stream of a run of files.
func savedShard(t *testing.T, part string, paths []string, all map[string][]event.Event) []byte {
	t.Helper()
	code := uint32(0)
	events := []event.Event{event.RunStarted{ProtocolVersion: event.ProtocolVersion, Shard: part, Seed: 7,
		Accelerator: "tcg", Files: uint32(len(paths))}}
	for _, path := range paths {
		events = append(events, event.FileDiscovered{Path: path})
	}
	for _, path := range paths {
		if events = append(events, all[path]...); !slices.Contains([]string{"pass", "flaky", "skip"}, path) {
			code = 1
		}
	}
	events = append(events, event.RunCompleted{ExitCode: code, DurationNS: 3e9})
	var out []byte
	for i, e := range events {
		b, err := event.NewBatch(int64(i+1)*1e9, event.Encoded{Event: e}).Bytes(event.Msgpack)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// merged returns the exit code of a merge, and its results in an order that does not depend on the streams.
func merged(t *testing.T, p *cli, files []string) (code int, results string) {
	t.Helper()
	code, stdout, stderr := p.run(append([]string{"report", "--exit-code", "--json", "--junit", "m.xml"}, files...)...)
	xml, err := os.ReadFile(filepath.Join(p.dir, "m.xml"))
	if err != nil {
		t.Fatal(err)
	}
	suites := strings.Split(string(xml), "\t<testsuite ")
	ids := regexp.MustCompile(` id="\d+"|m-attachments/\d+-`)
	for i := range suites {
		suites[i] = strings.TrimSuffix(ids.ReplaceAllString(suites[i], ""), "</testsuites>\n")
	}
	lines := strings.SplitAfter(stdout, "\n")
	slices.Sort(lines)
	slices.Sort(suites[1:])
	return code, strings.Join(lines, "") + strings.Join(suites, "") + stderr
}

// TestMergeEqualsWhole deals the files of a run out to shards in many ways, and compares what their merge reports with
// what the run as a whole does: exit code, JSON lines, JUnit and the summary.
func TestMergeEqualsWhole(t *testing.T) {
	p, all := newCLI(t, nil), outcomes()
	var paths []string
	for path := range all {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	write := func(name, part string, paths []string) string {
		if err := os.WriteFile(filepath.Join(p.dir, name), savedShard(t, part, paths, all), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := []string{"flaky", "pass", "skip"}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		some := paths
		if round%4 == 0 {
			some = good
		}
		count := round%5 + 1
		parts := make([][]string, count)
		for _, path := range some {
			i := r.IntN(count)
			parts[i] = append(parts[i], path)
		}
		var files []string
		for i, part := range parts {
			files = append(files, write(fmt.Sprintf("%d.events", i), fmt.Sprintf("%d/%d", i+1, count), part))
		}
		r.Shuffle(count, func(i, j int) { files[i], files[j] = files[j], files[i] })
		wantCode, want := merged(t, p, []string{write("whole.events", "", some)})
		code, got := merged(t, p, files)
		if code != wantCode || got != want || (code == 0) != (round%4 == 0) {
			t.Fatalf("%v: code %d, want %d, got\n%s\nwant\n%s", parts, code, wantCode, got, want)
		}
		for _, text := range []string{"printed:\nprinted", "1-1-x.txt", `name="seed" value="7"`,
			"1970-01-01T00:00:01"} {
			if !strings.Contains(got, text) {
				t.Errorf("no %q in\n%s", text, got)
			}
		}
	}
}

// TestBazelStatusFile starts runs as Bazel does: each that splits its files touches the file that Bazel looks for.
func TestBazelStatusFile(t *testing.T) {
	for args, touched := range map[string]bool{"": true, "--shard 1/2": true, "--shard off": false} {
		p := newCLI(t, map[string]string{"provium.toml": autoConfig})
		p.vars["TEST_SHARD_INDEX"], p.vars["TEST_TOTAL_SHARDS"] = "1", "3"
		p.vars["TEST_SHARD_STATUS_FILE"] = "status"
		if code, _, stderr := p.run(strings.Fields(args)...); code == 2 || len(p.started) != 1 {
			t.Errorf("%s: code %d, %s", args, code, stderr)
		}
		if info, err := os.Stat(filepath.Join(p.dir, "status")); (err == nil) != touched {
			t.Errorf("%s: %v, %v", args, info, err)
		}
		p.vars["TEST_SHARD_STATUS_FILE"] = "nowhere/status"
		code, _, stderr := p.run(strings.Fields(args)...)
		if bad := strings.Contains(stderr, "TEST_SHARD_STATUS_FILE: open "); bad != touched || bad && code != 2 {
			t.Errorf("%s: code %d, %s", args, code, stderr)
		}
	}
}

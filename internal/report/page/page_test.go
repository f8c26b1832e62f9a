package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/event"
)

// stream is a stream of events, a millisecond apart.
func stream(t testing.TB, events ...event.Event) *bytes.Reader {
	t.Helper()
	var out []byte
	for i, e := range events {
		b, err := event.NewBatch(start+int64(i)*1e6, event.Encoded{Event: e}).Bytes(event.Msgpack)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return bytes.NewReader(out)
}

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

// whole is a run with something of everything.
func whole() []event.Event {
	const a, b = "a.test.lua", "b.test.lua"
	code := int64(3)
	events := []event.Event{
		event.ProfileBuildStarted{Profile: "p"}, event.ProfileBuildDone{Profile: "p", Error: "exit 1"},
		event.DownloadStarted{What: "kernel"}, event.DownloadDone{What: "kernel"},
		event.RunStarted{ProtocolVersion: event.ProtocolVersion, Version: "1", Project: "/p", Iteration: 1,
			Seed: 1<<64 - 1, Accelerator: "tcg", Pool: event.Amount{MemoryBytes: 1 << 30, CPUs: 2}},
		event.FileDiscovered{Path: a}, event.FileDiscovered{Path: b}, event.FileDiscovered{Path: "never.test.lua"},
		event.FileBlocked{Path: b, Reason: event.BlockedPoolFull},
		event.FileDispatched{Path: a}, event.PoolState{Used: event.Amount{MemoryBytes: 1 << 20, CPUs: 1}},
		event.VMBootStarted{File: a, VMName: "v", Profile: "p"},
		event.VMSpawned{File: a, VMName: "v", Profile: "p", Source: event.BootCache},
		event.ConsoleOutput{File: a, VMName: "v", Text: "\x1b[1mbold\n"},
		event.OperationEnded{Path: a, Call: "vm:boot()", StartNS: start, DurationNS: 1e6, Status: event.OperationOK},
		event.TestStarted{Path: a, Name: "</script><b>", Where: "a.test.lua:3",
			Meta: event.Meta{"tags": "x", "spec": []any{"s1", "s2"}}},
		event.StepStarted{Path: a, Name: "</script><b>", Step: "outer"},
		event.StepStarted{Path: a, Name: "</script><b>", Step: "inner"},
		event.StepEnded{Path: a, Name: "</script><b>", Step: "inner", DurationNS: 2e6, Failed: true},
		event.NetworkChanged{Path: a, Bridge: "net", VMName: "v", Call: `bridge:partition("v", "w")`},
		event.DiskFault{Path: a, VMName: "v", Disk: "d", Rule: "fail_reads", Op: "read", Sector: 8,
			Effect: "EIO", Count: 2},
		event.OperationEnded{Path: a, Name: "</script><b>", VMName: "v", Call: `vm:run("x")`, Where: "a.test.lua:4",
			StartNS: start + 20e6, DurationNS: 1e6, Status: event.OperationFailed, Result: "exit 3", ExitCode: &code,
			Output: "o"},
		event.TestOutput{Path: a, Name: "</script><b>", Text: "printed\n"},
		event.TestAttachment{Path: a, Name: "</script><b>", Attachment: "core", Size: 4, Data: []byte("core")},
		event.TestFailed{Path: a, Name: "</script><b>", DurationNS: 5e6, Reason: "a.test.lua:4: why",
			Log: []string{"l"}, ConsoleExcerpt: "BUG"},
		event.TestStarted{Path: a, Name: "flaky"},
		event.TestRetried{Path: a, Name: "flaky", Attempt: 1, DurationNS: 1e6, Reason: "once"},
		event.TestPassed{Path: a, Name: "flaky", DurationNS: 1e6},
		event.TestStarted{Path: a, Name: "skipped"}, event.TestSkipped{Path: a, Name: "skipped", Reason: "so"},
		event.KernelReport{File: a, VMName: "v", Title: "BUG: x"},
		event.ClockChanged{Path: a, VMName: "v", Call: "clock:set(1)"},
		event.VMShutdown{File: a, VMName: "v"}, event.VMBootStarted{File: a, VMName: "w"},
		event.VMBootFailed{File: a, VMName: "w", Reason: "no agent"},
		event.FixtureBuildStarted{Path: "fix"}, event.FixtureBuildDone{Path: "fix"},
		event.FileCompleted{Path: a, Status: event.FileFailed, DurationNS: 20e6},
		event.FileDispatched{Path: b}, event.TestStarted{Path: b, Name: "runs on"},
	}
	return events
}

// modelOf returns the model in a page, and the page.
func modelOf(t *testing.T, b *Builder) (m model, text string) {
	t.Helper()
	var out bytes.Buffer
	if err := b.Write(&out); err != nil {
		t.Fatal(err)
	}
	text = out.String()
	_, rest, _ := strings.Cut(text, `id="data">`)
	data, _, _ := strings.Cut(rest, "</script>")
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		t.Fatal(err)
	}
	return m, text
}

func TestModel(t *testing.T) {
	var b Builder
	err := b.Read(event.NewReader(stream(t, whole()...)))
	if err != nil {
		t.Fatal(err)
	}
	m, text := modelOf(t, &b)
	if n := strings.Count(text, "</script>"); n != 2 {
		t.Errorf("%d ends of scripts", n)
	}
	got, err := json.MarshalIndent(&m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "model.json")
	if os.Getenv("PROVIUM_UPDATE") != "" {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != string(got)+"\n" {
		t.Errorf("%v; PROVIUM_UPDATE=1 writes\n%s", err, got)
	}
}

// TestDamage has the page show what precedes it.

// TestFolders has failures with folders of evidence at places that the page can link to, and at others.
func TestFolders(t *testing.T) {
	for folder, want := range map[string]string{
		"/out/kept/a.heals":       "kept/a.heals/",
		"/elsewhere/a b#1?.<x>\n": "../elsewhere/a%20b%231%3F.%3Cx%3E%0A/",
		"/out/javascript:x":       "./javascript:x/",
		"relative/x":              "",
		"":                        "",
	} {
		b := Builder{Dir: "/out"}
		failed := stream(t, event.RunStarted{ProtocolVersion: event.ProtocolVersion},
			event.TestStarted{Path: "a", Name: "x"}, event.TestFailed{Path: "a", Name: "x", Artifacts: folder})
		if err := b.Read(event.NewReader(failed)); err != nil {
			t.Fatal(err)
		}
		got := ""
		if d := b.m.Files[0].Tests[0].Detail; d != nil {
			got = d.Folder
		}
		if got != want {
			t.Errorf("%q: %q, want %q", folder, got, want)
		}
		ofFile := Builder{Dir: "/out"}
		failed = stream(t, event.RunStarted{ProtocolVersion: event.ProtocolVersion}, event.FileCompleted{Path: "a",
			Status: event.FileFailed, ChunkError: "boom", Artifacts: folder})
		if err := ofFile.Read(event.NewReader(failed)); err != nil {
			t.Fatal(err)
		}
		got = ""
		if d := ofFile.m.Files[0].Scope; d != nil {
			got = d.Folder
		}
		if got != want {
			t.Errorf("of a file, %q: %q, want %q", folder, got, want)
		}
	}
}

func TestDamage(t *testing.T) {
	whole := stream(t, whole()...)
	cut := make([]byte, whole.Len()-10)
	if _, err := io.ReadFull(whole, cut); err != nil {
		t.Fatal(err)
	}
	var b Builder
	if err := b.Read(event.NewReader(bytes.NewReader(cut))); !errors.Is(err, event.ErrTruncated) {
		t.Error(err)
	}
	if m, _ := modelOf(t, &b); len(m.Files) != 3 || len(m.Notes) != 1 {
		t.Errorf("%d files, %q", len(m.Files), m.Notes)
	}
	other := Builder{}
	if err := other.Read(event.NewReader(stream(t, event.RunStarted{ProtocolVersion: 1}))); err == nil {
		t.Error("another version was read")
	}
}

// TestBounds: what is too much is left out, the end of everything is there.
func TestBounds(t *testing.T) {
	const file, test = "a.test.lua", "t"
	events := []event.Event{event.FileDispatched{Path: file}, event.TestStarted{Path: file, Name: test}}
	for i := range 1000 {
		events = append(events,
			event.OperationEnded{Path: file, Name: test, Call: fmt.Sprint("op ", i), Status: event.OperationOK},
			event.NetworkChanged{Path: file, Call: "x"}, event.NetworkChanged{Path: file, Call: "x"},
			event.NetworkChanged{Path: file, Call: "x"}, event.PoolState{}, event.PoolState{}, event.PoolState{},
			event.PoolState{},
			event.PoolState{}, event.ConsoleOutput{File: file, VMName: "v", Text: strings.Repeat("x", 1000)})
	}
	events = append(events, event.TestFailed{Path: file, Name: test, Reason: strings.Repeat("r", 1<<20)})
	var b Builder
	if err := b.Read(event.NewReader(stream(t, events...))); err != nil {
		t.Fatal(err)
	}
	m, text := modelOf(t, &b)
	f := m.Files[0]
	d := f.Tests[0].Detail
	if len(d.Ops) != maxOps || d.OpsCut != 1000-maxOps || d.Ops[maxOps-1].Call != "op 999" {
		t.Errorf("%d operations, %d left out", len(d.Ops), d.OpsCut)
	}
	if len(f.Marks) != maxMarks || len(m.Pool) > maxPool || len(f.Guests[0].Console) > 2*maxText {
		t.Errorf("%d marks, %d points, %d bytes", len(f.Marks), len(m.Pool), len(f.Guests[0].Console))
	}
	if len(text) > 1<<20 {
		t.Errorf("%d bytes", len(text))
	}
}

// BenchmarkPage renders 50,000 tests in 1,000 files.
func BenchmarkPage(b *testing.B) {
	events := []event.Event{event.RunStarted{ProtocolVersion: event.ProtocolVersion}}
	for f := range 1000 {
		path := fmt.Sprintf("tests/%d.test.lua", f)
		events = append(events, event.FileDiscovered{Path: path}, event.FileDispatched{Path: path})
		for n := range 50 {
			name := fmt.Sprintf("a test with a name of usual length, number %d", n)
			events = append(events, event.TestStarted{Path: path, Name: name},
				event.OperationEnded{Path: path, Name: name, Call: `vm:run("true")`, Where: path + ":3",
					Result: "exit 0",
					Status: event.OperationOK},
				event.TestPassed{Path: path, Name: name, DurationNS: 1e6})
		}
		events = append(events, event.FileCompleted{Path: path, Status: event.FilePassed, DurationNS: 50e6})
	}
	s := stream(b, events...)
	for b.Loop() {
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		var p Builder
		if err := p.Read(event.NewReader(s)); err != nil {
			b.Fatal(err)
		}
		out := io.Discard
		if path := os.Getenv("PROVIUM_PAGE"); path != "" {
			f, err := os.Create(path)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			out = f
		}
		if err := p.Write(out); err != nil {
			b.Fatal(err)
		}
	}
}

package coverage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/terminal"
)

// stream is a stream of events, a second apart.
func stream(t testing.TB, events ...event.Event) []byte {
	t.Helper()
	var out []byte
	for i, e := range events {
		var err error
		if out, err = event.AppendFrame(out, event.Envelope{TS: int64(i) * 1e9, Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func read(t testing.TB, b *Builder, in []byte) {
	t.Helper()
	if err := b.Read(event.NewReader(bytes.NewReader(in))); err != nil {
		t.Fatal(err)
	}
}

// hostile is what a guest may get into a name, a reason or a path.
const hostile = "evil \x1b]0;t\x07\x1b[31m\u009b2J\u202e</script><b>&"

// whole is a run with something of everything.
func whole() []event.Event {
	const a, b = "a.test.lua", "b.test.lua"
	meta := func(spec any) event.Meta {
		return event.Meta{"spec": spec, "tags": []any{"fast", hostile}, "owner": "me", "level": int64(3),
			"ratio": 0.5, "raw": []byte{0xff}, "deep": map[string]any{"x": "y"}, "on": true}
	}
	return []event.Event{
		event.RunStarted{ProtocolVersion: event.ProtocolVersion, Iteration: 1, Files: 3,
			Pool: event.Amount{MemoryBytes: 8 << 30, CPUs: 4}},
		event.FileDiscovered{Path: a}, event.FileDiscovered{Path: b}, event.FileDiscovered{Path: "never.test.lua"},
		event.FileDispatched{Path: a},
		event.FileBlocked{Path: b, Reason: event.BlockedPoolFull},
		event.PoolState{Used: event.Amount{MemoryBytes: 1 << 30, CPUs: 1}},
		event.FileBlocked{Path: b, Reason: event.BlockedJobsLimit},
		event.PoolState{Used: event.Amount{MemoryBytes: 3 << 30, CPUs: 2}},
		event.FileDispatched{Path: b},
		event.FixtureBuildStarted{Path: "db"}, event.FixtureBuildWaiting{Path: "db", HeldByFile: a},
		event.FixtureBuildDone{Path: "db", DurationNS: 2e9, SnapshotBytes: 5 << 20},
		event.FixtureCacheHit{Path: "db"}, event.FixtureBuildDone{Path: "broken"},
		event.VMSpawned{File: a, Source: event.BootCold}, event.VMSpawned{File: a, Source: event.BootCache},
		event.VMSpawned{File: a, Source: event.BootSnapshot}, event.VMBootFailed{File: a},
		event.TestStarted{Path: a, Name: "passes", Meta: meta("net.up  net.down")},
		event.TestPassed{Path: a, Name: "passes", DurationNS: 1e9, Meta: meta("net.up  net.down")},
		event.TestStarted{Path: a, Name: hostile, Meta: meta([]any{"net.down", hostile})},
		event.TestFailed{Path: a, Name: hostile, DurationNS: 3e9, Meta: meta([]any{"net.down", hostile})},
		event.TestStarted{Path: a, Name: "flaky", Meta: event.Meta{}},
		event.TestRetried{Path: a, Name: "flaky", Attempt: 1},
		event.TestPassed{Path: a, Name: "flaky", DurationNS: 1e9},
		event.TestStarted{Path: b, Name: "skipped", Meta: event.Meta{"spec": "only.skipped"}},
		event.TestSkipped{Path: b, Name: "skipped", Meta: event.Meta{"spec": "only.skipped"}},
		event.FileCompleted{Path: a, Status: event.FileFailed, DurationNS: 20e9},
		event.TestStarted{Path: b, Name: "runs on", Meta: event.Meta{}},
		event.EventsLost{Count: 2},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("PROVIUM_UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("%s, %v; PROVIUM_UPDATE=1 writes\n%s", name, err, got)
	}
}

func TestFormats(t *testing.T) {
	var b Builder
	read(t, &b, stream(t, whole()...))
	for _, f := range []Format{FormatText, FormatJSON, FormatHTML} {
		var out bytes.Buffer
		if err := Write(&out, f, b.Report(), false); err != nil {
			t.Fatal(err)
		}
		golden(t, "whole."+string(f), out.Bytes())
		shown := strings.ReplaceAll(out.String(), "\n", "")
		if strings.ContainsFunc(shown, terminal.IsControl) || strings.Contains(shown, "<b>&") && f == FormatHTML {
			t.Errorf("%s: what a guest has printed got through", f)
		}
	}
	var r Report
	var out bytes.Buffer
	if err := JSON(&out, b.Report()); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Spec.Values[0].Value != hostile {
		t.Error(err, r.Spec.Values[0].Value)
	}
	out.Reset()
	if err := Text(&out, b.Report(), true); err != nil || !strings.Contains(out.String(),
		"\x1b[31mNO PASS\x1b[0m only.skipped") {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestGroups(t *testing.T) {
	var b Builder
	read(t, &b, stream(t, whole()...))
	want := []string{"file", "level", "on", "owner", "ratio", "raw", "spec", "tags"}
	if got := b.Keys(); !slices.Equal(got, want) {
		t.Error(got)
	}
	var groups []Grouping
	for _, key := range []string{"tag", "file", "owner", "level", "ratio", "raw", "on"} {
		if !b.HasKey(key) {
			t.Errorf("no %s", key)
		}
		groups = append(groups, b.Group(key))
	}
	if b.HasKey("nope") || len(b.Group("nope").Without) != 5 {
		t.Error("there is a key that no test has")
	}
	var out bytes.Buffer
	if err := TextBy(&out, groups, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "groups.text", out.Bytes())
}

// TestIterations: a test that fails once has failed, one that is left out once has not.
func TestIterations(t *testing.T) {
	one := func(path string, results ...event.Event) []event.Event {
		list := []event.Event{event.RunStarted{ProtocolVersion: event.ProtocolVersion},
			event.FileDispatched{Path: path}}
		list = append(list, results...)
		return append(list, event.FileCompleted{Path: path, Status: event.FilePassed},
			event.RunCompleted{DurationNS: 7e9})
	}
	spec := func(s string) event.Meta { return event.Meta{"spec": s} }
	var b Builder
	read(t, &b, stream(t, append(
		one("a", event.TestPassed{Path: "a", Name: "x", Meta: spec("x")},
			event.TestSkipped{Path: "a", Name: "y", Meta: spec("y")}),
		one("a", event.TestFailed{Path: "a", Name: "x", Meta: spec("x")},
			event.TestPassed{Path: "a", Name: "y", Meta: spec("y")})...)...))
	read(t, &b, stream(t, one("b", event.TestPassed{Path: "b", Name: "x", Meta: spec("x z")})...)) // a shard
	r := b.Report()
	if got := r.Totals; got.Iterations != 3 || got.Seconds != 14 ||
		got.Tests != (Counts{All: 3, Passed: 2, Failed: 1}) ||
		got.Files != (Counts{All: 2, Passed: 2}) {
		t.Errorf("%+v", got)
	}
	for i, want := range []string{"x true 1 passed, 1 failed", "y true 1 passed", "z true 1 passed"} {
		v := r.Spec.Values[i]
		if got := fmt.Sprint(v.Value, " ", v.Covered, " ", v.Counts); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestDamage(t *testing.T) {
	in := stream(t, whole()...)
	var b Builder
	if err := b.Read(event.NewReader(bytes.NewReader(in[:len(in)-3]))); !errors.Is(err, event.ErrTruncated) {
		t.Error(err)
	}
	if r := b.Report(); r.Totals.Tests.All != 5 || len(r.Notes) != 1 {
		t.Errorf("%+v", r.Totals)
	}
	var version *report.VersionError
	other := stream(t, event.RunStarted{ProtocolVersion: 99})
	if err := b.Read(event.NewReader(bytes.NewReader(other))); !errors.As(err, &version) {
		t.Error(err)
	}
	var empty Builder
	for _, f := range []Format{FormatText, FormatJSON, FormatHTML} {
		if err := Write(io.Discard, f, empty.Report(), false); err != nil {
			t.Error(err)
		}
		if err := Write(brokenWriter{}, f, empty.Report(), false); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || err.Error() != "expected text, html or json" {
		t.Error(err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestBounds has long names and lists, and times that no run has.
func TestBounds(t *testing.T) {
	long := strings.Repeat("é", maxText)
	var many []any
	for i := range 2 * maxValues {
		many = append(many, fmt.Sprint("v", i))
	}
	var b Builder
	for i, e := range []event.Event{
		event.TestPassed{Path: long, Name: long, DurationNS: math.MaxUint64,
			Meta: event.Meta{"spec": many, long: long}},
		event.FileBlocked{Path: "a"}, event.FileDispatched{Path: "a"}, event.RunCompleted{DurationNS: math.MaxUint64},
		event.RunCompleted{DurationNS: math.MaxUint64},
	} {
		b.Add(event.Envelope{TS: []int64{math.MinInt64, math.MaxInt64}[i%2], Event: e})
	}
	r := b.Report()
	if len(r.Spec.Values) != maxValues || len(r.SlowestTests[0].Name) > maxText+50 {
		t.Errorf("%d values, %d bytes", len(r.Spec.Values), len(r.SlowestTests[0].Name))
	}
	if err := JSON(io.Discard, r); err != nil {
		t.Error(err)
	}
	for i := range maxListed + 3 {
		b.Add(event.Envelope{Event: event.TestStarted{Path: "p", Name: fmt.Sprint(i)}})
	}
	var out bytes.Buffer
	if err := Text(&out, b.Report(), false); err != nil || !strings.Contains(out.String(),
		"    and 3 more (HTML and JSON have all)\n") {
		t.Error(err)
	}
}

// FuzzBuilder reads any bytes and writes what they give in all formats.
func FuzzBuilder(f *testing.F) {
	f.Add(stream(f, whole()...))
	f.Add(stream(f, whole()...)[:500])
	f.Fuzz(func(t *testing.T, in []byte) {
		var b Builder
		_ = b.Read(event.NewReader(bytes.NewReader(in)))
		for _, format := range []Format{FormatText, FormatJSON, FormatHTML} {
			var out bytes.Buffer
			if err := Write(&out, format, b.Report(), false); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsFunc(strings.NewReplacer("\n", "", "\t", "").Replace(out.String()), terminal.IsControl) {
				t.Errorf("%s: a control character", format)
			}
		}
	})
}

// BenchmarkReport reads 50,000 tests in 1,000 files and writes their report.
func BenchmarkReport(b *testing.B) {
	events := []event.Event{event.RunStarted{ProtocolVersion: event.ProtocolVersion}}
	for f := range 1000 {
		path := fmt.Sprintf("tests/%d.test.lua", f)
		events = append(events, event.FileDiscovered{Path: path}, event.FileDispatched{Path: path})
		for n := range 50 {
			name := fmt.Sprintf("a test with a name of usual length, number %d", n)
			meta := event.Meta{"tags": []any{"a", "b"}}
			if n%2 == 0 {
				meta["spec"] = fmt.Sprintf("part.%d.%d", f, n/10)
			}
			events = append(events, event.TestStarted{Path: path, Name: name, Meta: meta},
				event.TestPassed{Path: path, Name: name, DurationNS: 1e6, Meta: meta})
		}
		events = append(events, event.FileCompleted{Path: path, Status: event.FilePassed, DurationNS: 50e6})
	}
	in := stream(b, events...)
	for _, f := range []Format{FormatText, FormatJSON, FormatHTML} {
		b.Run(string(f), func(b *testing.B) {
			for b.Loop() {
				var c Builder
				read(b, &c, in)
				var out bytes.Buffer
				if err := Write(&out, f, c.Report(), false); err != nil {
					b.Fatal(err)
				}
				if path := os.Getenv("PROVIUM_PAGE"); path != "" && f == FormatHTML {
					if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

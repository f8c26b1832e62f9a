package event

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// samples has at least one event of every kind.
func samples() []Envelope {
	amount := Amount{MemoryBytes: 3 << 30, CPUs: 2}
	meta := Meta{
		"nil": nil, "yes": true, "no": false, "int": int64(-7), "big": int64(math.MaxInt64),
		"float": 1.5, "str": "grün", "bin": []byte{0xff, 0}, "empty": []byte{},
		"array": []any{int64(1), "two", []any{}}, "map": map[string]any{"k": map[string]any{}},
	}
	code := int64(1)
	const file, name = "tests/a.test.lua", "heals"
	events := []Event{
		RunStarted{ProtocolVersion: ProtocolVersion, Version: "1.0", Project: "/p", Iteration: 1, Files: 2,
			Shard: "1/2", Selection: "sha256:5e", Durations: "sha256:d0",
			Seed: math.MaxUint64, Repeat: "--seed 7", Accelerator: "tcg", Pool: amount},
		FileDiscovered{Path: file, FixtureRefs: []string{"setups/pair"}, DeclaredClaim: &amount},
		FileDiscovered{Path: "tests/b.test.lua", FixtureRefs: []string{}},
		FileBlocked{Path: file, WaitingFor: amount, Reason: BlockedPoolFull},
		FileDispatched{Path: file, Reservation: Amount{MemoryBytes: 50 << 20}},
		FileCompleted{Path: file, Status: FileTimedOut, DurationNS: 300e9, ChunkError: "late"},
		TestStarted{Path: file, Name: "boots", Meta: Meta{}, Where: file + ":3"},
		TestPassed{Path: file, Name: "boots", DurationNS: 12, Meta: meta, Log: []string{"one", ""}},
		TestFailed{Path: file, Name: name, DurationNS: math.MaxUint64, Reason: "a\nb", Artifacts: "/a/heals",
			ConsoleExcerpt: "panic", Meta: Meta{}, Log: []string{}},
		TestSkipped{Path: file, Name: "soaks", Reason: "todo", Meta: Meta{"slow": true}},
		TestRetried{Path: file, Name: name, Attempt: 1, DurationNS: 5, Reason: "why", ConsoleExcerpt: "c",
			Log: []string{"x"}},
		TestLog{Path: file, Name: name, Text: "x"},
		TestOutput{Path: file, Name: name, Stream: "stdout", Text: "x\n"},
		TestAttachment{Path: file, Name: name, Attachment: "dump", Source: "/t/dump", Size: 3,
			Data: []byte{1, 0xff, 0}},
		StepStarted{Path: file, Name: name, Step: "split", Where: file + ":9"},
		StepEnded{Path: file, Name: name, Step: "split", DurationNS: 7, Failed: true},
		OperationStarted{Path: file, Name: name, ID: 4, VMName: "n1", Call: `vm:run("false")`, Where: file + ":5",
			StartNS: 1700000000000000000},
		OperationEnded{Path: file, Name: name, ID: 4, VMName: "n1", Call: `vm:run("false")`, Where: file + ":5",
			StartNS: 1700000000000000000, DurationNS: 3e6, Status: OperationOK, Result: "exit 1", ExitCode: &code,
			Output: "no"},
		OperationEnded{Path: file, ID: 5, Call: `vm:unlink("/x")`, StartNS: -1, Status: OperationFailed,
			Result: "No such file", Errno: 2},
		NetworkChanged{Path: file, Name: name, Bridge: "net", VMName: "n1", Change: "disconnect",
			Call: "nic:disconnect()", Where: file + ":6"},
		DiskChanged{Path: file, Name: name, VMName: "n1", Disk: "boot0", Change: "fail_reads",
			Call: "disk:fail_reads()", Where: file + ":7"},
		DiskFault{Path: file, VMName: "n1", Disk: "boot0", Rule: "fail_reads", Op: "read", Sector: 8, Sectors: 2,
			Effect: "EIO", Count: 3},
		ClockChanged{Path: file, Name: name, VMName: "n1", Change: "set", Call: "clock:set(0)", Where: file + ":8"},
		VMBootStarted{File: file, VMName: "n1", Profile: "host"},
		VMBootStage{File: file, VMName: "n1", Stage: StageMachine, DurationNS: 9},
		VMBootFailed{File: file, VMName: "n1", DurationNS: 9, Reason: "no agent"},
		VMSpawned{File: file, VMName: "n1", Profile: "host", MemoryBytes: 512 << 20, CID: math.MaxUint32,
			Source: BootCache, QEMUArgs: []string{"-device", "edu"}},
		VMShutdown{File: file, VMName: "n1", DurationNS: 1, Reason: "kernel panic"},
		ConsoleOutput{File: file, VMName: "n1", Text: "[    0.1] Linux\n"},
		KernelReport{File: file, VMName: "n1", Title: "BUG", Text: "BUG: x\n", Panic: true},
		PoolState{Used: amount, Available: Amount{}},
		ClaimAcquired{Path: file, Amount: amount},
		ClaimReleased{Path: file, Amount: amount},
		FixtureBuildStarted{Path: "setups/pair"},
		FixtureBuildWaiting{Path: "setups/pair", HeldByFile: file},
		FixtureBuildDone{Path: "setups/pair", DurationNS: 5, SnapshotBytes: 1 << 40},
		FixtureCacheHit{Path: "setups/pair"},
		ProfileBuildStarted{Profile: "mine", Command: "make"},
		ProfileBuildOutput{Profile: "mine", Text: "CC a.o\n"},
		ProfileBuildDone{Profile: "mine", DurationNS: 4, Error: "exit code 2"},
		DownloadStarted{What: "linux-image"},
		DownloadProgress{What: "linux-image", DoneBytes: 1, TotalBytes: 1 << 33},
		DownloadDone{What: "linux-image", DurationNS: 1, Error: "offline"},
		EventsLost{Count: 12},
		RunCompleted{ExitCode: 1, DurationNS: 10, NotStarted: 1, Interrupted: true},
	}
	var envs []Envelope
	for i, e := range events {
		envs = append(envs, Envelope{TS: 1700000000000000000 + int64(i), Event: e})
	}
	return envs
}

func frame(t testing.TB, env Envelope) []byte {
	t.Helper()
	b, err := AppendFrame(nil, env)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// declaredKinds returns the kinds that kinds.go declares.
func declaredKinds(t *testing.T) (kinds []Kind) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "kinds.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(s.Names[0].Name, "Kind") {
			name, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, Kind(name))
		}
		return true
	})
	return kinds
}

func TestSamplesCoverEveryKind(t *testing.T) {
	seen := map[Kind]bool{}
	for _, env := range samples() {
		seen[env.Event.Kind()] = true
	}
	kinds := declaredKinds(t)
	for _, k := range kinds {
		if !seen[k] || zeroEvent(k) == nil || zeroEvent(k).Kind() != k {
			t.Errorf("kind %s: sample %v, zero %v", k, seen[k], zeroEvent(k))
		}
	}
	if len(seen) != len(kinds) {
		t.Errorf("%d kinds in samples, %d declared", len(seen), len(kinds))
	}
}

func TestRoundTrip(t *testing.T) {
	var stream bytes.Buffer
	for _, env := range samples() {
		stream.Write(frame(t, env))
	}
	dec := NewDecoder(&stream)
	for _, want := range samples() {
		got, err := dec.Decode()
		if err != nil {
			t.Fatalf("%s: %v", want.Event.Kind(), err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if _, err := dec.Decode(); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	if stream.Len() > 0 {
		t.Errorf("%d bytes are left", stream.Len())
	}
}

// The encoded bytes are a contract with consumers: a change here is a new
// ProtocolVersion.
func TestGoldenBytes(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "# protocol %d\n", ProtocolVersion)
	for _, env := range samples() {
		fmt.Fprintf(&b, "%s %s\n", env.Event.Kind(), hex.EncodeToString(frame(t, env)))
	}
	golden(t, "frames.golden", b.String())
}

func TestGoldenJSON(t *testing.T) {
	var b strings.Builder
	for _, env := range samples() {
		line, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(line, []byte("\n")) {
			t.Errorf("more than a line: %s", line)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	golden(t, "events.jsonl.golden", b.String())
	if _, err := json.Marshal(Envelope{Event: TestStarted{Meta: Meta{"nan": math.NaN(),
		"inf": []any{math.Inf(-1)}}}}); err != nil {
		t.Errorf("json of NaN: %v", err)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update after raising ProtocolVersion)\ngot:\n%s", path, got)
	}
}

// One frame is spelt out by hand, so that the golden file cannot drift with
// the encoder.
func TestFrameByHand(t *testing.T) {
	got := frame(t, Envelope{TS: 5,
		Event: FileBlocked{Path: "a", WaitingFor: Amount{MemoryBytes: 256, CPUs: 1}, Reason: BlockedJobsLimit}})
	body := "\x83\xa2ts\x05\xa4kind\xacfile_blocked\xa7payload\x83\xa4path\xa1a" +
		"\xabwaiting_for\x82\xacmemory_bytes\xcd\x01\x00\xa4cpus\x01" +
		"\xa6reason\xaajobs_limit"
	want := string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTextIsMadeFit(t *testing.T) {
	big := strings.Repeat("ü", maxText)
	in := TestFailed{Name: "a\xffb", Reason: big, Log: []string{"\xfe"}, Meta: Meta{"s": "\xff", "k\xff": int64(1)}}
	env, err := NewDecoder(bytes.NewReader(frame(t, Envelope{Event: in}))).Decode()
	if err != nil {
		t.Fatal(err)
	}
	got := env.Event.(TestFailed)
	if got.Name != `a\xffb` || got.Log[0] != `\xfe` {
		t.Errorf("name %q, log %q", got.Name, got.Log)
	}
	if len(got.Reason) > maxText+100 || !strings.Contains(got.Reason, "bytes cut") ||
		!strings.HasSuffix(got.Reason, "ü") {
		t.Errorf("reason of %d bytes", len(got.Reason))
	}
	if !reflect.DeepEqual(got.Meta, Meta{"s": []byte{0xff}, `k\xff`: int64(1)}) {
		t.Errorf("meta %v", got.Meta)
	}

	lines := make([]string, maxLogLines+5)
	env, err = NewDecoder(bytes.NewReader(frame(t, Envelope{Event: TestPassed{Log: lines}}))).Decode()
	if err != nil {
		t.Fatal(err)
	}
	if log := env.Event.(TestPassed).Log; len(log) != maxLogLines+1 ||
		log[maxLogLines] != "[... 5 more log entries cut]" {
		t.Errorf("%d lines, last %q", len(log), log[len(log)-1])
	}
}

func TestEncodeRefuses(t *testing.T) {
	cycle := map[string]any{}
	cycle["self"] = cycle
	for _, tc := range []struct {
		name string
		e    Event
		want string
	}{
		{"nil", nil, "no event"},
		{"type", TestStarted{Meta: Meta{"x": 1}}, "unsupported meta type int"},
		{"cycle", TestStarted{Meta: Meta{"x": cycle}}, "nested too deeply"},
		{"key", TestStarted{Meta: Meta{"\xff": true, `\xff`: true}}, "duplicate meta key"},
		{"status", FileCompleted{Status: "gone"}, `invalid value "gone"`},
		{"size", TestStarted{Meta: Meta{"x": strings.Repeat("x", MaxFrame)}}, "frame too large"},
	} {
		if b, err := AppendFrame([]byte("kept"), Envelope{Event: tc.e}); err == nil ||
			!strings.Contains(err.Error(), tc.want) || string(b) != "kept" {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if err := (Meta{"a": []any{map[string]any{"b": int32(1)}}}).Check(); err == nil ||
		err.Error() != "value of meta.a[1].b: unsupported type int32" {
		t.Error(err)
	}
	if err := (Meta{"x": cycle}).Check(); !errors.Is(err, errMetaDepth) {
		t.Error(err)
	}
	for _, env := range samples() {
		if e, ok := env.Event.(TestPassed); ok && e.Meta.Check() != nil {
			t.Error(e.Meta.Check())
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	wrap := func(body string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	}
	ok := string(frame(t, samples()[5]))
	envelope := func(kind, payload string) string {
		return wrap("\x83\xa2ts\x05\xa4kind" + string([]byte{0xa0 + byte(len(kind))}) + kind + "\xa7payload" + payload)
	}
	for _, tc := range []struct {
		name, in string
		want     error
		text     string
		offset   int64
	}{
		{"header", "\x00\x00", ErrTruncated, "2 of 4 header bytes", 0},
		{"body", ok[:len(ok)-1], ErrTruncated, "truncated frame", 0},
		{"second", ok + ok[:9], ErrTruncated, "5 of", int64(len(ok))},
		{"length", "\x7f\xff\xff\xff", ErrTooLarge, "2147483647 bytes", 0},
		{"text", "PASS tests/boot.test.lua", ErrTooLarge, "frame too large", 0},
		{"empty", wrap(""), ErrMalformed, "a value is missing", 4},
		{"not a map", wrap("\x93\x01\x02\x03"), ErrMalformed, "expected a map", 4},
		{"trailing", wrap(ok[4:] + "\x00"), ErrMalformed, "1 bytes after", 0},
		{"kind", envelope("file_lost", "\x80"), ErrUnknownKind, "unknown kind `file_lost`", 14},
		{"field", envelope("fixture_cache_hit", "\x81\xa4name\xa1x"), ErrUnknownField,
			"unknown field `name` in fixture_cache_hit", 41},
		{"missing", envelope("fixture_cache_hit", "\x80"), ErrMalformed, "`path` is missing", 40},
		{"twice", envelope("fixture_cache_hit", "\x82\xa4path\xa1x\xa4path\xa1x"), ErrMalformed, "`path` twice", 48},
		{"bin for str", envelope("fixture_cache_hit", "\x81\xa4path\xc4\x01x"), ErrMalformed,
			"expected a string, found type byte 0xc4", 46},
		{"utf8", envelope("fixture_cache_hit", "\x81\xa4path\xa1\xff"), ErrMalformed, "not UTF-8", 46},
		{"long str", envelope("fixture_cache_hit", "\x81\xa4path\xdb\xff\xff\xff\xff"), ErrMalformed, "bytes left", 46},
		{"long map", wrap("\xdf\xff\xff\xff\xff"), ErrMalformed, "bytes left", 4},
		{"envelope field", wrap("\x81\xa1x\x00"), ErrUnknownField, "unknown field `x` in the frame", 5},
		{"envelope empty", wrap("\x80"), ErrMalformed, "missing", 4},
		{"order", wrap("\x82\xa2ts\x00\xa7payload\x80"), ErrMalformed, "payload before kind", 9},
		{"enum", envelope("file_completed", "\x83\xa4path\xa1x\xa6status\xa4good\xabduration_ns\x00"), ErrMalformed,
			"file_completed.status is `good`", 0},
		{"negative", envelope("vm_shutdown", "\x81\xabduration_ns\xff"), ErrMalformed, "integer -1", 0},
		{"cid", envelope("vm_spawned", "\x81\xa3cid\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), ErrMalformed, "4294967296",
			0},
		{"depth", envelope("test_started", "\x81\xa4meta\x81\xa1x"+strings.Repeat("\x91", 100000)+"\xc0"),
			ErrMalformed, "deeper than 64", 0},
		{"array bomb", envelope("file_discovered",
			"\x81\xacfixture_refs\xdd\x00\xff\xff\xff"+strings.Repeat("\xa0",
				1<<24-1)[:1<<23]), ErrMalformed, "bytes left", 0},
		{"nodes", envelope("test_started", "\x81\xa4meta\x81\xa1x\xdd\x00\x20\x00\x00"+strings.Repeat("\xc0", 1<<21)),
			ErrMalformed, "more than 1048576 values", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(strings.NewReader(tc.in))
			var err error
			for err == nil {
				_, err = d.Decode()
			}
			var de *DecodeError
			if !errors.As(err, &de) || !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("got %v, want %v with %q", err, tc.want, tc.text)
			}
			if tc.offset > 0 && de.Offset != tc.offset {
				t.Errorf("offset %d, want %d: %v", de.Offset, tc.offset, err)
			}
		})
	}
}

func TestDecodeGoesOnAfterUnknownKind(t *testing.T) {
	body := "\x83\xa2ts\x05\xa4kind\xa5other\xa7payload\x80"
	in := string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	want := samples()[0]
	d := NewDecoder(strings.NewReader(in + string(frame(t, want))))
	if _, err := d.Decode(); !errors.Is(err, ErrUnknownKind) {
		t.Fatal(err)
	}
	if got, err := d.Decode(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEveryCutIsTruncatedOrClean(t *testing.T) {
	var stream []byte
	ends := map[int]bool{0: true}
	for _, env := range samples() {
		stream = append(stream, frame(t, env)...)
		ends[len(stream)] = true
	}
	for n := range stream {
		d := NewDecoder(bytes.NewReader(stream[:n]))
		var err error
		for err == nil {
			_, err = d.Decode()
		}
		if want := io.EOF; ends[n] && err != want || !ends[n] && !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	var all []byte
	for _, env := range samples() {
		b := frame(f, env)
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Add([]byte("\x00\x00\x00\x01\xc1"))
	f.Add([]byte("\x00\x00\x00\x05\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d := NewDecoder(bytes.NewReader(in))
		for {
			env, err := d.Decode()
			if err == io.EOF || errors.Is(err, ErrTruncated) || errors.Is(err, ErrTooLarge) {
				return
			}
			var de *DecodeError
			if err != nil {
				if !errors.As(err, &de) || de.Offset < de.Frame || de.Offset > int64(len(in)) {
					t.Fatalf("%#v", err)
				}
				continue
			}
			// What was accepted means the same once written again.
			b, err := AppendFrame(nil, env)
			if err != nil {
				t.Fatalf("encode of decoded %+v: %v", env, err)
			}
			again, err := NewDecoder(bytes.NewReader(b)).Decode()
			if err != nil {
				t.Fatal(err)
			}
			x, errX := json.Marshal(env)
			y, errY := json.Marshal(again)
			if errX != nil || errY != nil || !bytes.Equal(x, y) && !bytes.Contains(y, []byte(" cut")) {
				t.Fatalf("%s\n%s", x, y)
			}
		}
	})
}

// FuzzPayload has every payload that is accepted encoded again. That must be
// accepted, too, and encoded to the same bytes.
func FuzzPayload(f *testing.F) {
	for _, env := range samples() {
		payload, err := EncodePayload(env.Event)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(env.Event.Kind()), payload)
	}
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		e, err := DecodePayload(Kind(kind), payload)
		if err != nil {
			return
		}
		again, err := EncodePayload(e)
		if errors.Is(err, ErrTooLarge) {
			return // escapes make it longer
		}
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		back, err := DecodePayload(Kind(kind), again)
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		third, err := EncodePayload(back)
		if err != nil || !bytes.Equal(third, again) && !bytes.Contains(again, []byte(" cut")) {
			t.Errorf("%x\n%x, %v", again, third, err)
		}
	})
}

// BenchmarkDecode decodes the event that is most frequent.
func BenchmarkDecode(b *testing.B) {
	code := int64(0)
	payload, err := EncodePayload(OperationEnded{Path: "tests/net/split.test.lua", Name: "the cluster heals",
		VMName: "node1", Call: `vm:run("cat /proc/uptime")`, Where: "tests/net/split.test.lua:123", StartNS: 1e18,
		DurationNS: 3e6, Status: OperationOK, Result: "exit 0", ExitCode: &code, Output: "123.45 678.90\n"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := DecodePayload(KindOperationEnded, payload); err != nil {
			b.Fatal(err)
		}
	}
}

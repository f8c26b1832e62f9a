package report

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"provium/internal/event"
)

// stream returns events as frames, one a second.
func stream(t *testing.T, events ...event.Event) []byte {
	t.Helper()
	var b []byte
	for i, e := range events {
		var err error
		if b, err = event.AppendFrame(b, event.Envelope{TS: int64(i) * int64(time.Second), Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func shard(paths ...string) []event.Event {
	list := []event.Event{event.RunStarted{ProtocolVersion: event.ProtocolVersion, Iteration: 1}}
	for _, path := range paths {
		list = append(list, event.FileDiscovered{Path: path})
	}
	return list
}

func passes(path string, log ...string) []event.Event {
	return []event.Event{
		event.FileDispatched{Path: path},
		event.TestStarted{Path: path, Name: "it"},
		event.OperationEnded{Path: path, Call: `vm:run("true")`, Status: event.OperationOK},
		event.TestPassed{Path: path, Name: "it", Log: log},
		event.FileCompleted{Path: path, Status: event.FilePassed, DurationNS: 2e9},
	}
}

func TestSavedMergesShards(t *testing.T) {
	one := append(shard("a", "b", "c"), passes("b")...) // b ends first
	one = append(one, passes("a", "x")...)
	one = append(one, event.RunCompleted{DurationNS: 5e9, NotStarted: 1})
	two := append(shard("d"), event.FileDispatched{Path: "d"},
		event.FileCompleted{Path: "d", Status: event.FileFailed, ChunkError: "no chunk"},
		event.EventsLost{Count: 3}, event.RunCompleted{DurationNS: 9e9})
	var s Saved
	for _, events := range [][]event.Event{one, two} {
		if err := s.Read(event.NewReader(bytes.NewReader(stream(t, events...)))); err != nil {
			t.Fatal(err)
		}
	}
	want := Saved{NotStarted: 1, Elapsed: 9 * time.Second, Lost: 3, Files: []FileResult{
		{Path: "a", Status: FilePassed, Duration: 2 * time.Second, Tests: []TestResult{
			{Name: "it", Status: TestPassed, Log: []string{"x"}}}},
		{Path: "b", Status: FilePassed, Duration: 2 * time.Second, Tests: []TestResult{
			{Name: "it", Status: TestPassed, Log: []string{}}}},
		{Path: "d", Status: FileFailed, ChunkError: "no chunk"},
	}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

// A stream that was cut has the results up to the cut, also of files that were running.
func TestSavedCut(t *testing.T) {
	list := append(shard("a", "b", "c", "d"), passes("a")...)
	list = append(list, event.FileDispatched{Path: "b"}, event.TestStarted{Path: "b", Name: "runs"},
		event.FileDispatched{Path: "c"})
	whole := stream(t, list...)
	more := append(whole, stream(t, event.FileCompleted{Path: "b", Status: event.FilePassed})...)
	damaged := bytes.Clone(more)
	damaged[len(whole)+4] = 0xc1
	want := []FileResult{
		{Path: "a", Status: FilePassed, Duration: 2 * time.Second, Tests: []TestResult{
			{Name: "it", Status: TestPassed, Log: []string{}}}},
		{Path: "b", Status: FileInterrupted, Tests: []TestResult{
			{Name: "runs", Status: TestFailed, Message: "the event stream ends before the file does"}}},
		{Path: "c", Status: FileInterrupted, ChunkError: "the event stream ends before the file does"},
	}
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{"end": {whole, nil}, "cut": {more[:len(more)-3], event.ErrTruncated}, "damage": {damaged, event.ErrMalformed}} {
		var s Saved
		err := s.Read(event.NewReader(bytes.NewReader(tc.in)))
		if !errors.Is(err, tc.want) || !reflect.DeepEqual(s.Files, want) || s.NotStarted != 1 {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
		var bad *event.DecodeError
		if tc.want != nil && (!errors.As(err, &bad) || bad.Frame != int64(len(whole))) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSavedOfAnotherVersion(t *testing.T) {
	var s Saved
	err := s.Read(event.NewReader(bytes.NewReader(stream(t, event.RunStarted{ProtocolVersion: 77}))))
	if err == nil || err.Error() != "the stream has protocol version 77, this program reads version 2" {
		t.Error(err)
	}
	if err := s.Read(event.NewReader(bytes.NewReader(nil))); err != nil || errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// Each iteration of a repeated run has its results.
func TestSavedIterations(t *testing.T) {
	var list []event.Event
	for range 2 {
		list = append(append(list, shard("a")...), passes("a")...)
		list = append(list, event.RunCompleted{DurationNS: 1e9})
	}
	var s Saved
	if err := s.Read(event.NewReader(bytes.NewReader(stream(t, list...)))); err != nil {
		t.Fatal(err)
	}
	if len(s.Files) != 2 || s.Elapsed != 2*time.Second {
		t.Errorf("%+v", s)
	}
}

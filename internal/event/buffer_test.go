package event

import (
	"fmt"
	"strings"
	"testing"
)

// TestBuffer has details wait for the next event of another kind, or for the timer.
func TestBuffer(t *testing.T) {
	sent := make(chan string, 10)
	send := func(list []Encoded) {
		var kinds []string
		for _, e := range list {
			if got, err := DecodePayload(e.Event.Kind(), e.Payload); err != nil || got != e.Event {
				t.Errorf("%+v, %v", got, err)
			}
			kinds = append(kinds, string(e.Event.Kind()))
		}
		sent <- strings.Join(kinds, " ")
	}
	var errs []error
	b := NewBuffer(Everything, send, func(err error) { errs = append(errs, err) })
	b.mu.Lock() // as if it took no time
	b.waiting = append(b.waiting, encoded(t, TestLog{Text: "a"}), encoded(t, OperationEnded{Status: OperationOK}))
	b.mu.Unlock()
	b.Emit(FixtureCacheHit{Path: "x"})
	if got := <-sent; got != "test_log operation_ended fixture_cache_hit" {
		t.Error(got)
	}
	b.Emit(TestLog{Text: "alone"})
	if got := <-sent; got != "test_log" {
		t.Error(got)
	}
	b.Emit(FileCompleted{Status: "gone"})
	if len(errs) != 1 {
		t.Error(errs)
	}
	b.Emit(ConsoleOutput{Text: strings.Repeat("x", bufferSize+1)})
	if got := <-sent; got != "console_output" {
		t.Error(got)
	}
	b.Flush()

	some := NewBuffer(Progress, send, func(err error) { t.Error(err) })
	some.Emit(TestLog{})
	some.Emit(OperationStarted{})
	if got := <-sent; got != "operation_started" || len(sent) != 0 {
		t.Error(got)
	}

	few := NewBuffer(Results, send, func(err error) { t.Error(err) })
	few.Emit(TestLog{})
	few.Emit(VMShutdown{})
	if got := <-sent; got != "vm_shutdown" || few.Level() != Results || len(sent) != 0 {
		t.Error(got)
	}
}

func encoded(t *testing.T, e Event) Encoded {
	t.Helper()
	p, err := EncodePayload(e)
	if err != nil {
		t.Fatal(err)
	}
	return Encoded{Event: e, Payload: p}
}

// BenchmarkOperation is what an operation costs its runner and the dispatcher.
func BenchmarkOperation(b *testing.B) {
	code := int64(0)
	e := OperationEnded{Path: "tests/net/split.test.lua", Name: "the cluster heals", ID: 77, VMName: "node1",
		Call: `vm:run("cat /proc/uptime")`, Where: "tests/net/split.test.lua:123", StartNS: 1700000000000000000,
		DurationNS: 3e6, Status: OperationOK, Result: "exit 0", ExitCode: &code, Output: "123.45 678.90\n"}
	b.Run("encode", func(b *testing.B) {
		for range b.N {
			if _, err := EncodePayload(e); err != nil {
				b.Fatal(err)
			}
		}
	})
	payload, err := EncodePayload(e)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		for range b.N {
			if _, err := DecodePayload(KindOperationEnded, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, f := range []Format{Msgpack, JSONL} {
		b.Run(fmt.Sprint("bytes ", f), func(b *testing.B) {
			for range b.N {
				if _, err := NewBatch(5, Encoded{Event: e, Payload: payload}).Bytes(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

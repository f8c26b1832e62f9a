package lab

import (
	"context"
	"slices"
	"testing"

	"provium/internal/admission"
	"provium/internal/instance"
)

// recordingPool notes its calls in a log that it shares with observers.
type recordingPool struct{ log *[]string }

func (p recordingPool) Acquire(context.Context, string, []admission.Share) ([]func(), error) {
	*p.log = append(*p.log, "acquire")
	return []func(){func() {}}, nil
}

func (p recordingPool) Claim(context.Context, int64, int) error {
	*p.log = append(*p.log, "claim")
	return nil
}

func TestObserversComeAndGo(t *testing.T) {
	var log []string
	h := &Host{Pool: recordingPool{&log}}
	vm := newVM(h, nil, "a", &Profile{}, nil)
	observe := func(name string) (stop func()) {
		return h.Observe(Observer{
			Finding: func(_ *VM, f instance.Finding) { log = append(log, name+" "+f.Title) },
			PoolWait: func() func() {
				log = append(log, name+" waits")
				return func() { log = append(log, name+" goes on") }
			},
		})
	}
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(log, want) {
			t.Errorf("got %q, want %q", log, want)
		}
		log = nil
	}
	stopA, stopB := observe("a"), observe("b")
	defer h.Observe(Observer{})()
	h.found(vm, instance.Finding{Title: "oops"})
	expect("a oops", "b oops")
	if _, err := h.gate().Acquire(t.Context(), "vm", admission.Share{Memory: 1, CPUs: 1}); err != nil {
		t.Fatal(err)
	}
	expect("a waits", "b waits", "acquire", "b goes on", "a goes on")
	stopA()
	h.found(vm, instance.Finding{Title: "oops"})
	if err := New(h).Claim(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	expect("b oops", "b waits", "claim", "b goes on")
	stopB()
	stopB() // does nothing again
	h.found(vm, instance.Finding{Title: "oops"})
	expect()
}

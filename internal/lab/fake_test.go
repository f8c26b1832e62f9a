package lab

import (
	"context"
	"errors"
	"testing"
	"time"

	"provium/internal/event"
	"provium/internal/fakemachine"
	"provium/internal/pattern"
)

// patience is how long a test waits for what comes at once unless the host is loaded.
const patience = 30 * time.Second

// fakeHost returns a host whose machines are fakes.
func fakeHost(t *testing.T) (*Host, *fakemachine.Machines) {
	t.Helper()
	f := fakemachine.New(t)
	h := &Host{File: "x.test.lua", ConfigPath: "provium.toml", TempDir: t.TempDir(), Starter: f, Images: f,
		Profiles: map[string]*Profile{"p": {Name: "p", Accel: "tcg"}, "q": {Name: "q", Accel: "tcg"}},
		Warn:     func(format string, args ...any) { t.Errorf("warning: "+format, args...) }}
	return h, f
}

// noGuests returns a host of fakes for tests that look at states only.
func noGuests(t *testing.T) *Host {
	h, _ := fakeHost(t)
	return h
}

// newLab returns a lab that is closed at the end of the test.
func newLab(t *testing.T, h *Host) *Lab {
	t.Helper()
	l := New(h)
	t.Cleanup(func() {
		for _, err := range l.CloseScope(context.Background()) {
			t.Error(err)
		}
	})
	return l
}

// machineOf returns the machine on which a booted or paused VM runs.
func machineOf(f *fakemachine.Machines, v *VM) *fakemachine.Machine {
	cid, _ := v.CID()
	return f.WithPID(int(cid))
}

// fakeLab returns a lab of fakes.
func fakeLab(t *testing.T) (*Lab, *fakemachine.Machines) {
	t.Helper()
	h, f := fakeHost(t)
	return newLab(t, h), f
}

var errGivenUp = errors.New("given up")

// canceled returns a context that has ended with errGivenUp.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGivenUp)
	return ctx
}

// expect waits for a plain text on a VM's console.
func expect(ctx context.Context, v *VM, text string, limit time.Duration) error {
	_, err := v.Console().Expect(ctx, pattern.Text(text), limit)
	return err
}

// MarkDead ends the guest and leaves the VM dead with that reason.
func (v *VM) MarkDead(reason string) {
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	if inst != nil {
		inst.End(reason)
	}
}

// withoutDetails returns an emit function that passes only the events on which results
// depend.
func withoutDetails(emit func(event.Event)) func(event.Event) {
	return func(e event.Event) {
		if !e.Kind().IsDetail() {
			emit(e)
		}
	}
}

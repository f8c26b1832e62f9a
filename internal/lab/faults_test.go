package lab

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/topology"
)

// TestIncludeEachOther has two labs include each other at once, and their scopes work
// meanwhile: one of them is refused, and nobody waits for ever.
func TestIncludeEachOther(t *testing.T) {
	root := newLab(t, noGuests(t))
	for range 200 {
		a, err := root.Lab("")
		must(t, err)
		b, err := root.Lab("")
		must(t, err)
		var errs [2]error
		var both sync.WaitGroup
		both.Go(func() { errs[0] = a.Include([]Member{b}) })
		both.Go(func() { errs[1] = b.Include([]Member{a}) })
		both.Go(func() { a.TargetVMs() })
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatal(errs)
		}
	}
}

// TestIncludeWhileScopesClose has a VM join labs that are closed at the same time: it
// is closed exactly when no lab holds it.
func TestIncludeWhileScopesClose(t *testing.T) {
	file := newLab(t, noGuests(t))
	for range 100 {
		one, two := file.OpenScope(), file.OpenScope()
		v, err := one.DeclareVM("v", "p", nil)
		must(t, err)
		var both sync.WaitGroup
		both.Go(func() { one.CloseScope(t.Context()) })
		both.Go(func() { _ = two.Include([]Member{v}) })
		both.Wait()
		two.CloseScope(t.Context())
		if n := v.Hold(0); n != 0 {
			t.Fatalf("%d labs hold the vm", n)
		}
	}
}

func TestTypedErrors(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	v := declare(t, l, "a")
	_, err := v.Fork(ctx, l, 1)
	var state *topology.StateError
	if !errors.As(err, &state) || state.Op != "fork" {
		t.Errorf("%#v", err)
	}
	wantError(t, err, "cannot fork: vm `a` is created")
	_, err = l.DeclareVM("a", "p", nil)
	var duplicate *topology.DuplicateNameError
	if !errors.As(err, &duplicate) || duplicate.Kind != "vm" || duplicate.Name != "a" {
		t.Errorf("%#v", err)
	}
	must(t, v.Boot(ctx, nil))
	m := f.Last()
	m.OnOp("run", fakemachine.Hang)
	given, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error)
	go func() {
		_, err := v.Run(given, guest.RunRequest{Shell: "true"})
		ran <- err
	}()
	for !v.busy() {
		time.Sleep(time.Millisecond)
	}
	_, err = v.Fork(ctx, l, 1)
	var busy *topology.BusyError
	if !errors.As(err, &busy) || busy.Call != "vm:fork()" {
		t.Errorf("%#v", err)
	}
	wantError(t, err, "vm:fork() refused: vm `a` has operations in flight:\n  - run\nwait for their end first")
	cancel()
	<-ran
	m.Suspend()
	for !v.inst.IsSuspended() {
		time.Sleep(time.Millisecond)
	}
	_, err = v.Fork(ctx, l, 1)
	var suspended *topology.SuspendedError
	if !errors.As(err, &suspended) || suspended.Op != "fork" {
		t.Errorf("%#v", err)
	}
	wantError(t, err, "cannot fork: vm `a` is suspended (S3); call vm:wakeup() first")
	wantError(t, v.Ping(ctx), "cannot ping: vm `a` is suspended (S3)")
	must(t, v.Wakeup(ctx))
	must(t, v.Ping(ctx))
}

func (v *VM) busy() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.inFlight) > 0
}

// TestNoDescriptorIsLeft makes full snapshots and diffs, restores them, and looks at
// what the host has open once the scope is closed.
func TestNoDescriptorIsLeft(t *testing.T) {
	ctx := t.Context()
	h, f := fakeHost(t)
	round := func() {
		l := New(h)
		v := declare(t, l, "a")
		must(t, v.Boot(ctx, nil))
		full, err := v.Snapshot(ctx, "")
		must(t, err)
		for range 3 {
			must(t, v.Shutdown(ctx))
			must(t, v.Restore(ctx, full.Path()))
			must(t, machineOf(f, v).WriteMemory(1<<20, []byte("changed")))
			diff, err := v.Snapshot(ctx, "")
			must(t, err)
			must(t, v.Shutdown(ctx))
			must(t, v.Restore(ctx, diff.Path()))
		}
		_, err = v.Fork(ctx, l, 2)
		must(t, err)
		for _, err := range l.CloseScope(ctx) {
			t.Error(err)
		}
	}
	list := func() (open []string) {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		for _, e := range all {
			to, err := os.Readlink("/proc/self/fd/" + e.Name())
			// ReadDir's own is gone, and a console can be read as long as its VM is referred to.
			if err == nil && !strings.HasSuffix(to, "console.log (deleted)") {
				open = append(open, to)
			}
		}
		return open
	}
	round()
	before := list()
	round()
	if after := list(); len(after) != len(before) {
		t.Errorf("open are %q, and were after the first round %q", after, before)
	}
}

// TestConsoleWriteLimit gives up a write that the guest does not take, and then one
// gets through.
func TestConsoleWriteLimit(t *testing.T) {
	ctx := t.Context()
	v, m := bootFake(t)
	release := m.HoldConsole(false)
	big := make([]byte, 4<<20)
	wantError(t, v.Console().Write(ctx, big, 20*time.Millisecond),
		"console:write timed out after 20ms: the guest took ")
	stopped, cancel := context.WithCancelCause(ctx)
	errStop := errors.New("stop")
	time.AfterFunc(20*time.Millisecond, func() { cancel(errStop) })
	if err := v.Console().Write(stopped, big, 0); err != errStop {
		t.Error(err)
	}
	release()
	must(t, v.Console().Write(ctx, []byte("the end"), 0))
	for s := ""; len(s) < 7 || s[len(s)-7:] != "the end"; s = m.ConsoleInput(false) {
		time.Sleep(time.Millisecond)
	}
}

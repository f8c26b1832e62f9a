package lab

import (
	"bytes"
	"strings"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/guest/handle"
)

func bootFake(t *testing.T) (*VM, *fakemachine.Machine) {
	t.Helper()
	l, f := fakeLab(t)
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), nil))
	return v, f.Last()
}

func TestFakeGuestOperations(t *testing.T) {
	ctx := t.Context()
	v, m := bootFake(t)
	if got := shell(t, v, "echo hello"); got != "hello" {
		t.Errorf("%q", got)
	}
	must(t, v.WriteFile(ctx, "/tmp/x", []byte("content")))
	if p, err := v.ReadFile(ctx, "/tmp/x"); err != nil || string(p) != "content" {
		t.Errorf("%q %v", p, err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than a window
	must(t, v.WriteFile(ctx, "/tmp/big", big))
	if p, err := v.ReadFile(ctx, "/tmp/big"); err != nil || !bytes.Equal(p, big) {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	_, err := v.ReadFile(ctx, "/none")
	wantError(t, err, "read_file /none: No such file or directory (ENOENT, os error 2) [errno 2]")
	if p, failure := m.Files.Read("/tmp/x"); failure != nil || string(p) != "content" {
		t.Errorf("%q %v", p, failure)
	}
	f, err := v.AsActor().OpenFile(ctx, "/tmp/x", handle.FileMode{Read: true})
	must(t, err)
	p, err := f.Read(ctx, 100)
	if err != nil || string(p) != "content" {
		t.Errorf("%q %v", p, err)
	}
	must(t, f.Close(ctx))
	m.Print(false, "printed\n")
	must(t, expect(ctx, v, "printed", patience))
}

// TestFakeSnapshotChain restores a complete snapshot, changes memory and files, and
// restores what was taken of that: a diff.
func TestFakeSnapshotChain(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	v := declare(t, l, "a")
	must(t, v.Boot(ctx, nil))
	const at, untouched = 1 << 20, 2 << 20
	change := func(text string) {
		t.Helper()
		must(t, machineOf(f, v).WriteMemory(at, []byte(text)))
		must(t, v.WriteFile(ctx, "/tmp/x", []byte(text)))
	}
	restored := func(path, want string) {
		t.Helper()
		must(t, v.Shutdown(ctx))
		v.host.prewarmed.Close()
		must(t, v.Restore(ctx, path))
		m := f.Last()
		if got, err := m.ReadMemory(at, len(want)); err != nil || string(got) != want {
			t.Errorf("memory %q, %v, want %q", got, err, want)
		}
		if got, err := m.ReadMemory(untouched, 4); err != nil || string(got) != "kept" {
			t.Errorf("memory %q, %v", got, err)
		}
		if got, err := v.ReadFile(ctx, "/tmp/x"); err != nil || string(got) != want {
			t.Errorf("file %q, %v, want %q", got, err, want)
		}
	}
	must(t, f.Last().WriteMemory(untouched, []byte("kept")))
	change("first")
	complete, err := v.Snapshot(ctx, "")
	must(t, err)
	change("lost")
	restored(complete.Path(), "first")
	v.host.NoPrewarming = true
	must(t, f.Last().WriteMemory(at, []byte("other")))
	must(t, v.WriteFile(ctx, "/tmp/x", []byte("other")))
	diff, err := v.Snapshot(ctx, "")
	must(t, err)
	if diff.Base() != complete.Path() {
		t.Errorf("the base is %q", diff.Base())
	}
	restored(diff.Path(), "other")
	restored(complete.Path(), "first")
}

func TestFakePanicKills(t *testing.T) {
	ctx := t.Context()
	v, m := bootFake(t)
	inst := v.inst
	m.OnOp("ping", fakemachine.Hang)
	failed := make(chan error)
	go func() { failed <- v.Ping(ctx) }()
	m.Panic("no reason")
	wantError(t, <-failed, "guest panicked: ", "no reason")
	<-inst.Done()
	wantError(t, v.Ping(ctx), "vm `a` is dead")
	if f := v.TakeFindings(); len(f) != 1 || !strings.Contains(f[0].Title, "no reason") {
		t.Errorf("%+v", f)
	}
}

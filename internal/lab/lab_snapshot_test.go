package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/network"
	"provium/internal/stream"
	"provium/internal/topology"
)

// sampleLab is a lab with VMs in every state, one of them in two labs, and a bridge.
func sampleLab(t *testing.T) (*Lab, *fakemachine.Machines) {
	t.Helper()
	ctx := t.Context()
	root, f := fakeLab(t)
	l, err := root.Lab("net")
	must(t, err)
	for _, name := range []string{"on", "paused", "off", "new", "dead"} {
		declare(t, l, name)
	}
	sub, err := l.Lab("sub")
	must(t, err)
	inner := declare(t, sub, "inner")
	must(t, l.Include([]Member{inner}))
	on, _ := l.VM("on")
	b, err := l.Bridge("lan", nil)
	must(t, err)
	must(t, b.Attach(ctx, []network.Endpoint{{VM: on, Name: "on"}, {VM: inner, Name: "inner"}}))
	for _, name := range []string{"on", "paused", "off", "dead", "inner"} {
		v, _ := l.VM(name)
		must(t, v.Boot(ctx, nil))
		must(t, v.WriteFile(ctx, "/tmp/who", []byte(name)))
	}
	paused, _ := l.VM("paused")
	must(t, paused.Pause(ctx))
	off, _ := l.VM("off")
	must(t, off.Shutdown(ctx))
	dead, _ := l.VM("dead")
	dead.MarkDead("it broke")
	return l, f
}

// states describes all VMs of a lab.
func states(l *Lab) string {
	var out []string
	for _, v := range l.TargetVMs() {
		out = append(out, v.Name()+"="+string(v.State()))
	}
	return strings.Join(out, " ")
}

const sampleStates = "on=booted paused=paused off=shutdown new=created dead=dead inner=booted"

func wantFile(t *testing.T, v *VM, want string) {
	t.Helper()
	if p, err := v.ReadFile(t.Context(), "/tmp/who"); err != nil || string(p) != want {
		t.Errorf("vm %s has %q, %v, want %q", v.Name(), p, err, want)
	}
}

func TestLabSnapshotAndRestore(t *testing.T) {
	ctx := t.Context()
	l, _ := sampleLab(t)
	if got := states(l); got != sampleStates {
		t.Fatal(got)
	}
	dir := filepath.Join(t.TempDir(), "lab")
	s, err := l.Snapshot(ctx, dir)
	must(t, err)
	if got := states(l); got != sampleStates {
		t.Errorf("after the snapshot: %s", got)
	}
	if n, err := s.Size(); n <= 0 || err != nil || s.Path() != dir {
		t.Errorf("%d bytes, %v", n, err)
	}
	// In place: handles stay good, other members stay as they are.
	on, _ := l.VM("on")
	must(t, on.WriteFile(ctx, "/tmp/who", []byte("changed")))
	extra := declare(t, l, "extra")
	must(t, l.Restore(ctx, dir))
	want := strings.Replace(sampleStates, "dead=dead", "dead=shutdown", 1) + " extra=created"
	if got := states(l); got != strings.Replace(want, " inner=booted extra=created", " inner=booted extra=created", 1) {
		t.Errorf("after the restore: %s", got)
	}
	wantFile(t, on, "on")
	must(t, on.Ping(ctx))
	_ = extra

	// Into another lab, which gets what is missing.
	other, err := l.Apart().Lab("other")
	must(t, err)
	must(t, other.Restore(ctx, dir))
	copied, _ := other.VM("on")
	wantFile(t, copied, "on")
	sub, ok := other.LookupLab("sub")
	if !ok {
		t.Fatal("no sub-lab")
	}
	inner, _ := sub.VM("inner")
	wantFile(t, inner, "inner")
	if again, _ := other.VM("inner"); again != inner {
		t.Error("a member of two labs became two")
	}
	if b, ok := other.LookupBridge("lan"); !ok || fmt.Sprint(b.Members()) != "[on inner]" {
		t.Errorf("bridge %v", b)
	}
	must(t, other.Prepare(ctx, dir))
	for _, err := range other.CloseScope(ctx) {
		t.Error(err)
	}

	// A snapshot replaces an older one.
	_, err = l.Snapshot(ctx, dir)
	must(t, err)
	must(t, s.Delete())
	if n, err := s.Size(); n != 0 || err != nil {
		t.Errorf("%d bytes after the delete, %v", n, err)
	}
	wantError(t, l.Restore(ctx, dir), "lab `net` restore", "no such file")
}

func TestLabSnapshotsThatCannotBe(t *testing.T) {
	ctx := t.Context()
	l, f := sampleLab(t)
	on, _ := l.VM("on")
	file, full := filepath.Join(t.TempDir(), "file"), t.TempDir()
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	refused := func(dir string, parts ...string) {
		t.Helper()
		_, err := l.Snapshot(ctx, dir)
		wantError(t, err, parts...)
		if got := states(l); got != sampleStates {
			t.Errorf("after that: %s", got)
		}
		must(t, on.Ping(ctx))
	}
	refused(file, "exists and is no directory")
	refused(full, "exists and is no lab snapshot")
	refused(filepath.Join(full, "none", "lab"), "lab `net` snapshot", "no such file")
	s, err := on.AsActor().TailFile(ctx, "/tmp/who", 0, false, stream.Site{File: "x.test.lua", Line: 3})
	must(t, err)
	refused("", "lab:snapshot() refused", "live streams", `tail_file("/tmp/who") at x.test.lua:3`)
	s.Close()
	m := machineOf(f, on)
	m.Suspend()
	for !on.inst.IsSuspended() {
		time.Sleep(time.Millisecond)
	}
	_, err = l.Snapshot(ctx, "")
	wantError(t, err, "vm `on` is suspended (S3)")
	must(t, on.Wakeup(ctx))
	held := canceled(t)
	release, err := l.host.wholeLab(ctx)
	must(t, err)
	if _, err := l.Snapshot(held, ""); !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
	if err := l.Restore(held, "x"); err == nil {
		t.Error("restored")
	}
	release()
	unlock, err := on.lifecycle(ctx)
	must(t, err)
	if _, err := l.Snapshot(held, ""); !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
	unlock()
	snapshot, err := l.Snapshot(ctx, "")
	must(t, err)
	must(t, snapshot.Delete())
}

func TestLabRestoresThatCannotBe(t *testing.T) {
	ctx := t.Context()
	l, _ := sampleLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	_, err := l.Snapshot(ctx, dir)
	must(t, err)
	h := l.host
	for name, tc := range map[string]struct {
		prepare func(other *Lab)
		want    string
	}{
		"profile": {func(o *Lab) { _, err := o.DeclareVM("on", "q", nil); must(t, err) },
			"has profile `p`, the one of lab `other` has profile `q`"},
		"vm is a bridge": {func(o *Lab) { _, err := o.Bridge("on", nil); must(t, err) },
			"vm `on` of the snapshot cannot come back: the name is taken by a bridge"},
		"bridge is a vm": {func(o *Lab) { declare(t, o, "lan") },
			"bridge `lan` of the snapshot cannot come back: the name is taken by a vm"},
		"lab is a vm": {func(o *Lab) { declare(t, o, "sub") }, "lab `sub` of the snapshot cannot come back"},
		"inner profile": {func(o *Lab) {
			sub, err := o.Lab("sub")
			must(t, err)
			_, err = sub.DeclareVM("inner", "q", nil)
			must(t, err)
		}, "has profile `p`"},
	} {
		other, err := l.Apart().Lab("other")
		must(t, err)
		tc.prepare(other)
		before := states(other)
		wantError(t, other.Restore(ctx, dir), "lab `other` restore", tc.want)
		if got := states(other); got != before {
			t.Errorf("%s: %s, before %s", name, got, before)
		}
		for _, err := range other.CloseScope(ctx) {
			t.Error(err)
		}
	}
	other, err := l.Apart().Lab("other")
	must(t, err)
	must(t, os.Truncate(filepath.Join(dir, "paused.snap"), 1000))
	wantError(t, other.Restore(ctx, dir), "vm `paused`")
	must(t, os.Remove(filepath.Join(dir, "on.snap")))
	wantError(t, other.Restore(ctx, dir), "vm `on`", "no such file")
	delete(h.Profiles, "p")
	wantError(t, other.Restore(ctx, dir), "unknown profile `p`")
	must(t, os.Remove(filepath.Join(dir, topology.FileName)))
	wantError(t, other.Restore(ctx, dir), "is no lab snapshot (it has no lab.json)")
	wantError(t, other.Restore(ctx, filepath.Join(dir, "paused.snap")), "is no lab snapshot (it is a file")
	wantError(t, other.Prepare(ctx, dir), "is no lab snapshot")
}

// TestLabRestoreThatBreaksOff names the VM that does not come back.
func TestLabRestoreThatBreaksOff(t *testing.T) {
	ctx := t.Context()
	l, f := sampleLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	_, err := l.Snapshot(ctx, dir)
	must(t, err)
	l.host.NoPrewarming = true
	f.Prepare(func(m *fakemachine.Machine) {
		if m.Name() == "on" {
			m.SetAgent(fakemachine.AgentOfVersion0)
		}
	})
	err = l.Restore(ctx, dir)
	wantError(t, err, "lab `net` restore failed for `on`: ", "agent speaks version 1000")
	var batch *topology.BatchError
	if !errors.As(err, &batch) || len(batch.Unwrap()) != 1 {
		t.Errorf("%#v", err)
	}
}

func TestLabFork(t *testing.T) {
	ctx := t.Context()
	l, _ := sampleLab(t)
	scope := l.Apart()
	fork, err := l.Fork(ctx, scope)
	must(t, err)
	if got, want := states(fork), strings.Replace(sampleStates, "dead=dead", "dead=shutdown", 1); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	inner, _ := fork.VM("inner")
	wantFile(t, inner, "inner")
	ours, _ := l.LookupBridge("lan")
	theirs, ok := fork.LookupBridge("lan")
	if !ok || ours == theirs {
		t.Error("the fork has no bridge of its own")
	}
	for _, err := range scope.CloseScope(ctx) {
		t.Error(err)
	}
	if got := states(l); got != sampleStates {
		t.Errorf("after the fork: %s", got)
	}
}

func TestFork(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	v := declare(t, l, "a")
	declare(t, l, "a-2")
	must(t, v.Boot(ctx, nil))
	must(t, v.WriteFile(ctx, "/tmp/who", []byte("a")))
	forks, err := v.Fork(ctx, l, 2)
	must(t, err)
	if forks[0].Name() != "a-1" || forks[1].Name() != "a-3" {
		t.Errorf("%s, %s", forks[0].Name(), forks[1].Name())
	}
	for _, fork := range forks {
		wantFile(t, fork, "a")
	}
	// Of forks that do not all start there are none.
	before := l.VMNames()
	f.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentOfVersion0) })
	l.host.NoPrewarming = true
	l.host.prewarmed.Close()
	_, err = v.Fork(ctx, l, 2)
	wantError(t, err, "vm `a` fork: ", "agent speaks version 1000")
	if got := l.VMNames(); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("%v, before %v", got, before)
	}
}

func TestNumberedNamesHaveRoom(t *testing.T) {
	long := strings.Repeat("x", topology.MaxName)
	if got := topology.Numbered(long, "-crash", 12); len(got) != topology.MaxName ||
		!strings.HasSuffix(got, "x-crash12") {
		t.Error(got)
	}
}

func TestFixtures(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	h := l.host
	v := declare(t, l, "a")
	for _, want := range []string{"a-2", "a-3"} {
		made, err := l.DeclareFrom("a", "p")
		must(t, err)
		if made.Name() != want {
			t.Errorf("%s, want %s", made.Name(), want)
		}
	}
	_, err := l.DeclareFrom("a b", "p")
	wantError(t, err, "not valid")
	_, err = l.DeclareFrom("a", "none")
	wantError(t, err, "unknown profile `none`")

	must(t, v.Boot(ctx, nil))
	s, err := v.Snapshot(ctx, "")
	must(t, err)
	h.Trust(v.inst.plan.origin)
	made, _ := l.VM("a-2")
	must(t, made.Restore(ctx, s.Path()))

	digest, err := h.ProfileDigest(ctx, "p")
	must(t, err)
	f.SetImage("another", errors.New("not asked again"))
	if again, err := h.ProfileDigest(ctx, "p"); again != digest || err != nil {
		t.Errorf("%s, %v", again, err)
	}
	_, err = h.ProfileDigest(ctx, "q")
	wantError(t, err, "not asked again")
	f.SetImage("another", nil)
	if other, err := h.ProfileDigest(ctx, "q"); other == digest || err != nil {
		t.Errorf("%s, %v", other, err)
	}
	h.Profiles["sh"] = &Profile{Name: "sh", Accel: "tcg", QEMU: "/bin/sh"}
	h.Profiles["cat"] = &Profile{Name: "cat", Accel: "tcg", QEMU: "/bin/cat"}
	one, err := h.ProfileDigest(ctx, "sh")
	must(t, err)
	if other, err := h.ProfileDigest(ctx, "cat"); other == one || err != nil {
		t.Errorf("profiles with different QEMUs have one digest, %s, %v", other, err)
	}
	_, err = h.ProfileDigest(ctx, "none")
	wantError(t, err, "unknown profile")
	h.Profiles["x"] = &Profile{Name: "x", Accel: "abacus"}
	_, err = h.ProfileDigest(ctx, "x")
	wantError(t, err, "abacus")
}

func TestSubLabFrom(t *testing.T) {
	ctx := t.Context()
	l, _ := sampleLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	_, err := l.Snapshot(ctx, dir)
	must(t, err)
	scope := l.Apart()
	sub, err := scope.SubLabFrom(ctx, dir)
	must(t, err)
	on, _ := sub.VM("on")
	wantFile(t, on, "on")
	_, err = scope.SubLabFrom(ctx, dir+"-none")
	wantError(t, err, "lab `__lab_1` restore")
	if names := scope.SubLabNames(); fmt.Sprint(names) != "[__lab_0]" {
		t.Errorf("%v", names)
	}
	for _, err := range scope.CloseScope(ctx) {
		t.Error(err)
	}
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/instance"
	"provium/internal/stream"
	"provium/internal/topology"
)

func TestMembersOfEveryKind(t *testing.T) {
	ctx := t.Context()
	l := newLab(t, noGuests(t))
	one, err := l.Lab("one")
	must(t, err)
	two, err := l.Lab("two")
	must(t, err)
	a := declare(t, one, "a")
	lan, err := one.Bridge("lan", nil)
	must(t, err)
	inner, err := one.Lab("inner")
	must(t, err)
	all := []Member{a, lan, inner}
	must(t, two.Include(append(all, all...)))
	must(t, two.Include(all))
	if got := fmt.Sprint(two.Members()); got != "[{vm a} {bridge lan} {sub_lab inner}]" {
		t.Error(got)
	}
	if got := fmt.Sprint(two.BridgeNames(), two.SubLabNames(), len(two.Bridges())); got != "[lan] [inner] 1" {
		t.Error(got)
	}
	three, err := l.Lab("three")
	must(t, err)
	otherLan, err := three.Bridge("lan", nil)
	must(t, err)
	otherInner, err := three.Lab("inner")
	must(t, err)
	wantError(t, two.Include([]Member{otherLan}), "DuplicateBridgeName", "`lan`")
	wantError(t, two.Include([]Member{otherInner}), "DuplicateLabName", "`inner`")
	four, err := l.Lab("four")
	must(t, err)
	wantError(t, four.Include([]Member{lan, otherLan}), "DuplicateBridgeName")
	wantError(t, four.Include([]Member{inner, otherInner}), "DuplicateLabName")
	wantError(t, four.Remove(a), "vm `a` is no member of lab `four`")
	wantError(t, four.Remove(lan), "bridge `lan` is no member of lab `four`")
	wantError(t, four.Remove(inner), "sub_lab `inner` is no member of lab `four`")
	wantError(t, four.RemoveName("a"), "lab `four` has no member `a` (members: none)")
	for _, name := range []string{"a", "lan", "inner"} {
		must(t, two.RemoveName(name))
	}
	if got := two.Members(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if vms := l.AllVMs(); len(vms) != 1 || vms[0] != a {
		t.Errorf("%v", vms)
	}
	if found, err := l.MustVM("a"); err == nil {
		t.Errorf("found %s of a sub-lab", found.Name())
	}
	if found, err := one.MustVM("a"); found != a || err != nil {
		t.Error(err)
	}
	_, err = l.MustVM("a")
	wantError(t, err, "none is declared")
	_, err = l.Lab("a b")
	wantError(t, err, "not valid")
	_, err = l.Bridge("", nil)
	wantError(t, err, "not valid")
	_, err = l.DeclareVM("b", "p", &topology.BootOpts{CPUs: -1})
	wantError(t, err, "cpus")
	must(t, l.Boot(ctx)) // those of sub-labs, each once
	if a.State() != topology.Booted {
		t.Error(a.State())
	}
}

func TestClaim(t *testing.T) {
	l := newLab(t, noGuests(t))
	must(t, l.Claim(t.Context(), 1, 1)) // there is no pool
	refused := errors.New("refused")
	l.host.Pool = &countingPool{refuse: refused}
	if err := l.Claim(t.Context(), 1, 1); err != refused {
		t.Error(err)
	}
}

// TestBatchCallsNameWhoFailed also has those that did not fail be in their new state.
func TestBatchCallsNameWhoFailed(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	f.Prepare(func(m *fakemachine.Machine) {
		if m.Name() == "bad" {
			m.SetAgent(fakemachine.AgentOfVersion0)
		}
	})
	good := declare(t, l, "good")
	declare(t, l, "bad")
	err := l.Boot(ctx)
	wantError(t, err, "lab `provium` boot failed for `bad`: vm `bad` boot: ", "agent speaks version 1000")
	var batch *topology.BatchError
	var boot *instance.BootError
	if !errors.As(err, &batch) || len(batch.Unwrap()) != 1 || !errors.As(err, &boot) {
		t.Errorf("%#v", err)
	}
	if good.State() != topology.Booted {
		t.Error(good.State())
	}
}

// TestLabsAreAdmittedAtOnce asks the pool once for all members of a lab, and gives each
// share back with its guest.
func TestLabsAreAdmittedAtOnce(t *testing.T) {
	ctx := t.Context()
	h, _ := fakeHost(t)
	pool := &countingPool{}
	h.Pool = pool
	l := newLab(t, h)
	a := declare(t, l, "a")
	declare(t, l, "b")
	if err := l.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if pool.out != 1 {
		t.Errorf("%d shares are out after a shutdown", pool.out)
	}
	if err := l.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := l.Snapshot(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Restore(ctx, s.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Fork(ctx, l, 2); err != nil {
		t.Fatal(err)
	}
	want := []string{"lab `provium` (vms `a`, `b`)", "vm `a`", "lab `provium` (vms `a`, `b`)",
		"lab `provium` (vms `a-1`, `a-2`)"}
	if !slices.Equal(pool.asked, want) || pool.out != 4 {
		t.Errorf("asked for %q, %d are out, want %q, 4", pool.asked, pool.out, want)
	}
	if err := l.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	pool.refuse = errors.New("full")
	wantError(t, l.Boot(ctx), "lab `provium` boot: full")
	wantError(t, l.Restore(ctx, s.Path()), "lab `provium` restore: full")
	if pool.out != 0 {
		t.Errorf("%d shares are out", pool.out)
	}
}

// TestOperationsOfGuests looks at what is in flight and open.
func TestOperationsOfGuests(t *testing.T) {
	ctx := t.Context()
	v, m := bootFake(t)
	quiet := func(want bool, why string) {
		t.Helper()
		if v.IsQuiescent() != want {
			t.Errorf("quiescent is %v: %s", !want, why)
		}
	}
	quiet(true, "after the boot")
	m.Files.Write("/tmp/x", nil)
	file, err := v.OpenFile(ctx, "/tmp/x", handle.FileMode{Read: true})
	must(t, err)
	if v.OpenFileCount() != 1 {
		t.Error("no open file")
	}
	quiet(false, "a file is open")
	must(t, file.Close(ctx))
	stream, err := v.TailFile(ctx, "/tmp/x", 0, false, stream.Site{})
	must(t, err)
	if v.OpenStreamCount() != 1 || v.Streams()[0] != stream {
		t.Error("no open stream")
	}
	quiet(false, "a stream is open")
	stream.Close()
	m.OnSyscall(unix.SYS_PAUSE, func(ctx context.Context, _ *fakemachine.Syscall) (int64, uint32) {
		<-ctx.Done()
		return -1, uint32(unix.EINTR)
	})
	call, err := v.SyscallAsync(ctx, guest.Syscall{Nr: unix.SYS_PAUSE})
	must(t, err)
	quiet(false, "a system call was not awaited")
	must(t, call.Close(ctx))
	w, err := v.SpawnWorker(ctx)
	must(t, err)
	must(t, w.Close(ctx))
	quiet(true, "everything is closed")

	results, err := v.Batch(ctx,
		[]guest.Op{guest.RunOp{RunRequest: guest.RunRequest{Shell: "exit 3"}}, guest.StatOp{Path: "/none"}})
	if err != nil || results[0].Run.ExitCode != 3 || results[1].Err == nil {
		t.Errorf("%+v, %v", results, err)
	}
	_, err = handle.NewClock(v).GetNS(ctx)
	must(t, err)
}

// TestOperationsWaitForSnapshots begins one while the VM is frozen.
func TestOperationsWaitForSnapshots(t *testing.T) {
	ctx := t.Context()
	v, _ := bootFake(t)
	thaw, err := freeze("vm:snapshot()", []*VM{v})
	must(t, err)
	if err := v.Ping(canceled(t)); !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- v.Ping(ctx) }()
	select {
	case err := <-done:
		t.Errorf("an operation of a frozen vm: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	thaw()
	must(t, <-done)
}

func TestOperationsOfAGuestThatIsGone(t *testing.T) {
	ctx := t.Context()
	v, _ := bootFake(t)
	p, err := v.RunAsync(ctx, guest.RunRequest{Shell: "sleep 100"})
	must(t, err)
	must(t, v.Reset(ctx))
	_, _, err = p.Status(ctx, "proc:status")
	wantError(t, err, "the process is gone: vm `a` was reset, booted or restored since")
	must(t, v.Shutdown(ctx))
	if v.lastEpoch() != nil || v.OpenFileCount() != 0 {
		t.Error("a guest that is gone has an epoch")
	}
	_, err = v.Epoch("proc:close")
	wantError(t, err, "cannot proc:close", "shutdown")
	_, err = v.Batch(ctx, nil)
	wantError(t, err, "cannot batch", "shutdown")
}

package lab

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/guest"
)

func bootedVM(t *testing.T) *VM {
	t.Helper()
	l, f := fakeLab(t)
	f.Prepare(func(m *fakemachine.Machine) {
		m.Program("produce", func(p *fakemachine.Process) int {
			p.Print(strings.Repeat("x", 300_000))
			return 0
		})
	})
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), nil))
	return v
}

// TestSnapshotRefusedDuringOperation has an operation in flight.
func TestSnapshotRefusedDuringOperation(t *testing.T) {
	v := bootedVM(t)
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	busy.Add(1)
	go func() {
		defer busy.Done()
		_, _ = v.Run(ctx, guest.RunRequest{Shell: "sleep 1000"})
	}()
	for v.IsQuiescent() {
		time.Sleep(time.Millisecond)
	}
	_, err := v.Snapshot(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "  - run\n") {
		t.Errorf("err = %v", err)
	}
	cancel()
	busy.Wait()
	_, err = v.Snapshot(t.Context(), "")
	must(t, err)
}

// TestSnapshotRefusedDuringAsyncSyscall has a system call that nobody has awaited.
func TestSnapshotRefusedDuringAsyncSyscall(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	v := declare(t, l, "a")
	must(t, v.Boot(ctx, nil))
	f.Last().OnSyscall(unix.SYS_PAUSE, func(ctx context.Context, _ *fakemachine.Syscall) (int64, uint32) {
		<-ctx.Done()
		return -1, uint32(unix.EINTR)
	})
	w, err := v.SpawnWorker(ctx)
	must(t, err)
	call, err := v.SyscallAsync(ctx, guest.Syscall{Nr: unix.SYS_PAUSE})
	must(t, err)
	const why = "refused: vm `a` has operations in flight:\n  - syscall_async (not awaited)\nwait for their end first"
	_, err = v.Snapshot(ctx, "")
	wantError(t, err, "vm:snapshot() "+why)
	_, err = v.Fork(ctx, l, 1)
	wantError(t, err, "vm:fork() "+why)
	_, err = l.Snapshot(ctx, "")
	wantError(t, err, "lab:snapshot() "+why)
	must(t, call.Close(ctx))
	_, err = w.SyscallAsync(ctx, guest.Syscall{Nr: unix.SYS_PAUSE})
	must(t, err)
	_, err = v.Snapshot(ctx, "")
	wantError(t, err, why)
	must(t, w.Close(ctx)) // the call has ended with it
	_, err = v.Snapshot(ctx, "")
	must(t, err)
}

// TestSnapshotsBesideOperations takes snapshots while operations come and go:
// none of these may fail, and a snapshot is taken or refused.
func TestSnapshotsBesideOperations(t *testing.T) {
	v := bootedVM(t)
	done := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 {
		busy.Add(1)
		go func() {
			defer busy.Done()
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond): // room for a snapshot to begin
				}
				if _, err := v.Run(t.Context(), guest.RunRequest{Shell: "produce"}); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	var last *Snapshot
	for taken, tries := 0, 0; taken < 8 && tries < 400; tries++ {
		s, err := v.Snapshot(t.Context(), "")
		switch {
		case err == nil:
			taken++
			if last != nil {
				must(t, last.Delete())
			}
			last = s
		case !strings.Contains(err.Error(), "refused"):
			t.Fatal(err)
		default:
			time.Sleep(time.Millisecond)
		}
	}
	close(done)
	busy.Wait()
	if last == nil {
		t.Fatal("every snapshot was refused")
	}
	must(t, v.Shutdown(t.Context()))
	must(t, v.Restore(t.Context(), last.Path()))
	shell(t, v, "true")
}

// TestSnapshotGivenUp has the caller lose patience at some moment or other. The
// guest goes on, and can be saved afterwards.
func TestSnapshotGivenUp(t *testing.T) {
	v := bootedVM(t)
	try := func() {
		for i := range 12 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*100*time.Microsecond)
			s, err := v.Snapshot(ctx, "")
			cancel()
			if err == nil {
				must(t, s.Delete())
			}
			shell(t, v, "true")
			if list := len(filesBelow(t, v.host.TempDir)); list > 6 {
				t.Fatalf("%d temporary files", list)
			}
		}
	}
	try()
	s, err := v.Snapshot(t.Context(), "")
	must(t, err)
	must(t, v.Shutdown(t.Context()))
	must(t, v.Restore(t.Context(), s.Path()))
	try()
	s, err = v.Snapshot(t.Context(), "")
	must(t, err)
	must(t, v.Shutdown(t.Context()))
	must(t, v.Restore(t.Context(), s.Path()))
	shell(t, v, "true")
}

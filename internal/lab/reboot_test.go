package lab

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/guest/handle"
)

// TestTimeoutsOverReboot has operations with a time limit wait for the agent of a guest
// that reboots: the wait counts. An operation without a limit waits for as long as its
// context allows.
func TestTimeoutsOverReboot(t *testing.T) {
	ctx := t.Context()
	v, m := bootFake(t)
	w, err := v.SpawnWorker(ctx)
	must(t, err)
	process, err := v.RunAsync(ctx, guest.RunRequest{Shell: "sleep 100"})
	must(t, err)
	m.OnSyscall(unix.SYS_PAUSE, func(ctx context.Context, _ *fakemachine.Syscall) (int64, uint32) {
		<-ctx.Done()
		return -1, uint32(unix.EINTR)
	})
	call, err := v.SyscallAsync(ctx, guest.Syscall{Nr: unix.SYS_PAUSE})
	must(t, err)
	m.SetAgent(fakemachine.AgentSilent)
	before := v.lastEpoch()
	m.Reboot()
	for v.lastEpoch() == before {
		time.Sleep(time.Millisecond)
	}
	const limit = 20 * time.Millisecond
	for op, do := range map[string]func() error{
		"run": func() error {
			_, err := v.Run(ctx, guest.RunRequest{Shell: "true", Timeout: limit})
			return err
		},
		"worker run": func() error {
			_, err := w.Run(ctx, guest.RunRequest{Shell: "true", Timeout: limit})
			return err
		},
		"wait": func() error {
			_, err := process.Wait(ctx, limit)
			return err
		},
		"await": func() error {
			_, err := call.Await(ctx, limit)
			return err
		},
	} {
		t.Run(op, func(t *testing.T) {
			err := do()
			wantError(t, err, "timed out after 20ms: vm `a` boots or reboots, and no agent has answered yet")
			var none *handle.NoAgentError
			if !errors.As(err, &none) {
				t.Errorf("%T", err)
			}
		})
	}
	if _, err := v.Run(canceled(t), guest.RunRequest{Shell: "true", Timeout: time.Hour}); err != errGivenUp {
		t.Error(err)
	}
	m.SetAgent(fakemachine.AgentWorks)
	m.Reboot()
	must(t, v.WaitReboot(ctx, patience))
	if _, err := v.Run(ctx, guest.RunRequest{Shell: "true", Timeout: time.Hour}); err != nil {
		t.Error(err)
	}
	_, err = process.Wait(ctx, limit)
	wantError(t, err, "the process is gone: vm `a` was reset, booted or restored since, or its agent replaced")
}

func TestWaitRebootNeedsAGuest(t *testing.T) {
	l, _ := fakeLab(t)
	v := declare(t, l, "a")
	wantError(t, v.WaitReboot(t.Context(), 0), "cannot wait_reboot: vm `a` is created (not booted)")
	must(t, v.Boot(t.Context(), nil))
	wantError(t, v.WaitReboot(t.Context(), 0), "wait_reboot timed out after 0s: vm `a` has not rebooted")
}

package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/disk"
	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/localvmm"
	"provium/internal/plainwords"
)

// failing is something that fails in a lab with a booted guest.
type failing struct {
	prepare func(m *fakemachine.Machine) // the guest
	do      func(ctx context.Context, l *Lab, v *VM) error
}

// TestMessagesAreForPeople has many things fail, each in another way. Other tests look at the words of errors, too:
// wantError does.
func TestMessagesAreForPeople(t *testing.T) {
	for name, fault := range map[string]fakemachine.AgentFault{
		"an agent that is silent":     fakemachine.AgentSilent,
		"an agent that hangs up":      fakemachine.AgentHangsUp,
		"an agent of another version": fakemachine.AgentOfVersion0,
		"an agent that talks noise":   fakemachine.AgentTalksNoise,
	} {
		t.Run(name, func(t *testing.T) {
			h, f := fakeHost(t)
			h.Profiles["p"].AgentTimeout = 50 * time.Millisecond
			f.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fault) })
			l := New(h)
			v := declare(t, l, "a")
			err := v.Boot(t.Context(), nil)
			if err == nil && fault == fakemachine.AgentTalksNoise { // after the handshake
				err = v.Ping(t.Context())
			}
			checkWords(t, l, err)
		})
	}
	for name, c := range failingInLab(t) {
		t.Run(name, func(t *testing.T) {
			h, f := fakeHost(t)
			h.Warn = func(string, ...any) {}
			l := New(h)
			v := declare(t, l, "a")
			must(t, v.Boot(t.Context(), nil))
			if c.prepare != nil {
				c.prepare(f.Last())
			}
			checkWords(t, l, c.do(t.Context(), l, v))
		})
	}
}

// checkWords looks at the words of an error, and of what is said when its lab is closed.
func checkWords(t *testing.T, l *Lab, err error) {
	t.Helper()
	if err == nil {
		t.Error("nothing has failed")
		return
	}
	t.Log(err)
	for _, e := range append(l.CloseScope(t.Context()), err) {
		for _, found := range plainwords.Jargon(e.Error()) {
			t.Error(found)
		}
	}
}

func takeSnapshot(ctx context.Context, _ *Lab, v *VM) error {
	_, err := v.Snapshot(ctx, "")
	return err
}

func takeLabSnapshot(ctx context.Context, l *Lab, _ *VM) error {
	_, err := l.Snapshot(ctx, "")
	return err
}

func forkOnce(ctx context.Context, l *Lab, v *VM) error { _, err := v.Fork(ctx, l, 1); return err }

func attachScratch(ctx context.Context, _ *Lab, v *VM) error {
	_, err := v.AttachDisk(ctx, scratch("d"))
	return err
}

// runAct runs the command of acting.
func runAct(ctx context.Context, _ *Lab, v *VM) error {
	_, err := v.Run(ctx, guest.RunRequest{Path: "act"})
	return err
}

// acting adds the command `act` to a guest. It does something to the machine, and does not end.
func acting(do func(m *fakemachine.Machine)) func(m *fakemachine.Machine) {
	return func(m *fakemachine.Machine) {
		m.Program("act", func(p *fakemachine.Process) int {
			do(m)
			<-p.Context.Done()
			return 1
		})
	}
}

func dies(command string) func(m *fakemachine.Machine) {
	return func(m *fakemachine.Machine) { m.OnCommand(command, localvmm.Reply{Die: true}) }
}

func refuses(command string) func(m *fakemachine.Machine) {
	return func(m *fakemachine.Machine) { m.OnCommand(command, localvmm.Reply{Refuse: "no"}) }
}

// restoring restores a VM from a path.
func restoring(path string) func(context.Context, *Lab, *VM) error {
	return func(ctx context.Context, _ *Lab, v *VM) error {
		if err := v.Shutdown(ctx); err != nil {
			return nil
		}
		return v.Restore(ctx, path)
	}
}

func failingInLab(t *testing.T) map[string]failing {
	dir := t.TempDir()
	empty, words := filepath.Join(dir, "empty.snap"), filepath.Join(dir, "words.snap")
	must(t, os.WriteFile(empty, nil, 0o600))
	must(t, os.WriteFile(words, []byte(strings.Repeat("nothing ", 1000)), 0o600))
	return map[string]failing{
		"QEMU dies at a snapshot":  {dies("stop"), takeSnapshot},
		"QEMU refuses to stop":     {refuses("stop"), takeSnapshot},
		"QEMU dies while it saves": {dies("migrate"), takeSnapshot},
		"QEMU refuses to save":     {refuses("migrate"), takeSnapshot},
		"QEMU dies at a fork":      {dies("migrate"), forkOnce},
		"QEMU dies at a lab's":     {dies("migrate"), takeLabSnapshot},
		"QEMU dies at a disk":      {dies("device_add"), attachScratch},
		"QEMU refuses a disk":      {refuses("device_add"), attachScratch},
		"QEMU dies at a pause": {dies("stop"), func(ctx context.Context, l *Lab, _ *VM) error {
			return l.Pause(ctx)
		}},
		"QEMU dies at a reset": {dies("system_reset"), func(ctx context.Context, _ *Lab, v *VM) error {
			return v.Reset(ctx)
		}},
		"QEMU dies at the power button": {dies("system_powerdown"), func(ctx context.Context, l *Lab, v *VM) error {
			if _, err := v.PowerButton(ctx, time.Minute); err != nil {
				return err
			}
			return v.Ping(ctx)
		}},
		"a power button without effect": {(*fakemachine.Machine).IgnorePowerButton,
			func(ctx context.Context, l *Lab, v *VM) error {
				if _, err := v.PowerButton(ctx, 50*time.Millisecond); err != nil {
					return err
				}
				return v.Ping(ctx)
			}},
		"QEMU dies under a command": {acting(func(m *fakemachine.Machine) { m.Crash("qemu: no luck\n") }), runAct},
		"the link is lost":          {acting((*fakemachine.Machine).DropLink), runAct},
		"the link has noise":        {acting((*fakemachine.Machine).WriteNoise), runAct},
		"the kernel panics":         {acting(func(m *fakemachine.Machine) { m.Panic("x") }), runAct},
		"the guest reboots":         {acting(func(m *fakemachine.Machine) { go m.Reboot() }), runAct},
		"the guest is off": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			must(t, v.Shutdown(ctx))
			return v.Ping(ctx)
		}},
		"a guest that has died": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			v.MarkDead("it broke")
			return v.Ping(ctx)
		}},
		"a boot that is given up": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			must(t, v.Shutdown(ctx))
			return v.Boot(canceled(t), nil)
		}},
		"a missing snapshot":       {nil, restoring("/nonexistent/x.snap")},
		"an empty snapshot":        {nil, restoring(empty)},
		"words for a snapshot":     {nil, restoring(words)},
		"a directory for snapshot": {nil, restoring(dir)},
		"no snapshot of a lab": {nil, func(ctx context.Context, l *Lab, _ *VM) error {
			return l.Restore(ctx, dir)
		}},
		"a snapshot without a place": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			_, err := v.Snapshot(ctx, empty+"/x")
			return err
		}},
		"a console that is silent": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			return expect(ctx, v, "x", 50*time.Millisecond)
		}},
		"a reboot that does not come": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			return v.WaitReboot(ctx, 50*time.Millisecond)
		}},
		"a wake-up of a guest that runs": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			return v.Wakeup(ctx)
		}},
		"a disk without its file": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			_, err := v.AttachDisk(ctx, disk.Spec{ID: "d", Path: "/nonexistent/x"})
			return err
		}},
		"a disk that is a directory": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			_, err := v.AttachDisk(ctx, disk.Spec{ID: "d", Template: dir})
			return err
		}},
		"a missing disk": {nil, func(ctx context.Context, _ *Lab, v *VM) error {
			_, err := v.Disk(ctx, "none")
			return err
		}},
		"a missing NIC": {nil, func(_ context.Context, _ *Lab, v *VM) error {
			_, err := v.NIC("none")
			return err
		}},
	}
}

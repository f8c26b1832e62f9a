package diskcheck

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/disk"
	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/localvmm"
	"provium/internal/wire"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want %q", err, part)
		}
	}
}

// checkedDisk returns a booted VM's disk, and a checker for it whose guests find the
// disk as vda.
func checkedDisk(t *testing.T) (*disk.Disk, *Checker, *fakemachine.Machines) {
	t.Helper()
	ctx := t.Context()
	f := fakemachine.New(t)
	l := lab.New(&lab.Host{File: "x.test.lua", TempDir: t.TempDir(), Starter: f, Images: f, NoPrewarming: true,
		Profiles: map[string]*lab.Profile{"p": {Name: "p", Accel: "tcg"}},
		Warn:     func(format string, args ...any) { t.Errorf("warning: "+format, args...) }})
	t.Cleanup(func() {
		for _, err := range l.CloseScope(context.Background()) {
			t.Error(err)
		}
	})
	v, err := l.DeclareVM("a", "p", nil)
	must(t, err)
	must(t, v.Boot(ctx, nil))
	d, err := v.AttachDisk(ctx, disk.Spec{ID: "data", Scratch: 1 << 20})
	must(t, err)
	f.Prepare(func(m *fakemachine.Machine) {
		m.OnOp("listdir", func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) {
			return wire.EntriesValue{{Name: "sr0"}, {Name: "vdx"}, {Name: "vda"}}, nil
		})
		m.OnOp("read_file", func(_ context.Context, op *localvmm.Op) (wire.Value, *wire.Error) {
			text, known := map[string]string{"/sys/block/vda/serial": disk.Serial("data") + "\n",
				"/sys/block/vda/dev":   "253:16\n",
				"/proc/self/mountinfo": mountinfo}[op.Request.(*wire.ReadFile).Path]
			if !known {
				return nil, wire.ErrnoError(uint32(unix.ENOENT))
			}
			return &wire.FileValue{Data: []byte(text)}, nil
		})
		for _, nr := range []int64{unix.SYS_UMOUNT2, unix.SYS_OPEN, unix.SYS_IOCTL, unix.SYS_CLOSE} {
			m.OnSyscall(nr, func(context.Context, *fakemachine.Syscall) (int64, uint32) { return 0, 0 })
		}
	})
	c, err := New(l, d, true)
	must(t, err)
	return d, c, f
}

const mountinfo = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 253:17 / /mnt/a\040b rw - ext4 /dev/vda1 rw
short line
24 22 253:32 / /other rw - ext4 /dev/vdb rw
25 22 x:y / /odd rw - ext4 none rw
`

func TestChecker(t *testing.T) {
	ctx := t.Context()
	d, c, f := checkedDisk(t)
	if !c.VM().Expendable() || c.VM().Name() != "a-crash1" || c.Disk() != nil {
		t.Errorf("vm %s", c.VM().Name())
	}
	loads := 0
	content := func(got *disk.Disk) error {
		loads++
		if got.ID() != d.ID() {
			t.Errorf("disk %s", got.ID())
		}
		return nil
	}
	must(t, c.Boot(ctx, content))
	if c.device != "vda" || c.number != "253:16" || c.Disk() == nil {
		t.Errorf("device %s, number %s", c.device, c.number)
	}
	// The guest unmounts what is on the disk, and only that.
	var unmounted []string
	f.Last().OnSyscall(unix.SYS_UMOUNT2, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) {
		unmounted = append(unmounted, string(s.Bufs[0]))
		return 0, 0
	})
	must(t, c.Freeze(ctx))
	if fmt.Sprintf("%q", unmounted) != `["/mnt/a b\x00"]` {
		t.Errorf("%q", unmounted)
	}
	machines := len(f.All())
	must(t, c.Load(ctx, content, false)) // goes on in the same guest
	if n := len(f.All()); n != machines {
		t.Errorf("%d guests were started", n-machines)
	}
	must(t, c.Load(ctx, content, true)) // the guest is spoiled
	if n := len(f.All()); n != machines+1 {
		t.Errorf("%d guests were started", n-machines)
	}
	// A guest that does not release the disk is replaced.
	f.Last().OnSyscall(unix.SYS_OPEN,
		func(context.Context, *fakemachine.Syscall) (int64, uint32) { return -1, uint32(unix.EBUSY) })
	must(t, c.Load(ctx, content, false))
	if n := len(f.All()); n != machines+2 || loads != 4 {
		t.Errorf("%d guests were started, %d contents loaded", n-machines, loads)
	}
	broken := errors.New("broken content")
	if err := c.Load(ctx, func(*disk.Disk) error { return broken }, false); !errors.Is(err, broken) {
		t.Error(err)
	}

	second, err := New(c.lab, d, false)
	must(t, err)
	second.From(c)
	must(t, second.Load(ctx, content, false))
	for _, checker := range []*Checker{c, second} {
		must(t, checker.Close(ctx))
	}
	if names := c.lab.VMNames(); fmt.Sprint(names) != "[a]" {
		t.Errorf("%v", names)
	}
}

// TestFirstContentInTheFrozenGuest has a checker without reuse: the guest that was just saved is as good as a restored
// one, once.
func TestFirstContentInTheFrozenGuest(t *testing.T) {
	ctx := t.Context()
	d, c, f := checkedDisk(t)
	c, err := New(c.lab, d, false)
	must(t, err)
	nothing := func(*disk.Disk) error { return nil }
	must(t, c.Boot(ctx, nothing))
	must(t, c.Freeze(ctx))
	for i := range 3 {
		before := len(f.All())
		must(t, c.Load(ctx, nothing, true))
		if n := len(f.All()) - before; n != min(i, 1) {
			t.Errorf("load %d has started %d guests", i, n)
		}
	}
	must(t, c.Close(ctx))
}

// TestCheckersThatFail say where.
func TestCheckersThatFail(t *testing.T) {
	ctx := t.Context()
	broken := errors.New("broken content")
	nothing := func(*disk.Disk) error { return nil }

	_, c, _ := checkedDisk(t)
	if err := c.Boot(ctx, func(*disk.Disk) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := c.vm.Disk(ctx, "data"); err == nil {
		t.Error("a disk is left")
	}

	_, c, f := checkedDisk(t)
	f.Prepare(func(m *fakemachine.Machine) {
		m.OnOp("listdir", func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) {
			return wire.EntriesValue{},
				nil
		})
	})
	wantError(t, c.Boot(ctx, nothing), "vm `a-crash1` has no device for disk `data`")

	_, c, f = checkedDisk(t)
	must(t, c.Boot(ctx, nothing))
	f.Last().OnSyscall(unix.SYS_UMOUNT2,
		func(context.Context, *fakemachine.Syscall) (int64, uint32) { return -1, uint32(unix.EBUSY) })
	wantError(t, c.Freeze(ctx), "vm `a-crash1` uses disk `data` still: unmount `/mnt/a b`: ", "busy")

	_, c, f = checkedDisk(t)
	f.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentOfVersion0) })
	wantError(t, c.Boot(ctx, nothing), "agent speaks version 1000")

	// A content that is given up, in a guest that hangs.
	_, c, f = checkedDisk(t)
	must(t, c.Boot(ctx, nothing))
	must(t, c.Freeze(ctx))
	f.Last().OnOp("read_file", fakemachine.Hang)
	given, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := c.Load(given, nothing, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

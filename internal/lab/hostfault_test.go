package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/hostfault"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// faultyLab returns a lab for one round of a sweep: its warnings fail nothing, and what
// closing reports is no failure either, since the fault may last till then.
func faultyLab(t *testing.T) (*Lab, *fakemachine.Machines) {
	t.Helper()
	h, f := fakeHost(t)
	h.Warn = func(format string, args ...any) { t.Logf(format, args...) }
	h.NoPrewarming = true
	l := New(h)
	t.Cleanup(func() { l.CloseScope(context.Background()) })
	return l, f
}

// markedVM boots a VM that can be told from any other.
func markedVM(t *testing.T, l *Lab, f *fakemachine.Machines) *VM {
	t.Helper()
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), nil))
	must(t, machineOf(f, v).WriteMemory(3<<20, []byte("marked")))
	f.Last().Files.Write("/tmp/mark", []byte("marked"))
	return v
}

// limited returns a context with the limit that a test has. Nothing takes as long, on a busy host either.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// checkMark reports a guest that is not the one of markedVM.
func checkMark(t *testing.T, v *VM, f *fakemachine.Machines) {
	t.Helper()
	if got := shell(t, v, "cat /tmp/mark"); got != "marked" {
		t.Errorf("the guest has %q", got)
	}
}

// checkSnapshots reports snapshots in dir that are not whole, and temporary files unless
// it was their removal that failed.
func checkSnapshots(t *testing.T, dir string, fault *hostfault.Fault) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			if !mayLeaveFiles(fault) {
				t.Errorf("%s stays", e.Name())
			}
			continue
		}
		if !strings.HasSuffix(e.Name(), ".snap") {
			continue
		}
		r, err := snapshot.Open(path)
		if err != nil {
			t.Errorf("half an entry: %v", err)
			continue
		}
		if err := r.Verify(t.Context()); err != nil {
			t.Errorf("half an entry: %v", err)
		}
		r.Close()
	}
}

// mayLeaveFiles reports whether the removal of a temporary file has failed.
func mayLeaveFiles(f *hostfault.Fault) bool {
	return strings.HasPrefix(f.What(), "unlinkat") || f.Lasting()
}

// mayCutLinks reports whether a socket between the guest or its machine and us may have
// failed. An error that lasts concerns all calls that can have it: these are the ones that
// reads and writes can have.
func mayCutLinks(f *hostfault.Fault) bool {
	return strings.Contains(f.What(), "(socket)") ||
		f.Lasting() && slices.Contains([]unix.Errno{unix.EIO, unix.ENOSPC, unix.ENOMEM}, f.Errno())
}

func TestSnapshotHostFaults(t *testing.T) {
	hostfault.Sweep(t, func(t *testing.T, fault *hostfault.Fault) {
		l, f := faultyLab(t)
		v := markedVM(t, l, f)
		dir := t.TempDir()
		path := filepath.Join(dir, "a.snap")
		var err error
		fault.During(func() { _, err = v.Snapshot(limited(t), path) })
		checkSnapshots(t, dir, fault)
		if _, statErr := os.Stat(path); err == nil && statErr != nil {
			t.Error("no error, and no snapshot")
		}
		if err == nil && v.State() != topology.Booted {
			t.Errorf("no error, and the vm is %s", v.State())
		}
		// The guest goes on unless a link to it or to its machine was cut.
		ctx := limited(t)
		r, ranErr := v.Run(ctx, guest.RunRequest{Shell: "cat /tmp/mark"})
		if ranErr == nil && string(r.Stdout) != "marked" {
			t.Errorf("the guest has %q", r.Stdout)
		}
		if ranErr == nil {
			_, ranErr = v.Snapshot(ctx, path)
		}
		if ranErr != nil && !mayCutLinks(fault) && v.State() == topology.Booted {
			t.Errorf("afterwards: %v", ranErr)
		}
		checkSnapshots(t, dir, fault)
		must(t, v.Shutdown(t.Context()))
		if _, err := os.Stat(path); err != nil {
			return
		}
		again := declare(t, l, "b")
		must(t, again.Restore(t.Context(), path))
		checkMark(t, again, f)
	})
}

func TestRestoreHostFaults(t *testing.T) {
	outer := t
	path := sync.OnceValue(func() string {
		l, f := faultyLab(outer)
		v := markedVM(outer, l, f)
		path := filepath.Join(outer.TempDir(), "a.snap")
		_, err := v.Snapshot(outer.Context(), path)
		must(outer, err)
		return path
	})
	hostfault.Sweep(t, func(t *testing.T, fault *hostfault.Fault) {
		from := path()
		l, f := faultyLab(t)
		v := declare(t, l, "a")
		var err error
		fault.During(func() {
			ctx := limited(t)
			if err = v.Restore(ctx, from); err == nil {
				err = v.Ping(ctx)
			}
		})
		if err == nil {
			// A link that the fault has cut after the last answer shows with the next operation.
			r, ranErr := v.Run(limited(t), guest.RunRequest{Shell: "cat /tmp/mark"})
			if ranErr == nil && string(r.Stdout) != "marked" {
				t.Errorf("the guest has %q", r.Stdout)
			}
			if ranErr != nil && !mayCutLinks(fault) {
				t.Errorf("afterwards: %v", ranErr)
			}
			must(t, v.Shutdown(t.Context()))
		}
		again := declare(t, l, "b")
		must(t, again.Restore(t.Context(), from))
		checkMark(t, again, f)
	})
}

// TestBootCacheHostFaults stores a boot in the cache, and serves one from it.
func TestBootCacheHostFaults(t *testing.T) {
	hostfault.Sweep(t, func(t *testing.T, fault *hostfault.Fault) {
		l, f := faultyLab(t)
		identify(f, 1<<20)
		l.host.BootCache = filepath.Join(t.TempDir(), "boots")
		boot := func(name string) (*VM, error) {
			v := declare(t, l, name)
			ctx := limited(t)
			err := v.Boot(ctx, nil)
			if err == nil {
				err = v.Ping(ctx)
			}
			return v, err
		}
		ids := map[string]bool{}
		fault.During(func() {
			for _, name := range []string{"a", "b"} {
				if v, err := boot(name); err == nil {
					_ = v.Shutdown(t.Context()) // it may be the fault's turn
				}
			}
		})
		checkSnapshots(t, l.host.BootCache, fault)
		for _, name := range []string{"c", "d"} {
			v, err := boot(name)
			must(t, err)
			ids[shell(t, v, bootID)] = true
			must(t, v.Shutdown(t.Context()))
		}
		if len(ids) != 1 {
			t.Errorf("the cache serves no boots afterwards: %v", ids)
		}
	})
}

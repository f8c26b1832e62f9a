// Package fakemachine makes machines for unit tests: the monitor, the consoles,
// the NICs and the memory are those of package localvmm, and the agent speaks the
// real protocol over files, processes and system calls in memory. What lab and
// script do with a guest can so be tested in milliseconds, with the faults that
// real guests rarely have.
//
// Only tests may import it. It does not emulate Linux: a shell knows a handful of
// commands, and a system call that no test has scripted fails with ENOSYS.
//
// Start reading at New; Machine has what a test can do to a running machine.
package fakemachine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"provium/internal/image"
	"provium/internal/localvmm"
)

// Machines is a qemu.Starter whose machines are fakes, and resolves every profile
// to an image that they boot. It is safe for concurrent use.
type Machines struct {
	localvmm.Starter
	dir string

	mu      sync.Mutex
	list    []*Machine // in order of starting
	prepare []func(*Machine)
	resolve error
	key     string
	changed chan struct{} // closed when a machine is added
}

// New returns Machines for one test, which fails if a machine outlives it. Call it
// before the cleanups are registered that end the machines.
func New(t testing.TB) *Machines {
	f := &Machines{dir: t.TempDir(), key: "fake", changed: make(chan struct{})}
	f.NewGuest = f.newGuest
	for _, name := range []string{"kernel", "initrd"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, m := range f.All() {
			if !m.Ended() {
				t.Errorf("machine %s runs after the test", m.Name())
				m.Kill()
				_ = m.Wait() // it was killed
			}
		}
	})
	return f
}

// Prepare has do called for each new machine before anything of it runs.
func (f *Machines) Prepare(do func(*Machine)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepare = append(f.prepare, do)
}

func (f *Machines) newGuest(m *localvmm.Machine) localvmm.Guest {
	out := newMachine(m)
	f.mu.Lock()
	f.list = append(f.list, out)
	prepare := f.prepare
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	for _, do := range prepare {
		do(out)
	}
	return &guest{out}
}

// All returns the machines in the order in which they were started.
func (f *Machines) All() []*Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Machine(nil), f.list...)
}

// Last returns the latest machine that was started; nil before the first.
func (f *Machines) Last() *Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == 0 {
		return nil
	}
	return f.list[len(f.list)-1]
}

// Named returns the latest machine of the VM of that name; nil without any.
// Machines that are restored ahead of need are called "prewarmed".
func (f *Machines) Named(name string) *Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.list) - 1; i >= 0; i-- {
		if f.list[i].Name() == name {
			return f.list[i]
		}
	}
	return nil
}

// WithPID returns the machine of that process id, which is a VM's CID; nil without any.
func (f *Machines) WithPID(pid int) *Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.list {
		if m.PID() == pid {
			return m
		}
	}
	return nil
}

// Await waits until n machines were started, and returns the nth.
func (f *Machines) Await(ctx context.Context, n int) (*Machine, error) {
	for {
		f.mu.Lock()
		list, changed := f.list, f.changed
		f.mu.Unlock()
		if len(list) >= n {
			return list[n-1], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// SetImage changes what profiles are resolved to: an image of that key, or an error.
func (f *Machines) SetImage(key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key, f.resolve = key, err
}

// BootFiles returns the paths of a kernel and an initrd for machines that no profile
// describes.
func (f *Machines) BootFiles() (kernel, initrd string) {
	return filepath.Join(f.dir, "kernel"), filepath.Join(f.dir, "initrd")
}

// Resolve returns the image of a profile.
func (f *Machines) Resolve(ctx context.Context, spec image.Spec) (*image.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resolve != nil {
		return nil, f.resolve
	}
	kernel, initrd := f.BootFiles()
	return &image.Image{Profile: spec.Profile, Kernel: kernel, Initrd: initrd,
		Inject: true, Key: f.key}, nil
}

// ContentDigest names the content of a file.
func (f *Machines) ContentDigest(_ context.Context, path string) (string, error) {
	p, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:]), nil
}

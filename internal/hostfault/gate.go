package hostfault

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gate is the memory that both processes have: what is to fail, and what has failed. It
// is used without system calls, which would count.
type gate struct {
	armed   atomic.Uint64 // the call that fails, counted from 1; 0 for none
	choice  atomic.Uint64 // which of its errors
	lasting atomic.Uint64 // not 0: all later calls that can fail with that error do
	seen    atomic.Uint64 // calls since arming
	errno   atomic.Uint64 // of the call that failed; 0 before
	choices atomic.Uint64 // how many errors that call has
	length  atomic.Uint64 // of text
	text    [1024]byte    // describes the call
}

// newGate makes the memory of a gate.
func newGate() (*gate, *os.File, error) {
	fd, err := unix.MemfdCreate("hostfault", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("host faults: shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "hostfault")
	if err := f.Truncate(int64(unsafe.Sizeof(gate{}))); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("host faults: shared memory: %w", err)
	}
	g, err := openGate(fd)
	if err != nil {
		f.Close()
	}
	return g, f, err
}

// openGate maps the memory of a gate. It stays mapped until the process ends.
func openGate(fd int) (*gate, error) {
	m, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(gate{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("host faults: shared memory: %w", err)
	}
	return (*gate)(unsafe.Pointer(&m[0])), nil
}

// arm has a call fail from now on.
func (g *gate) arm(n, choice uint64, lasting bool) {
	g.armed.Store(0)
	g.seen.Store(0)
	g.errno.Store(0)
	g.choices.Store(0)
	g.length.Store(0)
	g.choice.Store(choice)
	g.lasting.Store(0)
	if lasting {
		g.lasting.Store(1)
	}
	g.armed.Store(n)
}

func (g *gate) disarm() { g.armed.Store(0) }

// what describes the call that failed; "" for none.
func (g *gate) what() string { return string(g.text[:g.length.Load()]) }

package localvmm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is the guest's RAM, mapped as QEMU maps it. Its zero value is of a
// machine that has not started.
type memory struct {
	mu sync.Mutex
	p  []byte
}

func (r *memory) open(f *os.File, size int64, shared bool) error {
	if f == nil {
		return errors.New("the file of the memory is missing")
	}
	flags := unix.MAP_PRIVATE
	if shared {
		flags = unix.MAP_SHARED
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var p []byte
	controlErr := raw.Control(func(fd uintptr) {
		p, err = unix.Mmap(int(fd), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, flags)
	})
	if err = errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("memory of %d bytes: %w", size, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.p = p
	return nil
}

// address returns where the memory begins, 0 when there is none.
func (r *memory) address() uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return uintptr(unsafe.Pointer(unsafe.SliceData(r.p)))
}

func (r *memory) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p != nil {
		_ = unix.Munmap(r.p) // it is one of ours
		r.p = nil
	}
}

// WriteMemory changes the guest's memory, as a guest does that runs.
func (m *Machine) WriteMemory(offset int64, p []byte) error {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	if offset < 0 || offset+int64(len(p)) > int64(len(m.memory.p)) {
		return fmt.Errorf("%d bytes at %d are outside of the memory", len(p), offset)
	}
	copy(m.memory.p[offset:], p)
	return nil
}

// ReadMemory returns n bytes of the guest's memory.
func (m *Machine) ReadMemory(offset int64, n int) ([]byte, error) {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	if offset < 0 || offset+int64(n) > int64(len(m.memory.p)) {
		return nil, fmt.Errorf("%d bytes at %d are outside of the memory", n, offset)
	}
	return append([]byte(nil), m.memory.p[offset:offset+int64(n)]...), nil
}

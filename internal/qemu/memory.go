package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/arch"
	"provium/internal/guestmem"
	"provium/internal/pagemap"
)

// Memory is the guest's memory as it is at each read. Close must be called.
type Memory struct {
	file    guestmem.File // what was mapped
	mem     *os.File      // the process's memory, nil where the file is the guest's memory
	pagemap *os.File
	base    int64 // where in mem the guest's memory begins
}

// errMemoryGone is returned for a machine whose memory went with its process.
var errMemoryGone = errors.New("the guest's memory is gone")

// OpenMemory returns the guest's memory. That of a booted machine can be read up to Done, also
// after QEMU's end; that of a restored one while QEMU runs.
func (m *Machine) OpenMemory() (_ *Memory, err error) {
	raw, err := m.ram.SyscallConn() // it may be closed at any time
	if err != nil {
		return nil, fmt.Errorf("qemu memory: %w", errMemoryGone)
	}
	fd := -1
	controlErr := raw.Control(func(ram uintptr) { fd, err = unix.FcntlInt(ram, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(controlErr, err); err != nil {
		return nil, fmt.Errorf("qemu memory: %w", errors.Join(errMemoryGone, err))
	}
	out := &Memory{file: guestmem.File{F: os.NewFile(uintptr(fd), "guest-ram"), Layout: m.cfg.layout()}}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	if m.cfg.Restore == nil {
		return out, nil
	}
	if out.base = m.ramBase.Load(); out.base == 0 {
		return nil, fmt.Errorf("qemu memory: %w", errMemoryGone)
	}
	if out.mem, err = os.Open(m.proc.Dir() + "/mem"); err == nil {
		out.pagemap, err = os.Open(m.proc.Dir() + "/pagemap")
	}
	if err != nil {
		return nil, fmt.Errorf("qemu memory: %w", err)
	}
	return out, nil
}

// layout returns where the guest's memory lies in its physical addresses (QEMU hw/i386/pc_q35.c,
// pc_piix.c, microvm.c, hw/arm/virt.c, hw/riscv/virt.c).
func (c *Config) layout() guestmem.Layout {
	l := guestmem.Layout{Base: c.arch().RAM, Low: c.Memory, Size: c.Memory}
	if c.arch() != arch.AMD64 {
		return l // in one piece
	}
	most, low := int64(0xb0000000), int64(0x80000000)
	switch {
	case strings.Contains(c.Machine, "microvm"):
		most, low = 0xc0000000, 0xc0000000
	case !strings.Contains(c.Machine, "q35"):
		most, low = 0xe0000000, 0xc0000000
	}
	if l.Size >= most {
		l.Low = low
	}
	return l
}

// Close releases the memory.
func (mem *Memory) Close() {
	for _, f := range []*os.File{mem.file.F, mem.mem, mem.pagemap} {
		if f != nil {
			f.Close()
		}
	}
}

// Size is the size of the memory in bytes.
func (mem *Memory) Size() int64 { return mem.file.Layout.Size }

// Layout is where in physical addresses the memory lies.
func (mem *Memory) Layout() guestmem.Layout { return mem.file.Layout }

// ReadAt implements guestmem.Source.
func (mem *Memory) ReadAt(p []byte, address int64) (int, error) {
	if mem.mem == nil {
		return mem.file.ReadAt(p, address)
	}
	return mem.file.Layout.ReadAt(p, address, func(p []byte, offset int64) (int, error) {
		return mem.mem.ReadAt(p, mem.base+offset)
	})
}

// Scan implements guestmem.Source. Of a restored machine it visits what it was restored from,
// then what has changed since.
func (mem *Memory) Scan(ctx context.Context, visit func(at int64, p []byte) error) error {
	if err := mem.file.Scan(ctx, visit); err != nil || mem.mem == nil {
		return err
	}
	return pagemap.VisitPrivate(ctx, mem.mem, mem.pagemap, mem.base, mem.Size(), func(offset int64, p []byte) error {
		return visit(mem.file.Layout.Address(offset), p)
	})
}

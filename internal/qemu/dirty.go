package qemu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// pageSize is what a restored guest's memory is tracked in, in bytes.
const pageSize = 4096

// Bits of an entry of /proc/PID/pagemap (Linux Documentation/admin-guide/mm/pagemap.rst).
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61
)

// DirtyRAM calls visit for each run of the guest's memory that a restored
// machine has changed, in order: what is not in RAM's file any more. The guest
// must be stopped. p is valid during the call only. A booted machine has none.
func (m *Machine) DirtyRAM(ctx context.Context, visit func(offset int64, p []byte) error) error {
	if m.cfg.Restore == nil {
		return nil
	}
	if err := m.dirtyRAM(ctx, visit); err != nil {
		return fmt.Errorf("qemu memory read: %w", err)
	}
	return nil
}

func (m *Machine) dirtyRAM(ctx context.Context, visit func(offset int64, p []byte) error) error {
	base, err := m.ramAddress(ctx)
	if err != nil {
		return err
	}
	return m.privateRAM(ctx, base, visit)
}

// privateRAM is dirtyRAM with the address of the guest's memory.
func (m *Machine) privateRAM(ctx context.Context, base int64, visit func(offset int64, p []byte) error) error {
	pagemap, err := os.Open(m.proc.Dir() + "/pagemap")
	if err != nil {
		return err
	}
	defer pagemap.Close()
	mem, err := os.Open(m.proc.Dir() + "/mem")
	if err != nil {
		return err
	}
	defer mem.Close()
	return visitPrivate(ctx, mem, pagemap, base, m.cfg.Memory, visit)
}

// visitPrivate calls visit for each run of private pages among the size bytes of a process's
// memory from base on.
func visitPrivate(ctx context.Context, mem, pagemap *os.File, base, size int64,
	visit func(offset int64, p []byte) error) error {
	const step = 32 << 10 // pages looked at in one read
	entries := make([]byte, 8*step)
	buf := make([]byte, 1<<20)
	pages := (size + pageSize - 1) / pageSize
	for at := int64(0); at < pages; at += step {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n := min(step, pages-at)
		if _, err := pagemap.ReadAt(entries[:8*n], (base/pageSize+at)*8); err != nil && err != io.EOF {
			return err
		}
		err := dirtyRuns(entries[:8*n], len(buf)/pageSize, func(first, count int) error {
			offset := (at + int64(first)) * pageSize
			p := buf[:count*pageSize]
			if _, err := mem.ReadAt(p, base+offset); err != nil {
				return err
			}
			return visit(offset, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dirtyRuns finds runs of private pages of at most limit pages.
func dirtyRuns(entries []byte, limit int, visit func(first, count int) error) error {
	first, count := 0, 0
	for i := 0; i <= len(entries)/8; i++ {
		dirty := false
		if i < len(entries)/8 {
			e := binary.LittleEndian.Uint64(entries[8*i:])
			dirty = e&(pagePresent|pageSwapped) != 0 && e&pageOfFile == 0
		}
		if count > 0 && (!dirty || count == limit) {
			if err := visit(first, count); err != nil {
				return err
			}
			count = 0
		}
		if dirty {
			if count == 0 {
				first = i
			}
			count++
		}
	}
	return nil
}

// addressCommand asks for the address at which QEMU has mapped the first byte of the guest's
// memory.
func (c *Config) addressCommand() string { return fmt.Sprintf("gpa2hva %d", c.arch().RAM) }

// ramAddress is where QEMU has mapped the guest's memory.
func (m *Machine) ramAddress(ctx context.Context) (int64, error) {
	text, err := m.monitor().hmp(ctx, m.cfg.addressCommand())
	if err != nil {
		return 0, err
	}
	return parseAddress(text)
}

// parseAddress reads "Host virtual address for 0x0 (ram) is 0x7f1234560000".
func parseAddress(text string) (int64, error) {
	_, hex, ok := strings.Cut(strings.TrimSpace(text), " is 0x")
	n, err := strconv.ParseInt(hex, 16, 64)
	if !ok || err != nil || n <= 0 || n%pageSize != 0 {
		return 0, errors.New("unexpected answer of qemu: " + strings.TrimSpace(text))
	}
	return n, nil
}

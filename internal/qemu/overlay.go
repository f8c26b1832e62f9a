package qemu

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
)

// Range is a part of the guest's memory, in bytes.
type Range struct{ At, Length int64 }

// stateFile is the file with the device state.
func (r *Restore) stateFile() *os.File {
	if r.State != nil {
		return r.State
	}
	return r.File
}

// overlay puts what State holds of the memory over what File does. QEMU has mapped
// that privately: what is written through /proc/PID/mem becomes its own pages, as if
// the guest had written them.
func (m *Machine) overlay(ctx context.Context) error {
	mem, base, err := m.openMemory()
	if err != nil {
		return err
	}
	defer mem.Close()
	buf := make([]byte, 1<<20)
	for _, c := range m.cfg.Restore.Changed {
		if err := m.checkRange(c); err != nil {
			return err
		}
		for at, end := c.At, c.At+c.Length; at < end; {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			p := buf[:min(int64(len(buf)), end-at)]
			if _, err := io.ReadFull(io.NewSectionReader(m.state, at, int64(len(p))), p); err != nil {
				return err
			}
			if _, err := mem.WriteAt(p, base+at); err != nil {
				return err
			}
			at += int64(len(p))
		}
	}
	return nil
}

// replaceUUID writes a new UUID over that of the Restore.
func (m *Machine) replaceUUID(ctx context.Context) error {
	at := m.cfg.Restore.UUID
	_, err := m.Status(ctx) // a copy of a template has mapped the memory when it answers
	if err := errors.Join(err, m.checkRange(Range{at, uuidLen})); err != nil {
		return err
	}
	mem, base, err := m.openMemory()
	if err != nil {
		return err
	}
	defer mem.Close()
	id := newUUID()
	_, err = mem.WriteAt(id[:], base+at)
	return err
}

// openMemory opens the memory of the process, and returns where in it that of the guest
// begins.
func (m *Machine) openMemory() (mem *os.File, base int64, err error) {
	mem, err = os.OpenFile(m.proc.Dir()+"/mem", os.O_WRONLY, 0)
	return mem, m.ramBase.Load(), err
}

func (m *Machine) checkRange(c Range) error {
	if c.At < 0 || c.Length < 0 || c.At > m.cfg.Memory || c.Length > m.cfg.Memory-c.At {
		return fmt.Errorf("%d bytes at %d are not in the memory", c.Length, c.At)
	}
	return nil
}

const uuidLen = 16

// newUUID returns a random UUID, version 4.
func newUUID() (id [uuidLen]byte) {
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// FindInMemory returns where in a part of a booted guest's memory some bytes lie, if they
// do so exactly once.
func (m *Machine) FindInMemory(want []byte, in Range) (at int64, ok bool) {
	if m.cfg.Restore != nil || m.checkRange(in) != nil {
		return 0, false
	}
	memory := make([]byte, in.Length)
	if _, err := m.ram.ReadAt(memory, in.At); err != nil || bytes.Count(memory, want) != 1 {
		return 0, false
	}
	return in.At + int64(bytes.Index(memory, want)), true
}

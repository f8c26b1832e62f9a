package qemu

import (
	"context"
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
	r := m.cfg.Restore
	if len(r.Changed) == 0 {
		return nil
	}
	base, err := m.ramAddress(ctx)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(m.proc.Dir()+"/mem", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	buf := make([]byte, 1<<20)
	for _, c := range r.Changed {
		if c.At < 0 || c.Length < 0 || c.At > m.cfg.Memory || c.Length > m.cfg.Memory-c.At {
			return fmt.Errorf("%d bytes at %d are not in the memory", c.Length, c.At)
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

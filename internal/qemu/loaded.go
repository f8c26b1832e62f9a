package qemu

import (
	"context"
	"errors"
	"net"
	"time"

	"provium/internal/arch"
	"provium/internal/qemu/mtimer"
	"provium/internal/qemu/registers"
)

// timersLimit is how long QEMU may take to set the timers of a guest.
const timersLimit = 10 * time.Second

// startTimers has QEMU wait for the times that are in the state that it has loaded, which it does by itself on other
// architectures than riscv64. The guest must not run.
func (m *Machine) startTimers(ctx context.Context) error {
	if m.cfg.arch() != arch.RISCV64 || m.cfg.Accel == "kvm" { // whose timers are the host kernel's
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timersLimit)
	defer cancel()
	path, err := m.GDB(ctx)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		deadline, _ := ctx.Deadline()
		_ = conn.SetDeadline(deadline)
		err = errors.Join(mtimer.Set(conn, m.cfg.CPUs), conn.Close())
	}
	return errors.Join(err, m.endGDB(ctx))
}

// CPU is the state of one virtual CPU.
type CPU = registers.CPU

// Registers returns the state of all CPUs. Of those that run it is a moment ago.
func (m *Machine) Registers(ctx context.Context) ([]CPU, error) {
	text, err := m.monitor().hmp(ctx, "info registers -a")
	if err != nil {
		return nil, err
	}
	cpus := registers.Parse(text)
	if len(cpus) == 0 {
		return nil, errors.New("unexpected answer of qemu: no registers")
	}
	return cpus, nil
}

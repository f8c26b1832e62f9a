package qemu

import (
	"context"
	"fmt"
	"strings"
)

// Sleep is what of a machine that is in suspend-to-RAM has to be put back once it
// was woken: the firmware (SeaBIOS 1.16 on q35) leaves the power management
// registers where the reset of the wake-up put them, so that a guest could sleep
// once only. Its zero value is of a machine where nothing is known.
type Sleep struct{ lpc []lpcRegister }

// lpcRegister is one of the ICH9's LPC bridge.
type lpcRegister struct{ offset, value uint32 }

// Where the LPC bridge is, and what it says it is; see the ICH9 datasheet.
const (
	configAddress = 0xcf8
	configData    = 0xcfc
	lpcBridge     = 0x8000f800 // 00:1f.0
	lpcIdentity   = 0x29188086
)

// lpcKept are the registers: PMBASE, ACPI_CNTL, RCBA.
var lpcKept = [...]uint32{0x40, 0x44, 0xf0}

// Asleep reads them. The vCPUs must not run.
func (m *Machine) Asleep(ctx context.Context) (Sleep, error) {
	var s Sleep
	err := m.withConfigAddress(ctx, func() error {
		id, err := m.readLPC(ctx, 0)
		if err != nil || id != lpcIdentity {
			return err
		}
		for _, offset := range lpcKept {
			v, err := m.readLPC(ctx, offset)
			if err != nil {
				return err
			}
			s.lpc = append(s.lpc, lpcRegister{offset, v})
		}
		return nil
	})
	return s, err
}

// Awake puts back what the wake-up lost. The vCPUs must not run.
func (m *Machine) Awake(ctx context.Context, s Sleep) error {
	if s.lpc == nil {
		return nil
	}
	return m.withConfigAddress(ctx, func() error {
		for _, r := range s.lpc {
			if err := m.outl(ctx, configAddress, lpcBridge|r.offset); err != nil {
				return err
			}
			if err := m.outl(ctx, configData, r.value); err != nil {
				return err
			}
		}
		return nil
	})
}

// withConfigAddress leaves the address register as it was: the guest may be in
// the middle of an access.
func (m *Machine) withConfigAddress(ctx context.Context, do func() error) error {
	was, err := m.inl(ctx, configAddress)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return m.outl(ctx, configAddress, was)
}

func (m *Machine) readLPC(ctx context.Context, offset uint32) (uint32, error) {
	if err := m.outl(ctx, configAddress, lpcBridge|offset); err != nil {
		return 0, err
	}
	return m.inl(ctx, configData)
}

// inl reads a 32-bit I/O port as a vCPU does.
func (m *Machine) inl(ctx context.Context, port uint32) (uint32, error) {
	text, err := m.monitor().hmp(ctx, fmt.Sprintf("i /w %#x", port))
	if err != nil {
		return 0, err
	}
	var at, v uint32
	if _, err := fmt.Sscanf(strings.TrimSpace(text), "portl[0x%x] = 0x%x", &at, &v); err != nil {
		return 0, fmt.Errorf("qemu monitor: port %#x: %q", port, text)
	}
	return v, nil
}

func (m *Machine) outl(ctx context.Context, port, v uint32) error {
	text, err := m.monitor().hmp(ctx, fmt.Sprintf("o /w %#x %#x", port, v))
	if err == nil && strings.TrimSpace(text) != "" {
		err = fmt.Errorf("qemu monitor: port %#x: %q", port, text)
	}
	return err
}

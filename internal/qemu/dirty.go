package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"provium/internal/pagemap"
)

// pageSize is what a restored guest's memory is tracked in, in bytes.
const pageSize = 4096

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
	pages, err := os.Open(m.proc.Dir() + "/pagemap")
	if err != nil {
		return err
	}
	defer pages.Close()
	mem, err := os.Open(m.proc.Dir() + "/mem")
	if err != nil {
		return err
	}
	defer mem.Close()
	return pagemap.VisitPrivate(ctx, mem, pages, base, m.cfg.Memory, visit)
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

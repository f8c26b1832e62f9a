package lab

import (
	"context"
	"errors"
	"time"

	"provium/internal/instance"
	"provium/internal/pattern"
	"provium/internal/stream"
	"provium/internal/topology"
)

// Console is a VM's console: what ttyS0 and hvc0 printed.
type Console struct{ vm *VM }

// Console returns the VM's console; it is checked when used.
func (v *VM) Console() Console { return Console{v} }

// VM returns the machine whose console it is.
func (c Console) VM() *VM { return c.vm }

// printed returns what the VM has printed; nil before the first boot.
func (c Console) printed() *instance.Console {
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	return c.vm.console
}

// ReadLog returns everything printed since the first boot, also after the guest's end.
func (c Console) ReadLog() ([]byte, error) {
	if p := c.printed(); p != nil {
		return p.ReadAll()
	}
	return nil, nil
}

// Tail returns the last n bytes printed. If the log cannot be read, the text, which is
// only for people, says so.
func (c Console) Tail(n int) string {
	if p := c.printed(); p != nil {
		return p.Tail(n)
	}
	return ""
}

// Expect waits until a match of p has been printed after the previous match, or since
// the last boot. The position is one per VM.
func (c Console) Expect(ctx context.Context, p pattern.Pattern, timeout time.Duration) (*pattern.Match, error) {
	printed := c.printed()
	if printed == nil {
		return nil, c.vm.stateError("console:expect", topology.Booted)
	}
	return printed.Expect(ctx, p, timeout)
}

// Read opens a stream of what the console prints: the first one of a boot from its
// beginning, later ones from where the previous one stopped.
func (c Console) Read(site stream.Site) (*stream.Stream, error) {
	p := c.printed()
	switch {
	case p == nil:
		return nil, c.vm.stateError("console:read", topology.Booted)
	case c.vm.host.Local:
		return nil, errors.New("console:read: VMM does not expose a console socket")
	}
	return c.vm.opened.AddStream(stream.Config{Kind: "console_read", Detail: c.vm.name, Noun: "console", Site: site,
		Source: p.NewSource(c.vm.opened.Streams(nil))}), nil
}

// Write sends input to the console: to the device that the last console= of the command
// line names. A limit of 0 waits without limit.
func (c Console) Write(ctx context.Context, data []byte, limit time.Duration) error {
	inst, err := c.vm.running("console:write", topology.Booted)
	switch {
	case err != nil:
		return err
	case c.vm.host.Local:
		return errors.New("console:write: VMM does not expose a console socket")
	}
	return inst.WriteConsole(ctx, data, limit)
}

package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"provium/internal/qemu/commandrules"
	"provium/internal/qmp"
)

// RefusedError is returned for a command that would break Provium's own control of a machine.
type RefusedError struct{ Command, Reason string }

func (e *RefusedError) Error() string { return fmt.Sprintf("qmp %s: refused: %s", e.Command, e.Reason) }

// alteration remembers the first command that has made another machine of this one.
type alteration struct {
	mu sync.Mutex
	by string
}

func (a *alteration) note(command string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == "" {
		a.by = command
	}
}

// check returns an error when a snapshot would not fit the machine that is made for it.
func (a *alteration) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == "" {
		return nil
	}
	return fmt.Errorf("the machine was changed by vm:qmp(%q): a restore would start one without the change", a.by)
}

// maxCommand caps a command with its arguments, in bytes.
const maxCommand = 1 << 20

// MonitorCommand carries out a command of the monitor whose effect is unknown here, and returns
// what QEMU returns. A refusal of QEMU is a *qmp.Error, one of ours a *RefusedError. The
// machine cannot be saved after a command that has changed its devices.
func (m *Machine) MonitorCommand(ctx context.Context, command string, arguments json.RawMessage) (json.RawMessage,
	error) {
	if len(command)+len(arguments) > maxCommand {
		return nil, fmt.Errorf("qmp: a command of more than %d KiB", maxCommand>>10)
	}
	if err := m.consider(command, arguments); err != nil {
		return nil, err
	}
	var args any
	if len(arguments) > 0 {
		args = arguments
	}
	var out json.RawMessage
	err := m.monitor().all(ctx, qmp.Command{Name: command, Arguments: args, Out: &out})
	return out, err
}

// consider refuses a command, or remembers what it does to the machine.
func (m *Machine) consider(command string, arguments json.RawMessage) error {
	name, ids, err := commandrules.Meaning(command, arguments)
	if err != nil {
		return err
	}
	if why := commandrules.Refusal(name); why != "" {
		return &RefusedError{name, why}
	}
	if !commandrules.Alters(name) {
		return nil
	}
	for _, id := range ids {
		if commandrules.IsOwn(id) {
			return &RefusedError{name, fmt.Sprintf("`%s` is Provium's own", id)}
		}
	}
	m.altered.note(name)
	return nil
}

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"provium/internal/qmp"
)

// RefusedError is returned for a command that would break Provium's own control of a machine.
type RefusedError struct{ Command, Reason string }

func (e *RefusedError) Error() string { return fmt.Sprintf("qmp %s: refused: %s", e.Command, e.Reason) }

// refusals are commands of the monitor, and of that for people, with what does the same.
var refusals = map[string]string{
	"quit": "use vm:shutdown()", "q": "use vm:shutdown()",
	"stop": "use vm:pause()", "s": "use vm:pause()",
	"cont": "use vm:resume()", "c": "use vm:resume()",
	"system_reset": "use vm:reset()", "system_wakeup": "use vm:wakeup()", "system_powerdown": "use vm:power_button()",
	"gdbserver":              "use vm:gdb()",
	"xen-save-devices-state": "use vm:snapshot()", "xen-load-devices-state": "use vm:restore()",
	"qmp_capabilities": "it is done when the machine starts",
	"set-action":       "what a panic does follows from the boot option `expect_panic`",
	"x-exit-preconfig": "the machine is configured", "exit_preconfig": "the machine is configured",
	"commit": useSnapshot, "savevm": useSnapshot, "loadvm": useSnapshot, "delvm": useSnapshot,
	"snapshot-save": useSnapshot, "snapshot-load": useSnapshot, "snapshot-delete": useSnapshot,
	"getfd": noDescriptors, "closefd": noDescriptors, "add-fd": noDescriptors, "remove-fd": noDescriptors,
	"get-win32-socket": noDescriptors,
	"singlestep":       "it changes all timing", "one-insn-per-tb": "it changes all timing",
}

const (
	useSnapshot   = "use vm:snapshot() and vm:restore()"
	noDescriptors = "no descriptors can be passed; name a path"
)

// refusal returns why a command is refused, "" for one that is not.
func refusal(command string) string {
	if why := refusals[command]; why != "" {
		return why
	}
	for _, prefix := range []string{"migrate", "x-colo", "calc-dirty-rate", "client_migrate"} {
		if strings.HasPrefix(command, prefix) {
			return useSnapshot
		}
	}
	return ""
}

// alterations are the beginnings of commands after which the machine is another one than the
// one of its description. With `-` and `_` both forms of the two monitors are meant.
var alterations = []string{"device_add", "device_del", "netdev_add", "netdev_del", "object_add", "object_del",
	"chardev_add", "chardev_remove", "chardev_change", "blockdev_", "block_", "drive_", "nbd_", "qom_set", "eject",
	"change", "mouse_set", "hostfwd_", "cpu_add",
	"x_blockdev", "transaction"}

// ownNames are the beginnings of the names of Provium's own devices and backends, each
// followed by a digit or nothing.
var ownNames = []string{"disk", "nic", "net", "vser", "agentport", "agent", "ram", "rng", "plug", "nics", "qmp",
	"ttyS", "hvc", "pflash", "scsi", displayID}

// isOwn reports whether a name is one of Provium's own devices or backends.
func isOwn(name string) bool {
	base, _, _ := strings.Cut(name, "-data")
	base = strings.TrimRight(base, "0123456789")
	for _, own := range ownNames {
		if base == own {
			return true
		}
	}
	return false
}

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
	name, ids, err := meaning(command, arguments)
	if err != nil {
		return err
	}
	if why := refusal(name); why != "" {
		return &RefusedError{name, why}
	}
	normal := strings.ReplaceAll(name, "-", "_")
	for _, prefix := range alterations {
		if !strings.HasPrefix(normal, prefix) {
			continue
		}
		for _, id := range ids {
			if isOwn(id) {
				return &RefusedError{name, fmt.Sprintf("`%s` is Provium's own", id)}
			}
		}
		m.altered.note(name)
		break
	}
	return nil
}

// meaning returns the command that is meant, which may stand in the arguments, and the names
// in its arguments.
func meaning(command string, arguments json.RawMessage) (name string, ids []string, err error) {
	var a struct {
		Line   string `json:"command-line"`
		ID     string `json:"id"`
		Node   string `json:"node-name"`
		Device string `json:"device"`
		Path   string `json:"path"`
	}
	if len(arguments) > 0 {
		if err := json.Unmarshal(arguments, &a); err != nil {
			return "", nil, errors.New("qmp: the arguments must be a table of named values")
		}
	}
	if command != "human-monitor-command" {
		last := a.Path[strings.LastIndexByte(a.Path, '/')+1:]
		return command, []string{a.ID, a.Node, a.Device, last}, nil
	}
	words := strings.FieldsFunc(a.Line, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == '=' })
	if len(words) == 0 {
		return command, nil, nil
	}
	name, _, _ = strings.Cut(words[0], "/") // a format
	return name, words[1:], nil
}

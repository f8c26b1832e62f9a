// Package commandrules knows which commands of QEMU's monitor would take a machine out of Provium's hands, and which
// make another machine of it.
//
// It carries out none. Start with Refusal and Alters.
package commandrules

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

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

// Refusal returns why a command is refused, "" for one that is not.
func Refusal(command string) string {
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

// Alters reports whether the machine is another one after a command than that of its description.
func Alters(command string) bool {
	normal := strings.ReplaceAll(command, "-", "_")
	return slices.ContainsFunc(alterations, func(prefix string) bool { return strings.HasPrefix(normal, prefix) })
}

// ownNames are the beginnings of the names of Provium's own devices and backends, each
// followed by a digit or nothing.
var ownNames = []string{"disk", "nic", "net", "vser", "agentport", "agent", "ram", "rng", "plug", "nics", "qmp",
	"ttyS", "hvc", "pflash", "scsi", "display", "share", "tpm"}

// IsOwn reports whether a name is one of Provium's own devices or backends.
func IsOwn(name string) bool {
	base, _, _ := strings.Cut(name, "-data")
	base = strings.TrimRight(base, "0123456789")
	for _, own := range ownNames {
		if base == own {
			return true
		}
	}
	return false
}

// Meaning returns the command that is meant, which may stand in the arguments, and the names
// in its arguments.
func Meaning(command string, arguments json.RawMessage) (name string, ids []string, err error) {
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

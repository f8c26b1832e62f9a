package qemu

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestForeignCommands has what happens to commands of which a machine knows nothing.
func TestForeignCommands(t *testing.T) {
	for _, tc := range []struct{ command, arguments, refused, altered string }{
		{"query-status", "", "", ""},
		{"send-key", `{"keys": []}`, "", ""},
		{"quit", "", "use vm:shutdown()", ""},
		{"cont", "", "use vm:resume()", ""},
		{"migrate", `{"uri": "tcp:0:4444"}`, "use vm:snapshot()", ""},
		{"migrate-set-parameters", "", "use vm:snapshot()", ""},
		{"getfd", "", "no descriptors can be passed", ""},
		{"human-monitor-command", `{"command-line": "info registers"}`, "", ""},
		{"human-monitor-command", `{"command-line": "  quit"}`, "use vm:shutdown()", ""},
		{"human-monitor-command", `{"command-line": "gdbserver tcp::1"}`, "use vm:gdb()", ""},
		{"human-monitor-command", `{"command-line": "device_del nic2"}`, "`nic2` is Provium's own", ""},
		{"human-monitor-command", `{"command-line": "device_add edu"}`, "", "device_add"},
		{"human-monitor-command", `{"command-line": " "}`, "", ""},
		{"device_add", `{"driver": "edu"}`, "", "device_add"},
		{"device_del", `{"id": "disk1"}`, "`disk1` is Provium's own", ""},
		{"blockdev-del", `{"node-name": "disk1-data2"}`, "`disk1-data2` is Provium's own", ""},
		{"device_del", `{"id": "diskette"}`, "", "device_del"},
		{"qom-set", `{"path": "/machine/peripheral/nic1", "property": "x"}`, "`nic1` is Provium's own", ""},
		{"query-status", `[1]`, "must be a table of named values", ""},
	} {
		var m Machine
		var args json.RawMessage
		if tc.arguments != "" {
			args = json.RawMessage(tc.arguments)
		}
		err := m.consider(tc.command, args)
		if tc.refused == "" && err != nil ||
			tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)) {
			t.Errorf("%s %s: %v, want %q", tc.command, tc.arguments, err, tc.refused)
		}
		err = m.altered.check()
		if (tc.altered != "") != (err != nil) || err != nil && !strings.Contains(err.Error(), tc.altered) {
			t.Errorf("%s %s: %v, want %q", tc.command, tc.arguments, err, tc.altered)
		}
	}
	var m Machine
	if _, err := m.MonitorCommand(t.Context(), "x", make(json.RawMessage, maxCommand)); err == nil {
		t.Error("a command of any size")
	}
	var refused *RefusedError
	if _, err := m.MonitorCommand(t.Context(), "quit", nil); !errors.As(err, &refused) {
		t.Error(err)
	}
}

// TestNVMeIsNotSaved knows the disks that a machine has at the moment.
func TestNVMeIsNotSaved(t *testing.T) {
	nvme := Disk{Slot: 1, Model: DiskModel{Bus: NVMe}}
	m := Machine{}
	m.disks.add(nvme, Disk{Slot: 2, Model: DiskModel{Bus: VirtioSCSI}})
	if m.saveable() == nil {
		t.Error("with the disk that it was started with")
	}
	m.disks.remove(nvme)
	if err := m.saveable(); err != nil {
		t.Error(err)
	}
	m.disks.add(nvme)
	if m.saveable() == nil {
		t.Error("with a disk that was plugged in")
	}
}

package journal

import (
	"strings"

	"provium/internal/disk"
	"provium/internal/event"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/network"
)

// IsChange reports whether the method of that name, such as bridge:partition, changes a
// network, a disk or a clock.
func IsChange(method string) bool {
	switch kind, name, _ := strings.Cut(method, ":"); kind {
	case "bridge":
		return isBridgeChange(name)
	case "nic":
		return name == "disconnect" || name == "reconnect"
	case "disk":
		return isDiskChange(name)
	case "clock":
		return name == "set" || name == "set_ns" || name == "advance" || name == "sync" || name == "warp"
	case "vm", "worker":
		return name == "attach_disk"
	}
	return false
}

func isBridgeChange(name string) bool {
	switch name {
	case "attach", "detach", "close", "partition", "unpartition", "partition_all", "restore_all", "isolate",
		"unisolate", "reset", "add_latency", "add_jitter", "drop_rate", "duplicate_rate", "reorder_rate",
		"corrupt_rate", "bandwidth_limit", "add_directional_latency", "directional_drop_rate", "gilbert_elliott",
		"route", "enable_uplink", "disable_uplink", "forward":
		return true
	}
	return false
}

func isDiskChange(name string) bool {
	switch name {
	case "fault_inject", "clear_faults", "fail_reads", "fail_writes", "clear_policy", "fail_after", "fail_range",
		"delay", "inject", "clear_rule", "clear_rules", "resize", "power_cut", "power_on", "detach":
		return true
	}
	return false
}

// change describes what a method has changed, nil for one that changes nothing.
func change(path string, c Call, method string, object any, values []lua.Value) event.Event {
	if !IsChange(method) {
		return nil
	}
	_, name, _ := strings.Cut(method, ":")
	ofDisk := func(d *disk.Disk) event.Event {
		return event.DiskChanged{Path: path, Name: c.Test, VMName: d.Owner().Name(), Disk: d.ID(), Change: name,
			Call: c.Text, Where: c.Where}
	}
	switch o := object.(type) {
	case *network.Bridge:
		return event.NetworkChanged{Path: path, Name: c.Test, Bridge: o.Name(), Change: name, Call: c.Text,
			Where: c.Where}
	case *network.NIC:
		return event.NetworkChanged{Path: path, Name: c.Test, Bridge: o.Bridge().Name(), VMName: o.VMName(),
			Change: name, Call: c.Text, Where: c.Where}
	case *disk.Disk:
		return ofDisk(o)
	case handle.Clock:
		return event.ClockChanged{Path: path, Name: c.Test, VMName: o.VM().Name(), Change: name, Call: c.Text,
			Where: c.Where}
	}
	if len(values) == 1 { // vm:attach_disk
		if u, ok := values[0].(*lua.Userdata); ok {
			if d, ok := u.Object().(*disk.Disk); ok {
				return ofDisk(d)
			}
		}
	}
	return nil
}

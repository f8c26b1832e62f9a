package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// nicBus is a conventional PCI bus behind a bridge of its own: NICs can be added
// and taken off while the guest runs, and the guest finds them in the order of
// their slots. The bridge is in a fixed place, so that the agent can tell NICs
// by theirs.
const (
	nicBus      = "nics"
	nicBridgeAt = "1e.0" // device and function on the root bus
	// MaxSlot is the last slot of a NIC; the first one is 1.
	MaxSlot = 31
)

// nicBridge is the device that makes the nicBus on this type of machine; "" is a
// machine without one.
func (c *Config) nicBridge() string {
	switch {
	case c.Machine == "pc" || strings.Contains(c.Machine, "i440fx"):
		return "pci-bridge,chassis_nr=2,id=" + nicBus + ",addr=" + nicBridgeAt
	case strings.Contains(c.Machine, "q35"):
		return "pcie-pci-bridge,id=" + nicBus + ",addr=" + nicBridgeAt
	}
	return ""
}

// NIC is a network interface of the guest (virtio-net). It exchanges Ethernet
// frames over a stream, each behind its length in four bytes, big-endian.
type NIC struct {
	Slot   int    // 1 to MaxSlot
	MAC    string // "" is for comparing machines only
	Socket string // unix socket that QEMU connects to
}

// ID is the device's name in QEMU.
func (n *NIC) ID() string { return fmt.Sprintf("nic%d", n.Slot) }

func (n *NIC) netdev() string { return fmt.Sprintf("net%d", n.Slot) }

// Path tells where the guest finds the device: device and function of each step
// from the root bus.
func (n *NIC) Path() string { return fmt.Sprintf("%s/%02x.0", nicBridgeAt, n.Slot) }

// A restored NIC has nothing to announce, and with no rounds of announcing set,
// QEMU 7.2 loses the timer of the guest's own announcements at a restore and
// crashes over it at the next reset: guests are not offered them (guest_announce).

// args are the options for a NIC that is there from the start. Nobody boots
// from it: without its ROM the firmware has less to do.
func (n *NIC) args() []string {
	device := fmt.Sprintf("virtio-net-pci,id=%s,netdev=%s,bus=%s,addr=%#x,"+
		"disable-legacy=on,guest_announce=off,romfile=", n.ID(), n.netdev(), nicBus, n.Slot)
	if n.MAC != "" {
		device += ",mac=" + n.MAC
	}
	return []string{
		"-netdev", fmt.Sprintf("stream,id=%s,server=off,addr.type=unix,addr.path=%s",
			n.netdev(), escapeComma(n.Socket)),
		"-device", device,
	}
}

// PlugNIC adds a NIC to a machine that runs or is paused. It returns when QEMU
// has it, which is before the guest has.
func (m *Machine) PlugNIC(ctx context.Context, n NIC) error {
	err := m.qmp.Execute(ctx, "netdev_add", map[string]any{"type": "stream", "id": n.netdev(), "server": false,
		"addr": map[string]string{"type": "unix", "path": n.Socket}}, nil)
	if err != nil {
		return err
	}
	err = m.qmp.Execute(ctx, "device_add", map[string]any{
		"driver": "virtio-net-pci", "id": n.ID(), "netdev": n.netdev(),
		"bus": nicBus, "addr": fmt.Sprintf("%#x", n.Slot), "disable-legacy": "on",
		"guest_announce": "off", "romfile": "", "mac": n.MAC,
	}, nil)
	if err != nil {
		_ = m.qmp.Execute(ctx, "netdev_del", map[string]string{"id": n.netdev()}, nil)
	}
	return err
}

// UnplugNIC takes a NIC away and returns when the guest has let go of it.
func (m *Machine) UnplugNIC(ctx context.Context, n NIC) error {
	gone := m.deleted.expect(n.ID())
	defer m.deleted.forget(n.ID())
	if err := m.qmp.Execute(ctx, "device_del", map[string]string{"id": n.ID()}, nil); err != nil {
		return err
	}
	select {
	case <-gone:
	case <-m.qmp.Done():
		return errors.New("qemu ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return m.qmp.Execute(ctx, "netdev_del", map[string]string{"id": n.netdev()}, nil)
}

// SetLink sets the carrier of a NIC.
func (m *Machine) SetLink(ctx context.Context, n NIC, up bool) error {
	return m.qmp.Execute(ctx, "set_link", map[string]any{"name": n.ID(), "up": up}, nil)
}

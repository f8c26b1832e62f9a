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

// nicBridge is the device that makes the nicBus on this type of machine; nil is a
// machine without one.
func (c *Config) nicBridge() *bridgeDevice {
	switch {
	case c.Machine == "pc" || strings.Contains(c.Machine, "i440fx"):
		return &bridgeDevice{Driver: "pci-bridge", ID: nicBus, Chassis: 2, Addr: nicBridgeAt}
	case strings.Contains(c.Machine, "q35"):
		return &bridgeDevice{Driver: "pcie-pci-bridge", ID: nicBus, Addr: nicBridgeAt}
	}
	return nil
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

// device is the description of the interface. Nobody boots from it: without its ROM the
// firmware has less to do.
func (n *NIC) device() netDevice {
	return netDevice{Driver: "virtio-net-pci", ID: n.ID(), Netdev: n.netdev(), Bus: nicBus, Addr: slot(n.Slot),
		DisableLegacy: on, GuestAnnounce: false, MAC: n.MAC}
}

// backend is the description of its connection.
func (n *NIC) backend() netBackend {
	return netBackend{Type: "stream", ID: n.netdev(), Addr: unixAddress{"unix", n.Socket}}
}

// PlugNIC adds a NIC to a machine that runs or is paused. It returns when QEMU
// has it, which is before the guest has.
func (m *Machine) PlugNIC(ctx context.Context, n NIC) error {
	if err := m.monitor().netdevAdd(ctx, n.backend()); err != nil {
		return err
	}
	err := m.monitor().deviceAdd(ctx, n.device())
	if err != nil {
		_ = m.monitor().netdevDel(ctx, n.netdev())
	}
	return err
}

// UnplugNIC takes a NIC away and returns when the guest has let go of it.
func (m *Machine) UnplugNIC(ctx context.Context, n NIC) error {
	gone := m.deleted.expect(n.ID())
	defer m.deleted.forget(n.ID())
	if err := m.monitor().deviceDel(ctx, n.ID()); err != nil {
		return err
	}
	select {
	case <-gone:
	case <-m.qmp.Done():
		return errors.New("qemu ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return m.monitor().netdevDel(ctx, n.netdev())
}

// SetLink sets the carrier of a NIC.
func (m *Machine) SetLink(ctx context.Context, n NIC, up bool) error {
	return m.monitor().setLink(ctx, n.ID(), up)
}

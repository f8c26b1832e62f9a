package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"provium/internal/syncpoint"
)

// Where a NIC is depends on when it came. Those of a boot are on the root bus, one behind
// the other, so that the guest finds them there in their order. QEMU can neither add one
// to that bus nor take one away while the guest runs: those that come later are on a bus
// behind a bridge of its own. All are in fixed places, by which the agent knows them.
const (
	nicBus      = "nics"
	nicBridgeAt = "1e.0" // device and function on the root bus

	// RootSlots is the last slot on the root bus. The slots behind it, up to MaxSlot, are
	// for NICs that come and go while the guest runs, or do not fit there.
	RootSlots = 24
	// MaxSlot is the last slot of a NIC; the first one is 1.
	MaxSlot = RootSlots + MaxNICs
	// MaxNICs is how many NICs a machine can have that all came while the guest ran.
	MaxNICs = 31

	firstRootNIC = 2 // device number on the root bus of slot 1
)

// rootBus is the name of the root bus on this type of machine; "" is a machine without
// PCI, or with one that is not known.
func (c *Config) rootBus() string {
	switch {
	case c.Machine == "pc" || strings.Contains(c.Machine, "i440fx"):
		return "pci.0"
	case strings.Contains(c.Machine, "q35"), c.isVirt():
		return "pcie.0"
	}
	return ""
}

// isVirt reports whether the machine is QEMU's own one without a model, which other
// architectures than x86-64 have.
func (c *Config) isVirt() bool { return c.Machine == "virt" || strings.HasPrefix(c.Machine, "virt-") }

// fixedDevice is the place on the root bus of a device which is not a NIC: behind those
// of all NICs. Where the bus is not known, QEMU finds a place.
func (c *Config) fixedDevice(device int) string {
	if c.rootBus() == "" {
		return ""
	}
	return slot(device)
}

// Devices on the root bus that are not NICs.
const (
	serialAt = firstRootNIC + RootSlots + iota // 0x1a
	rngAt
	plugBridgeAt
	vsockAt
)

// nicBridge is the device that makes the nicBus on this type of machine; nil is a
// machine without one.
func (c *Config) nicBridge() *bridgeDevice {
	switch c.rootBus() {
	case "pci.0":
		return &bridgeDevice{Driver: "pci-bridge", ID: nicBus, Chassis: 2, Addr: nicBridgeAt}
	case "pcie.0":
		return &bridgeDevice{Driver: "pcie-pci-bridge", ID: nicBus, Addr: nicBridgeAt}
	}
	return nil
}

// NIC is a network interface of the guest (virtio-net). It exchanges Ethernet
// frames over a stream, each behind its length in four bytes, big-endian.
type NIC struct {
	Slot   int    // 1 to MaxSlot; IsRoot tells where
	MAC    string // "" is for comparing machines only
	Socket string // unix socket that QEMU connects to
	// Quiet keeps frames from the connection until release is called, as it must be. It reports
	// whether QEMU has taken all that were sent, so that another connection can take the place of
	// this one. Nil: nobody knows.
	Quiet func() (release func(), ok bool)

	// Paced takes the place of Socket and Quiet for a deterministic guest.
	Paced *PacedNIC
}

// PacedNIC is the connection of a NIC of a deterministic guest: both its ends, which Start copies, and what frames pass
// through.
type PacedNIC struct {
	QEMU, Host *os.File // Host does not block
	Link       syncpoint.Link
}

// transmitTimer is how long a deterministic guest's frames wait in its own time, in nanoseconds.
const transmitTimer = 10_000

// ID is the device's name in QEMU.
func (n *NIC) ID() string { return fmt.Sprintf("nic%d", n.Slot) }

func (n *NIC) netdev() string { return fmt.Sprintf("net%d", n.Slot) }

// IsRoot reports whether the NIC is on the root bus, where it stays as long as the guest
// runs.
func (n *NIC) IsRoot() bool { return n.Slot <= RootSlots }

// number is the number of the device on its bus.
func (n *NIC) number() int {
	if n.IsRoot() {
		return firstRootNIC + n.Slot - 1
	}
	return n.Slot - RootSlots
}

// Path tells where the guest finds the device: device and function of each step
// from the root bus.
func (n *NIC) Path() string {
	at := fmt.Sprintf("%02x.0", n.number())
	if n.IsRoot() {
		return at
	}
	return nicBridgeAt + "/" + at
}

// A restored NIC has nothing to announce, and with no rounds of announcing set,
// QEMU 7.2 loses the timer of the guest's own announcements at a restore and
// crashes over it at the next reset: guests are not offered them (guest_announce).

// device is the description of the interface. Nobody boots from it: without its ROM the
// firmware has less to do.
func (n *NIC) device(rootBus string) netDevice {
	bus := nicBus
	if n.IsRoot() {
		bus = rootBus
	}
	return netDevice{Driver: "virtio-net-pci", ID: n.ID(), Netdev: n.netdev(), Bus: bus, Addr: slot(n.number()),
		DisableLegacy: on, GuestAnnounce: false, MAC: n.MAC}
}

// pacedDevice is device for a deterministic guest.
func (n *NIC) pacedDevice(rootBus string) netDevice {
	d := n.device(rootBus)
	d.Transmit, d.TransmitTimer, d.IOEventFD = "timer", transmitTimer, new(bool)
	return d
}

// backend is the description of its connection.
func (n *NIC) backend() netBackend {
	return netBackend{Type: "stream", ID: n.netdev(), Addr: unixAddress{"unix", n.Socket}}
}

// PlugNIC adds a NIC that is not on the root bus to a machine that runs or is paused. It
// returns when QEMU has it, which is before the guest has.
func (m *Machine) PlugNIC(ctx context.Context, n NIC) error {
	if m.pacer != nil {
		return errors.New("deterministic: the guest would see when a network interface is plugged; attach the VM to " +
			"its bridges before it boots")
	}
	if err := m.monitor().netdevAdd(ctx, n.backend()); err != nil {
		return err
	}
	err := m.monitor().deviceAdd(ctx, n.device(m.cfg.rootBus()))
	if err != nil {
		_ = m.monitor().netdevDel(ctx, n.netdev())
		return err
	}
	m.nics.add(n)
	return nil
}

// UnplugNIC takes a NIC away and returns when the guest has let go of it.
func (m *Machine) UnplugNIC(ctx context.Context, n NIC) error {
	if a := m.cfg.arch(); !a.HotPlug {
		return fmt.Errorf("a guest of %s cannot release a network interface while it runs", a)
	}
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
	if err := m.monitor().netdevDel(ctx, n.netdev()); err != nil {
		return err
	}
	m.nics.remove(n)
	return nil
}

func (n NIC) place() int { return n.Slot }

// holdNICs keeps frames from all NICs, which it returns, until release is called. It reports whether all are
// quiet.
func (m *Machine) holdNICs() (list []NIC, release func(), ok bool) {
	list = m.nics.all()
	var held []func()
	release = func() {
		for _, r := range held {
			r()
		}
	}
	for _, n := range list {
		if n.Quiet == nil {
			return list, release, false
		}
		r, quiet := n.Quiet()
		held = append(held, r)
		if !quiet {
			return list, release, false
		}
	}
	return list, release, true
}

// SetLink sets the carrier of a NIC.
func (m *Machine) SetLink(ctx context.Context, n NIC, up bool) error {
	set := func() error { return m.monitor().setLink(ctx, n.ID(), up) }
	if m.pacer != nil {
		return m.pacer.AtRest(ctx, set)
	}
	return set()
}

package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/qemu"
	"provium/internal/syncpoint"
)

// Machine adds network devices to a running guest. *qemu.Machine implements it.
type Machine interface {
	PlugNIC(ctx context.Context, n qemu.NIC) error
	UnplugNIC(ctx context.Context, n qemu.NIC) error
	SetLink(ctx context.Context, n qemu.NIC, up bool) error
}

// Agent configures the interfaces of a running guest. *guest.Client implements
// it.
type Agent interface {
	Network(ctx context.Context, config *guest.Network) error
}

// Foreign is the Agent of a guest that configures its network itself. It does nothing.
type Foreign struct{}

// Network implements Agent.
func (Foreign) Network(context.Context, *guest.Network) error { return nil }

// PlannedNIC is an interface that a guest starts with, or has at a snapshot.
type PlannedNIC struct {
	NIC    *NIC   // nil: the VM is on no such bridge
	Bridge string // name
	Label  string // of the NIC
	Slot   int    // of the device, 1 to qemu.MaxSlot
	Name   string // in the guest
	// Gone is a device that the guest has been told to forget, since its bridge is closed
	// and it cannot be unplugged. It is on no bridge any more.
	Gone bool
}

// Plan returns the interfaces that a boot of the VM starts with.
func (n *Network) Plan(s Station) []PlannedNIC {
	var out []PlannedNIC
	for i, nic := range n.NICs(s) {
		out = append(out, PlannedNIC{nic, nic.bridge.name, nic.label, i + 1, fmt.Sprintf("eth%d", i), false})
	}
	return out
}

// Devices returns the devices of planned interfaces, as far as they make a
// difference to a saved state: their slots.
func Devices(planned []PlannedNIC) []qemu.NIC {
	out := make([]qemu.NIC, len(planned))
	for i, p := range planned {
		out[i].Slot = p.Slot
	}
	return out
}

// Netdevs are the network interfaces of one running guest. They are safe for
// concurrent use.
type Netdevs struct {
	net     *Network
	station Station // nil for a guest that belongs to no VM yet
	dir     string

	mu    sync.Mutex
	list  []*netdev
	stale bool             // the guest does not know its latest configuration
	wires *Wires           // nil unless the guest is deterministic
	mixed error            // of Adopt
	join  func(again bool) // nil unless the guest is deterministic
}

// NewNetdevs returns the interfaces of a guest of s, of which there are none yet.
// Their sockets are created in dir. s is nil for a guest that belongs to no VM yet.
// The caller must close them.
func (n *Network) NewNetdevs(s Station, dir string) *Netdevs {
	return &Netdevs{net: n, station: s, dir: dir}
}

// Pace says that the guest is deterministic, and returns the group that its time depends on. join is called when the
// guest knows its configuration, with again for one that has booted once more.
func (d *Netdevs) Pace(wires *Wires, join func(again bool)) *syncpoint.Group {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wires, d.join = wires, join
	return wires.group
}

// Create creates the interfaces of a guest that is about to start and returns
// their devices. On an error none is left. A guest that is not restored sees the
// carrier of its interfaces at once, a restored one when Sync is called.
func (d *Netdevs) Create(planned []PlannedNIC, restored bool) ([]qemu.NIC, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var devices []qemu.NIC
	for _, p := range planned {
		c, err := newNetdev(d.dir, p, d.wires)
		if err != nil {
			d.closeAll()
			return nil, err
		}
		if restored {
			c.assumeLink()
		}
		d.list = append(d.list, c)
		devices = append(devices, c.dev)
	}
	return devices, nil
}

// CreateUnbound is Create for a guest that belongs to no VM yet: nobody is at the
// other end of its interfaces until Adopt.
func (d *Netdevs) CreateUnbound(planned []PlannedNIC) ([]qemu.NIC, error) {
	planned = slices.Clone(planned)
	for i := range planned {
		planned[i].NIC = nil
	}
	return d.Create(planned, true)
}

// Adopt takes over the interfaces that CreateUnbound has created for another
// Netdevs, which has none then, as planned.
func (d *Netdevs) Adopt(from *Netdevs, planned []PlannedNIC) {
	from.mu.Lock()
	list := from.list
	from.list = nil
	from.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range list {
		at := slices.IndexFunc(planned, func(p PlannedNIC) bool { return p.Slot == c.dev.Slot })
		if at < 0 {
			continue
		}
		c.bridge, c.label = planned[at].Bridge, planned[at].Label
		c.ifname, c.gone = planned[at].Name, planned[at].Gone
		if planned[at].NIC != nil {
			if err := c.bind(planned[at].NIC); err != nil {
				d.mixed = err
				continue
			}
			c.assumeLink()
		}
	}
	d.list = list
}

// assumeLink sets the carrier that QEMU is assumed to have after a restore to the
// opposite of what is wanted, so that Sync sets it in any case.
func (d *netdev) assumeLink() { d.up = d.nic == nil || !d.nic.carrier() }

// Close unplugs all interfaces from their bridges.
func (d *Netdevs) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.list { // still listed: a snapshot may ask for them
		c.close()
	}
}

// closeAll closes the interfaces and forgets them. The caller must hold d.mu.
func (d *Netdevs) closeAll() {
	for _, c := range d.list {
		c.close()
	}
	d.list = nil
}

// Planned returns the present interfaces in order of slots.
func (d *Netdevs) Planned() []PlannedNIC {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]PlannedNIC, len(d.list))
	for i, c := range d.list {
		out[i] = PlannedNIC{c.nic, c.bridge, c.label, c.dev.Slot, c.ifname, c.gone}
		if c.gone {
			out[i].NIC = nil
		}
	}
	slices.SortFunc(out, func(a, b PlannedNIC) int { return a.Slot - b.Slot })
	return out
}

// IsStale reports whether the guest does not know its latest configuration.
func (d *Netdevs) IsStale() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stale
}

// agentLimit is how long a guest may take to show an interface, or to release one.
const agentLimit = 30 * time.Second

var (
	errNoInterface = errors.New("the guest does not show its network interface (has its kernel the drivers " +
		"virtio_net and, for NICs of a running guest, PCI hot-plug by ACPI?)")
	errNotReleased = errors.New("the guest does not let go of its network interface")
)

// Sync updates devices, carriers and the guest's configuration. agent is nil for
// a guest that does not run: it is stale afterwards, and keeps its devices.
func (d *Netdevs) Sync(ctx context.Context, m Machine, agent Agent) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mixed != nil {
		return d.mixed
	}
	if err := d.plugMissing(ctx, m); err != nil {
		return err
	}
	if err := d.setLinks(ctx, m); err != nil {
		return err
	}
	d.stale = true
	if agent == nil {
		return nil
	}
	if err := d.unplugClosed(ctx, m); err != nil {
		return err
	}
	return d.joined(d.configure(ctx, agent), false)
}

// joined has the frames of a deterministic guest that was configured pass. It returns err.
func (d *Netdevs) joined(err error, again bool) error {
	if err == nil && d.join != nil {
		d.join(again)
	}
	return err
}

// plugMissing adds an interface for each NIC of the VM that has none. The caller
// must hold d.mu.
func (d *Netdevs) plugMissing(ctx context.Context, m Machine) error {
	for _, n := range d.net.NICs(d.station) {
		if d.find(func(c *netdev) bool { return c.nic == n }) != nil {
			continue
		}
		// The interface of a snapshot that was taken on a bridge of that name.
		same := func(c *netdev) bool {
			return !c.gone && c.nic == nil && c.bridge == n.bridge.name && c.label == n.label
		}
		if c := d.find(same); c != nil {
			if err := c.bind(n); err != nil {
				return err
			}
		} else if err := d.plug(ctx, m, n); err != nil {
			return err
		}
	}
	return nil
}

// plug adds an interface to a running guest, with the first free slot and name.
// The caller must hold d.mu.
func (d *Netdevs) plug(ctx context.Context, m Machine, n *NIC) error {
	slot, number := qemu.RootSlots+1, 0
	for d.find(func(c *netdev) bool { return c.dev.Slot == slot }) != nil {
		slot++
	}
	name := func() string { return fmt.Sprintf("eth%d", number) }
	for d.find(func(c *netdev) bool { return !c.gone && c.ifname == name() }) != nil {
		number++
	}
	if slot > qemu.MaxSlot {
		return fmt.Errorf("it has %d network interfaces already, of which %d came after its boot", len(d.list),
			qemu.MaxNICs)
	}
	c, err := newNetdev(d.dir, PlannedNIC{n, n.bridge.name, n.label, slot, name(), false}, d.wires)
	if err != nil {
		return err
	}
	if err := m.PlugNIC(ctx, c.dev); err != nil {
		c.close()
		return err
	}
	d.list = append(d.list, c)
	return nil
}

// setLinks tells QEMU of carriers that have changed. The caller must hold d.mu.
func (d *Netdevs) setLinks(ctx context.Context, m Machine) error {
	for _, c := range d.list {
		up := c.nic != nil && c.nic.carrier()
		if up == c.up {
			continue
		}
		if err := m.SetLink(ctx, c.dev, up); err != nil {
			return err
		}
		c.up = up
	}
	return nil
}

// unplugClosed removes the interfaces to closed bridges. Those on the root bus stay, and
// the guest is told to forget them. The caller must hold d.mu.
func (d *Netdevs) unplugClosed(ctx context.Context, m Machine) error {
	for _, c := range slices.Clone(d.list) {
		if c.nic == nil || !c.nic.bridge.IsClosed() {
			continue
		}
		if c.dev.IsRoot() {
			c.gone = true
			continue
		}
		limited, cancel := context.WithTimeoutCause(ctx, agentLimit, errNotReleased)
		err := m.UnplugNIC(limited, c.dev)
		cancel()
		if err != nil {
			return err
		}
		c.close()
		d.list = slices.DeleteFunc(d.list, func(o *netdev) bool { return o == c })
	}
	return nil
}

// find returns the first interface for which match returns true, or nil. The
// caller must hold d.mu.
func (d *Netdevs) find(match func(*netdev) bool) *netdev {
	if at := slices.IndexFunc(d.list, match); at >= 0 {
		return d.list[at]
	}
	return nil
}

// Configure sends the configuration to the agent of a guest whose devices are up
// to date, such as one that has just booted again.
func (d *Netdevs) Configure(ctx context.Context, agent Agent) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.joined(d.configure(ctx, agent), true)
}

// configure is Configure. The caller must hold d.mu.
func (d *Netdevs) configure(ctx context.Context, agent Agent) error {
	if len(d.list) > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, agentLimit, errNoInterface)
		defer cancel()
		if err := agent.Network(limited, d.guestConfig()); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	d.stale = false
	return nil
}

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/qemu"
)

// wiring is the network side of a running guest.
type wiring struct {
	mu     sync.Mutex
	cables []*cable
	stale  bool // the guest has not been told the latest
}

// plannedNIC is an interface that a guest is to start with.
type plannedNIC struct {
	nic    *NIC // nil: no such bridge is in sight
	bridge string
	slot   int
	ifname string
}

func (v *VM) addNIC(n *NIC) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.nics = append(v.nics, n)
}

func (v *VM) dropNIC(n *NIC) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.nics = slices.DeleteFunc(v.nics, func(o *NIC) bool { return o == n })
}

func (v *VM) nicCount() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.nics)
}

// attached lists the VM's NICs in order of bridge names.
func (v *VM) attached() []*NIC {
	v.mu.Lock()
	defer v.mu.Unlock()
	nics := slices.Clone(v.nics)
	slices.SortStableFunc(nics, func(a, b *NIC) int { return cmp.Compare(a.bridge.name, b.bridge.name) })
	return nics
}

// leaveBridges ends all memberships of a VM that is closed.
func (v *VM) leaveBridges(ctx context.Context) error {
	var errs []error
	for _, n := range v.attached() {
		n.bridge.leave(n)
		n.bridge.mu.Lock()
		n.vm = nil
		n.bridge.mu.Unlock()
		errs = append(errs, n.bridge.tell(ctx, nil))
	}
	return errors.Join(errs...)
}

var (
	guestName = regexp.MustCompile(`^(eth|enp0s|ens)([0-9]{1,3})$`)
	ethName   = regexp.MustCompile(`^eth[0-9]{1,3}$`)
)

// NIC finds an interface by the name of its bridge, or by a guest's name for it.
func (v *VM) NIC(name string) (*NIC, error) {
	nics := v.attached()
	bridges := make([]string, len(nics))
	for i, n := range nics {
		if n.bridge.name == name {
			return n, nil
		}
		bridges[i] = "`" + n.bridge.name + "`"
	}
	if m := guestName.FindStringSubmatch(name); m != nil {
		i, _ := strconv.Atoi(m[2]) // at most three digits
		if i >= len(nics) && i >= 3 && m[1] != "eth" {
			i -= 3
		}
		if i < len(nics) {
			return nics[i], nil
		}
	}
	hint := "it is on no bridge; attach it with bridge:attach"
	if len(bridges) > 0 {
		hint = fmt.Sprintf("its bridges: %s; by guest name: eth0 to eth%d", strings.Join(bridges, ", "), len(bridges)-1)
	}
	return nil, fmt.Errorf("vm:nic: no NIC `%s` on vm `%s` (%s)", name, v.name, hint)
}

// planNICs says which interfaces a boot begins with.
func (v *VM) planNICs() []plannedNIC {
	var out []plannedNIC
	for i, n := range v.attached() {
		out = append(out, plannedNIC{n, n.bridge.name, i + 1, fmt.Sprintf("eth%d", i)})
	}
	return out
}

// describeNICs is what a plan's interfaces are for QEMU, as far as they make a
// difference to a saved state.
func describeNICs(planned []plannedNIC) []qemu.NIC {
	out := make([]qemu.NIC, len(planned))
	for i, p := range planned {
		out[i].Slot = p.slot
	}
	return out
}

// wire makes the cables of a guest that is about to start.
func (w *wiring) wire(dir string, planned []plannedNIC, restored bool) (devices []qemu.NIC, err error) {
	for _, p := range planned {
		c, err := newCable(dir, p.bridge, p.nic, p.slot, p.ifname)
		if err != nil {
			w.close()
			return nil, err
		}
		if restored { // with the carrier it had: QEMU is told in any case
			c.up = p.nic == nil || !p.nic.carrier()
		}
		w.cables = append(w.cables, c)
		devices = append(devices, c.dev)
	}
	return devices, nil
}

// close unplugs everything.
func (w *wiring) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.cables {
		c.close()
	}
}

// planned describes the present cables for a snapshot.
func (w *wiring) planned() []plannedNIC {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]plannedNIC, len(w.cables))
	for i, c := range w.cables {
		out[i] = plannedNIC{c.nic, c.bridge, c.dev.Slot, c.ifname}
	}
	slices.SortFunc(out, func(a, b plannedNIC) int { return a.slot - b.slot })
	return out
}

// networkLimit is how long a guest may take to show an interface.
const networkLimit = 30 * time.Second

var errNoInterface = errors.New("the guest does not show its network interface (has its kernel the drivers virtio_net and, for NICs of a running guest, PCI hot-plug by ACPI?)")

// syncNetwork has the guest, if one runs, see what the VM is attached to.
func (v *VM) syncNetwork(ctx context.Context) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	v.mu.Lock()
	state, inst := v.state, v.inst
	v.mu.Unlock()
	if inst == nil || state != Booted && state != Paused {
		return nil
	}
	err = inst.syncNetwork(ctx, state == Booted)
	if err != nil && inst.IsOver() {
		return nil // its next boot begins with what is right then
	}
	if err != nil {
		return fmt.Errorf("vm `%s`: %w", v.name, err)
	}
	return nil
}

// syncNetwork brings devices, carriers and the guest's configuration up to date.
// A guest that does not run is told when it does.
func (i *guestRun) syncNetwork(ctx context.Context, runs bool) error {
	runs = runs && !i.IsSuspended()
	var link *guest.Client
	if runs {
		var err error
		if link, err = i.Client(ctx); err != nil {
			return err
		}
	}
	w := &i.wiring
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := i.syncCables(ctx, runs); err != nil {
		return err
	}
	w.stale = true
	if !runs {
		return nil
	}
	return i.configure(ctx, link)
}

// syncCables plugs and unplugs. Held: i.wiring.mu.
func (i *guestRun) syncCables(ctx context.Context, runs bool) error {
	w := &i.wiring
	for _, n := range i.vm.attached() {
		c := w.find(func(c *cable) bool { return c.nic == n })
		if c == nil {
			// The interface of a snapshot that was taken on a bridge of that name.
			if c = w.find(func(c *cable) bool { return c.nic == nil && c.bridge == n.bridge.name }); c != nil {
				c.bind(n)
			}
		}
		if c == nil {
			if err := i.plug(ctx, n); err != nil {
				return err
			}
		}
	}
	for at := 0; at < len(w.cables); at++ {
		c := w.cables[at]
		up := c.nic != nil && c.nic.carrier()
		if up != c.up {
			if err := i.machine.SetLink(ctx, c.dev, up); err != nil {
				return err
			}
			c.up = up
		}
		if c.nic != nil && c.nic.bridge.isClosed() && runs {
			limited, cancel := context.WithTimeoutCause(ctx, networkLimit, errors.New("the guest does not let go of its network interface"))
			err := i.machine.UnplugNIC(limited, c.dev)
			cancel()
			if err != nil {
				return err
			}
			c.close()
			w.cables = slices.Delete(w.cables, at, at+1)
			at--
		}
	}
	return nil
}

func (w *wiring) find(is func(*cable) bool) *cable {
	if at := slices.IndexFunc(w.cables, is); at >= 0 {
		return w.cables[at]
	}
	return nil
}

// plug gives a running guest one more interface.
func (i *guestRun) plug(ctx context.Context, n *NIC) error {
	w := &i.wiring
	slot, number := 1, 0
	for w.find(func(c *cable) bool { return c.dev.Slot == slot }) != nil {
		slot++
	}
	name := func() string { return fmt.Sprintf("eth%d", number) }
	for w.find(func(c *cable) bool { return c.ifname == name() }) != nil {
		number++
	}
	if slot > qemu.MaxSlot {
		return fmt.Errorf("it has %d network interfaces already", qemu.MaxSlot)
	}
	c, err := newCable(i.vm.dir, n.bridge.name, n, slot, name())
	if err != nil {
		return err
	}
	if err := i.machine.PlugNIC(ctx, c.dev); err != nil {
		c.close()
		return err
	}
	w.cables = append(w.cables, c)
	return nil
}

// configure tells the guest names and addresses, if it has any. Held: i.wiring.mu.
func (i *guestRun) configure(ctx context.Context, link *guest.Client) error {
	w := &i.wiring
	if len(w.cables) == 0 {
		w.stale = false
		return nil
	}
	var request guest.Network
	own := i.vm.attached()
	for _, c := range w.cables {
		if c.nic == nil {
			continue
		}
		face := guest.Interface{Path: c.dev.Path(), Name: c.ifname, MAC: c.nic.mac}
		// Without a bridge it has no address either: its network may be reached
		// by another interface now.
		if c.nic.bridge.addressing && slices.Contains(own, c.nic) {
			for _, p := range c.nic.prefixes() {
				face.Addresses = append(face.Addresses, p.String())
			}
			c.nic.giveRoutes(&face, own)
		}
		request.Interfaces = append(request.Interfaces, face)
	}
	request.Hosts, request.Resolver = i.vm.names()
	limited, cancel := context.WithTimeoutCause(ctx, networkLimit, errNoInterface)
	defer cancel()
	if err := link.Network(limited, &request); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	w.stale = false
	return nil
}

// refreshNetwork tells a guest that runs again what it has missed.
func (i *guestRun) refreshNetwork(ctx context.Context) error {
	i.wiring.mu.Lock()
	stale := i.wiring.stale
	i.wiring.mu.Unlock()
	if !stale {
		return nil
	}
	return i.syncNetwork(ctx, true)
}

// reconfigure is configure for the agent of a boot that the guest itself, or a
// reset, has begun.
func (i *guestRun) reconfigure(ctx context.Context, link *guest.Client) error {
	i.wiring.mu.Lock()
	defer i.wiring.mu.Unlock()
	return i.configure(ctx, link)
}

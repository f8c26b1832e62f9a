package network

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"provium/internal/vnet"
)

// NIC is a VM's place on a bridge. It outlives guests, and detaching.
type NIC struct {
	bridge *Bridge
	vmName string
	label  string // of a further NIC of the VM on this bridge; "" is the first one
	host   int    // last byte of its addresses
	mac    net.HardwareAddr
	port   *vnet.Port

	// Guarded by the network's lock.
	station  Station // nil while no VM of that name is declared
	attached bool
	down     bool // by Disconnect
}

// place is the key of a NIC on its bridge, and the name of its port.
func place(vm, label string) string {
	if label == "" {
		return vm
	}
	return vm + "/" + label
}

// isLabel reports whether a NIC can have that label.
func isLabel(label string) bool { return label == "" || nicLabel.MatchString(label) }

// Label returns the name that a further NIC of the VM on this bridge was given, or "".
func (n *NIC) Label() string { return n.label }

// VMName returns the name of the VM.
func (n *NIC) VMName() string { return n.vmName }

// Bridge returns the bridge.
func (n *NIC) Bridge() *Bridge { return n.bridge }

// MAC returns the hardware address, which is the same in every run for a lab, a
// VM and a bridge of the same names.
func (n *NIC) MAC() string { return n.mac.String() }

// IP returns the IPv4 address, or "" on a bridge without addressing.
func (n *NIC) IP() string {
	if !n.bridge.addressing {
		return ""
	}
	n.bridge.net.mu.Lock()
	defer n.bridge.net.mu.Unlock()
	return n.addresses()[0].Addr().String()
}

// addresses returns the IPv4 and the IPv6 address with the lengths of their
// networks. The caller must hold the network's lock.
func (n *NIC) addresses() [2]netip.Prefix {
	v4, v6 := n.bridge.v4.Addr().As4(), n.bridge.v6.Addr().As16()
	v4[3], v6[15] = byte(n.host), byte(n.host)
	return [2]netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4(v4), n.bridge.v4.Bits()),
		netip.PrefixFrom(netip.AddrFrom16(v6), n.bridge.v6.Bits()),
	}
}

// Counters returns what the guest has sent and received.
func (n *NIC) Counters() vnet.Counters { return n.port.Counters() }

// Disconnect takes the carrier away and the port off the switch. Rules are kept.
func (n *NIC) Disconnect(ctx context.Context) error { return n.setLink(ctx, false) }

// Reconnect undoes Disconnect.
func (n *NIC) Reconnect(ctx context.Context) error { return n.setLink(ctx, true) }

func (n *NIC) setLink(ctx context.Context, up bool) error {
	mu := &n.bridge.net.mu
	mu.Lock()
	n.down = !up
	n.port.SetUp(up && n.attached)
	s := n.station
	mu.Unlock()
	if s == nil {
		return nil
	}
	return s.SyncNetwork(ctx)
}

// Unplugged names the NICs of a bridge that Disconnect has taken the carrier from, sorted.
func (b *Bridge) Unplugged() (places []string) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	for _, n := range b.members {
		if n.down {
			places = append(places, place(n.vmName, n.label))
		}
	}
	slices.Sort(places)
	return places
}

// carrier reports whether the guest should see a link.
func (n *NIC) carrier() bool {
	n.bridge.net.mu.Lock()
	defer n.bridge.net.mu.Unlock()
	return n.attached && !n.down
}

// leave ends a membership and drops all rules that name the VM. The caller must
// hold the network's lock.
func (n *NIC) leave() {
	b := n.bridge
	n.attached = false
	n.port.SetUp(false)
	without := func(list []*NIC) []*NIC { return slices.DeleteFunc(list, func(o *NIC) bool { return o == n }) }
	b.members = without(b.members)
	if b.nicOf(n.vmName) == nil {
		b.sw.Forget(n.vmName)
	}
	if s := n.station; s != nil {
		if b.net.attached[s] = without(b.net.attached[s]); len(b.net.attached[s]) == 0 {
			delete(b.net.attached, s)
		}
	}
}

package lab

import (
	"context"
	"net"
	"net/netip"

	"provium/internal/vnet"
)

// NIC is a VM's place on a bridge. It outlives guests, and detaching.
type NIC struct {
	bridge *Bridge
	vmName string
	host   int // last byte of its addresses
	mac    net.HardwareAddr
	port   *vnet.Port

	// Guarded by the bridge's lock.
	vm       *VM // nil while no VM of that name is declared
	attached bool
	down     bool // by Disconnect
}

// VMName is the name of the VM.
func (n *NIC) VMName() string { return n.vmName }

// Bridge is the bridge.
func (n *NIC) Bridge() *Bridge { return n.bridge }

// MAC is the hardware address, stable for lab, VM and bridge.
func (n *NIC) MAC() string { return n.mac.String() }

// IP is the IPv4 address; "" on a bridge without addressing.
func (n *NIC) IP() string {
	if !n.bridge.addressing {
		return ""
	}
	return n.prefixes()[0].Addr().String()
}

// prefixes are the IPv4 and the IPv6 address with the lengths of their networks.
func (n *NIC) prefixes() []netip.Prefix {
	v4, v6 := n.bridge.v4.Addr().As4(), n.bridge.v6.Addr().As16()
	v4[3], v6[15] = byte(n.host), byte(n.host)
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4(v4), n.bridge.v4.Bits()),
		netip.PrefixFrom(netip.AddrFrom16(v6), n.bridge.v6.Bits()),
	}
}

// Counters are what the guest has sent and received.
func (n *NIC) Counters() vnet.Counters { return n.port.Counters() }

// Disconnect takes the carrier away and the port off the switch; rules are kept.
func (n *NIC) Disconnect(ctx context.Context) error { return n.setLink(ctx, false) }

// Reconnect undoes Disconnect.
func (n *NIC) Reconnect(ctx context.Context) error { return n.setLink(ctx, true) }

func (n *NIC) setLink(ctx context.Context, up bool) error {
	n.bridge.mu.Lock()
	n.down = !up
	n.port.SetUp(up && n.attached)
	vm := n.vm
	n.bridge.mu.Unlock()
	if vm == nil {
		return nil
	}
	return vm.syncNetwork(ctx)
}

// carrier tells whether the guest should see one.
func (n *NIC) carrier() bool {
	n.bridge.mu.Lock()
	defer n.bridge.mu.Unlock()
	return n.attached && !n.down
}

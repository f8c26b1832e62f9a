package netserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Config is where a server is.
type Config struct {
	MAC net.HardwareAddr
	// Addresses are those of the server, beside the link-local one, with the lengths of
	// their networks. Destinations outside of these are taken to be on the bridge, too.
	Addresses []netip.Prefix
	// Send sends a frame to the bridge. It is called by several goroutines.
	Send func(frame []byte)
}

const (
	// mtu is the longest packet.
	mtu = 1500
	// maxQueued is the number of frames that may wait for Send. More are dropped.
	maxQueued = 512

	nicID = 1
)

// Host is the network stack of one server. It answers ARP, neighbour discovery and ping.
type Host struct {
	cfg  Config
	ip   *stack.Stack
	link *channel.Endpoint

	queued       chan struct{} // has a token when the stack has sent something
	stop, pumped chan struct{}
	close        sync.Once
}

// NewHost starts a stack. The caller must close it.
func NewHost(cfg Config) (*Host, error) {
	h := &Host{cfg: cfg, queued: make(chan struct{}, 1), stop: make(chan struct{}), pumped: make(chan struct{})}
	h.link = channel.New(maxQueued, header.EthernetMinimumSize+mtu, tcpip.LinkAddress(cfg.MAC))
	h.ip = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4,
			icmp.NewProtocol6},
	})
	if err := h.configure(); err != nil {
		h.ip.Close()
		return nil, fmt.Errorf("network stack: %w", err)
	}
	h.link.AddNotify(h)
	go h.pump()
	return h, nil
}

func (h *Host) configure() error {
	if err := h.ip.CreateNIC(nicID, ethernet.New(h.link)); err != nil {
		return errors.New(err.String())
	}
	own := append([]netip.Prefix{netip.PrefixFrom(h.LinkLocal(), 64)}, h.cfg.Addresses...)
	for _, p := range own {
		err := h.ip.AddProtocolAddress(nicID, tcpip.ProtocolAddress{Protocol: protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: toAddress(p.Addr()), PrefixLen: p.Bits()}},
			stack.AddressProperties{})
		if err != nil {
			return fmt.Errorf("address %s: %s", p, err)
		}
	}
	h.ip.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID}})
	return nil
}

// LinkLocal returns the link-local IPv6 address.
func (h *Host) LinkLocal() netip.Addr {
	return toAddr(header.LinkLocalAddr(tcpip.LinkAddress(h.cfg.MAC)))
}

// Receive accepts a frame from the bridge. Those for others are ignored.
func (h *Host) Receive(frame []byte) {
	if len(frame) < header.EthernetMinimumSize {
		return
	}
	to := header.Ethernet(frame).DestinationAddress()
	if to != tcpip.LinkAddress(h.cfg.MAC) && to[0]&1 == 0 {
		return
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	h.link.InjectInbound(0, p)
	p.DecRef()
}

// Close ends all connections, and returns when no frame will be sent any more.
func (h *Host) Close() {
	h.close.Do(func() {
		close(h.stop)
		<-h.pumped
		h.ip.Close()
		h.ip.Wait()
		h.link.Close()
	})
}

// WriteNotify implements channel.Notification: the stack has sent a frame.
func (h *Host) WriteNotify() {
	select {
	case h.queued <- struct{}{}:
	default:
	}
}

// pump sends what the stack sends.
func (h *Host) pump() {
	defer close(h.pumped)
	for {
		select {
		case <-h.queued:
			for p := h.link.Read(); p != nil; p = h.link.Read() {
				v := p.ToView()
				h.cfg.Send(v.AsSlice())
				v.Release()
				p.DecRef()
			}
		case <-h.stop:
			return
		}
	}
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

func toAddress(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func toAddr(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}

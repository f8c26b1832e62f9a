package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"provium/internal/vnet/uplink"
)

// ForwardOpts describe a port of a guest that the host's loopback shall have.
type ForwardOpts struct {
	VM   string
	Port int
	UDP  bool
}

// forward is such a port. Its address on the host is taken as long as it is there.
type forward struct {
	opts    ForwardOpts
	address string
	stop    func() error
	done    chan struct{}
}

const maxPort = 65535

// Forward gives an address of the host's loopback at which the port of a member
// answers. Repeated, it is the same address.
func (b *Bridge) Forward(opts ForwardOpts) (address string, err error) {
	if err := b.mayServe(); err != nil {
		return "", err
	}
	if opts.Port < 1 || opts.Port > maxPort {
		return "", fmt.Errorf("port %d is none (1 to %d)", opts.Port, maxPort)
	}
	n, err := b.NIC(opts.VM)
	if err != nil {
		return "", err
	}
	h := b.host
	h.routing.Lock()
	defer h.routing.Unlock()
	s := &b.services
	if at := slices.IndexFunc(s.forwards, func(f *forward) bool { return f.opts == opts }); at >= 0 {
		return s.forwards[at].address, nil
	}
	if err := b.openGate(); err != nil {
		return "", fmt.Errorf("bridge `%s` forward: %w", b.name, err)
	}
	f := &forward{opts: opts, done: make(chan struct{})}
	if err := f.start(s.gate.stack, netip.AddrPortFrom(n.prefixes()[0].Addr(), uint16(opts.Port))); err != nil {
		b.settleGate()
		return "", fmt.Errorf("bridge `%s` forward: %w", b.name, err)
	}
	s.forwards = append(s.forwards, f)
	b.settleGate()
	return f.address, nil
}

// start listens on the host.
func (f *forward) start(stack *uplink.Stack, to netip.AddrPort) error {
	const loopback = "127.0.0.1:0"
	if f.opts.UDP {
		in, err := net.ListenPacket("udp4", loopback)
		if err != nil {
			return err
		}
		f.address, f.stop = in.LocalAddr().String(), in.Close
		go func() {
			defer close(f.done)
			stack.ForwardDatagrams(in, to)
		}()
		return nil
	}
	ln, err := net.Listen("tcp4", loopback)
	if err != nil {
		return err
	}
	f.address, f.stop = ln.Addr().String(), ln.Close
	go func() {
		defer close(f.done)
		stack.Forward(ln, to)
	}()
	return nil
}

// close ends the forward with its connections.
func (f *forward) close() {
	_ = f.stop() // it can only be closed already
	<-f.done
}

// takeForwards gives the forwards, which are none any more.
func (b *Bridge) takeForwards() []*forward {
	b.host.routing.Lock()
	defer b.host.routing.Unlock()
	all := b.services.forwards
	b.services.forwards = nil
	return all
}

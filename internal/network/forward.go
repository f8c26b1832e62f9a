package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"provium/internal/vnet/uplink"
)

// ForwardOpts name a port of a guest that is to be reached from the host.
type ForwardOpts struct {
	VM   string
	Port int
	UDP  bool
}

// forward is an open forward. It has its address on the host until it is closed.
type forward struct {
	opts    ForwardOpts
	address string
	stop    func() error
	done    chan struct{}
}

const maxPort = 65535

// Forward returns an address of the host's loopback at which a port of a member
// answers. It returns the same address for the same options.
func (b *Bridge) Forward(opts ForwardOpts) (address string, err error) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if err := b.mayServe(); err != nil {
		return "", err
	}
	if opts.Port < 1 || opts.Port > maxPort {
		return "", fmt.Errorf("port %d is out of range (1 to %d)", opts.Port, maxPort)
	}
	n := b.nicOf(opts.VM)
	if n == nil {
		return "", b.notAttached(opts.VM, "")
	}
	if at := slices.IndexFunc(b.forwards, func(f *forward) bool { return f.opts == opts }); at >= 0 {
		return b.forwards[at].address, nil
	}
	if err := b.openGateway(); err != nil {
		return "", fmt.Errorf("bridge `%s` forward: %w", b.name, err)
	}
	defer b.syncGateway()
	f := &forward{opts: opts, done: make(chan struct{})}
	if err := f.start(b.gateway.stack, netip.AddrPortFrom(n.addresses()[0].Addr(), uint16(opts.Port))); err != nil {
		return "", fmt.Errorf("bridge `%s` forward: %w", b.name, err)
	}
	b.forwards = append(b.forwards, f)
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
	listener, err := net.Listen("tcp4", loopback)
	if err != nil {
		return err
	}
	f.address, f.stop = listener.Addr().String(), listener.Close
	go func() {
		defer close(f.done)
		stack.Forward(listener, to)
	}()
	return nil
}

// close ends the forward with its connections.
func (f *forward) close() {
	_ = f.stop() // it can only be closed already
	<-f.done
}

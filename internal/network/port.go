package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync/atomic"

	"provium/internal/stream"
	"provium/internal/vnet"
)

// PortOpts are the options of a port.
type PortOpts struct {
	Name        string // "" is the first free one of port0, port1, …
	Promiscuous bool   // receives also the frames between other members
}

// Port is a member of a bridge by which the test itself sends and receives frames. Rules
// name it like a VM. It is no part of snapshots.
type Port struct {
	bridge *Bridge
	name   string
	mac    net.HardwareAddr
	site   stream.Site
	port   *vnet.Port
	inbox  *vnet.Inbox
	told   atomic.Uint64 // what TakeDropped has returned
}

// ErrPortClosed is returned for a port that was closed, or whose bridge was.
var ErrPortClosed = errors.New("port closed")

// OpenPort adds a port to the bridge. The caller must close it.
func (b *Bridge) OpenPort(o PortOpts, site stream.Site) (*Port, error) {
	name, err := b.portName(o.Name)
	if err != nil {
		return nil, err
	}
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("bridge `%s` is closed", b.name)
	}
	if b.hasName(name) {
		return nil, b.twoOf(name)
	}
	if err := b.mayAnswer("a port"); err != nil {
		return nil, err
	}
	id := digest(b.lab, name, b.name)
	p := &Port{bridge: b, name: name, site: site, port: b.sw.AddPort(name),
		mac: net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]}}
	if p.inbox, err = p.port.OpenInbox(); err != nil {
		return nil, fmt.Errorf("bridge `%s`: %w", b.name, err)
	}
	if o.Promiscuous {
		p.port.SetPromiscuous()
	}
	b.ports[name] = p
	return p, nil
}

// portName returns the name of a new port, which no VM that is declared has.
func (b *Bridge) portName(wanted string) (string, error) {
	taken := func(name string) bool {
		_, declared := b.scope.Station(name)
		b.net.mu.Lock()
		defer b.net.mu.Unlock()
		return declared || b.hasName(name)
	}
	if wanted != "" {
		if !nicLabel.MatchString(wanted) {
			return "", fmt.Errorf("port name `%s` is not valid (1 to 32 of A-Z, a-z, 0-9, _ and -)", wanted)
		}
		if taken(wanted) {
			return "", b.twoOf(wanted)
		}
		return wanted, nil
	}
	for i := 0; ; i++ {
		if name := "port" + strconv.Itoa(i); !taken(name) {
			return name, nil
		}
	}
}

// hasName reports whether a VM that is or was attached, or a port, has a name. The caller
// must hold net.mu.
func (b *Bridge) hasName(name string) bool {
	return b.ports[name] != nil ||
		slices.ContainsFunc(slices.Collect(maps.Values(b.nics)), func(n *NIC) bool { return n.vmName == name })
}

func (b *Bridge) twoOf(name string) error {
	return fmt.Errorf("bridge `%s` cannot have two members called `%s`", b.name, name)
}

// Port returns the open port of that name, or nil.
func (b *Bridge) Port(name string) *Port {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	return b.ports[name]
}

// Name returns the name by which rules name the port.
func (p *Port) Name() string { return p.name }

// Bridge returns the bridge.
func (p *Port) Bridge() *Bridge { return p.bridge }

// MAC returns an address that no guest has, which is the same in every run for the same
// names of lab, bridge and port. The switch does not know it before a frame comes from it.
func (p *Port) MAC() string { return p.mac.String() }

// Send sends a frame. It does not wait for receivers.
func (p *Port) Send(frame []byte) error {
	if len(frame) < vnet.MinFrame || len(frame) > vnet.MaxFrame {
		return fmt.Errorf("the frame has %d bytes; an Ethernet frame has %d to %d here "+
			"(two addresses, a type and the payload, without a checksum)", len(frame), vnet.MinFrame, vnet.MaxFrame)
	}
	if p.bridge.Port(p.name) != p {
		return ErrPortClosed
	}
	p.port.Send(frame)
	return nil
}

// Receive returns the oldest frame that waits, or else the next one. When ctx ends, it
// returns its cause.
func (p *Port) Receive(ctx context.Context) ([]byte, error) {
	frame, err := p.inbox.Receive(ctx)
	if errors.Is(err, vnet.ErrClosed) {
		err = ErrPortClosed
	}
	return frame, err
}

// Dropped returns how many frames were lost since too many waited.
func (p *Port) Dropped() uint64 { return p.inbox.Dropped() }

// TakeDropped returns how many frames were lost since the last call.
func (p *Port) TakeDropped() uint64 {
	n := p.inbox.Dropped()
	return n - min(n, p.told.Swap(n))
}

// Counters returns the traffic as the test sees it.
func (p *Port) Counters() vnet.Counters { return p.port.Counters() }

// Close takes the port off the bridge, with the rules that name it. It may be called again.
func (p *Port) Close() {
	b := p.bridge
	b.net.mu.Lock()
	if b.ports[p.name] == p {
		delete(b.ports, p.name)
		b.sw.RemovePort(p.name)
	}
	b.net.mu.Unlock()
	p.inbox.Close()
}

// String returns the name of the port, its bridge, and where it was opened.
func (p *Port) String() string {
	text := p.name + " on " + p.bridge.name
	if p.site.Line > 0 {
		text += fmt.Sprintf(" at %s:%d", p.site.File, p.site.Line)
	}
	return text
}

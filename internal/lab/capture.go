package lab

import (
	"context"
	"fmt"
	"slices"

	"provium/internal/vnet"
)

// captureSource is a capture as a stream's source.
type captureSource struct{ c *vnet.Capture }

func (s captureSource) next(ctx context.Context) ([]byte, error) { return s.c.Next(ctx) }
func (s captureSource) ended() bool                              { return s.c.Ended() }
func (s captureSource) close(int)                                { s.c.Close() }

// Capture opens a stream of every frame as it enters the bridge, as a pcap file.
func (b *Bridge) Capture(nanoseconds bool, site Site) (*Stream, error) {
	return b.newCapture("bridge_capture", b.name, site, b.sw.Capture(nanoseconds))
}

// Capture opens a stream of what the guest sends, and of what reaches it after
// all rules, as a pcap file.
func (n *NIC) Capture(nanoseconds bool, site Site) (*Stream, error) {
	if !n.port.IsLive() {
		return nil, fmt.Errorf("nic:capture: vm `%s` has no live port on bridge `%s` (not booted?); boot it first", n.vmName, n.bridge.name)
	}
	return n.bridge.newCapture("nic_capture", n.vmName+" on "+n.bridge.name, site, n.port.Capture(nanoseconds))
}

func (b *Bridge) newCapture(kind, detail string, site Site, c *vnet.Capture) (*Stream, error) {
	s := &Stream{kind: kind, detail: detail, noun: "capture", site: site, src: captureSource{c}, turn: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.forget = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.captures = slices.DeleteFunc(b.captures, func(x *Stream) bool { return x == s })
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.captures = append(b.captures, s)
	return s, nil
}

// captured lists the open captures on the VM's bridges.
func (v *VM) captured() (all []*Stream) {
	for _, n := range v.attached() {
		n.bridge.mu.Lock()
		all = append(all, n.bridge.captures...)
		n.bridge.mu.Unlock()
	}
	return all
}

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"provium/internal/stream"
	"provium/internal/vnet"
	"provium/internal/vnet/filter"
	"provium/internal/vnet/packet"
)

// CaptureOpts are which frames a capture has, and how.
type CaptureOpts struct {
	Nanoseconds bool
	Filter      string // in the language of tcpdump; "" is all
}

func (o CaptureOpts) selection(op string) (vnet.Selection, error) {
	how := vnet.Selection{Nanoseconds: o.Nanoseconds}
	if o.Filter == "" {
		return how, nil
	}
	x, err := filter.Parse(o.Filter)
	if err != nil {
		return how, fmt.Errorf("%s: filter `%s`: %w", op, o.Filter, err)
	}
	how.Keep = x.Match
	return how, nil
}

// captureSource is a capture as a stream's source.
type captureSource struct{ c *vnet.Capture }

func (s captureSource) Next(ctx context.Context) ([]byte, error) { return s.c.Next(ctx) }
func (s captureSource) Ended() bool                              { return s.c.Ended() }
func (s captureSource) Close(int)                                { s.c.Close() }

// Capture opens a stream of every frame as it enters the bridge, as a pcap file.
func (b *Bridge) Capture(o CaptureOpts, site Site) (*Stream, error) {
	how, err := o.selection("bridge:capture")
	if err != nil {
		return nil, err
	}
	return b.newCapture("bridge_capture", b.name, site, b.sw.Capture(how))
}

// Capture opens a stream of what the guest sends, and of what reaches it after
// all rules, as a pcap file.
func (n *NIC) Capture(o CaptureOpts, site Site) (*Stream, error) {
	how, err := o.selection("nic:capture")
	if err != nil {
		return nil, err
	}
	if !n.port.IsLive() {
		return nil, fmt.Errorf("nic:capture: vm `%s` has no live port on bridge `%s` (not booted?); boot it first", n.vmName, n.bridge.name)
	}
	return n.bridge.newCapture("nic_capture", n.vmName+" on "+n.bridge.name, site, n.port.Capture(how))
}

func (b *Bridge) newCapture(kind, detail string, site Site, c *vnet.Capture) (*Stream, error) {
	var s *Stream
	s = stream.New(stream.Config{Kind: kind, Detail: detail, Noun: "capture", Site: site, Source: captureSource{c}, Closed: func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.captures = slices.DeleteFunc(b.captures, func(x *Stream) bool { return x == s })
	}})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.captures = append(b.captures, s)
	return s, nil
}

// Packet is a frame of a capture that was looked into.
type Packet struct {
	At     time.Time
	Length int // on the wire
	Frame  []byte
	packet.Packet
}

// Packets takes the frames that come until the limit or the end, with those that
// were held back. They are the stream's bytes: what one call has given no other
// gives again.
func Packets(ctx context.Context, s *Stream, limit time.Duration) ([]Packet, error) {
	src, ok := s.Source().(captureSource)
	if !ok {
		return nil, fmt.Errorf("%s is no capture", s.Kind())
	}
	atHeader := false
	pieces, err := s.DrainFrom(ctx, limit, func(at stream.Position) error {
		if at.Split {
			return errors.New("the capture stands inside of a frame, behind what read_until or expect found; take the rest with next first")
		}
		atHeader = at.Given == 0
		return nil
	})
	if err != nil {
		return nil, err
	}
	b := bytes.Join(pieces, nil)
	if atHeader {
		b = b[min(len(b), vnet.PcapHeader):]
	}
	records, err := vnet.ReadPcapFrames(b, src.c.Nanoseconds())
	if err != nil {
		return nil, err
	}
	all := make([]Packet, len(records))
	for i, r := range records {
		all[i] = Packet{r.At, r.Length, r.Frame, packet.Decode(r.Frame)}
	}
	return all, nil
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

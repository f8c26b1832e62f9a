package network

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

// CaptureOpts select the frames of a capture and the resolution of their times.
type CaptureOpts struct {
	Nanoseconds bool
	Filter      string // in the language of tcpdump; "" selects all
}

func (o CaptureOpts) selection(op string) (vnet.Selection, error) {
	selected := vnet.Selection{Nanoseconds: o.Nanoseconds}
	if o.Filter == "" {
		return selected, nil
	}
	x, err := filter.Parse(o.Filter)
	if err != nil {
		return selected, fmt.Errorf("%s: filter `%s`: %w", op, o.Filter, err)
	}
	selected.Keep = x.Match
	return selected, nil
}

// openCapture is a capture that was not closed.
type openCapture struct {
	bridge *Bridge
	stream *stream.Stream
}

// captureSource is a capture as the source of a stream.
type captureSource struct{ c *vnet.Capture }

func (s captureSource) Next(ctx context.Context) ([]byte, error) { return s.c.Next(ctx) }
func (s captureSource) Ended() bool                              { return s.c.Ended() }
func (s captureSource) Close(int)                                { s.c.Close() }

// Capture opens a stream of every frame as it enters the bridge, as a pcap file.
func (b *Bridge) Capture(o CaptureOpts, site stream.Site) (*stream.Stream, error) {
	selected, err := o.selection("bridge:capture")
	if err != nil {
		return nil, err
	}
	return b.openCapture("bridge_capture", b.name, site, b.sw.Capture(selected)), nil
}

// Capture opens a stream of what the guest sends, and of what reaches it after
// all rules, as a pcap file.
func (n *NIC) Capture(o CaptureOpts, site stream.Site) (*stream.Stream, error) {
	selected, err := o.selection("nic:capture")
	if err != nil {
		return nil, err
	}
	if !n.port.IsLive() {
		return nil, fmt.Errorf("nic:capture: vm `%s` has no live port on bridge `%s` (not booted?); boot it first",
			n.vmName, n.bridge.name)
	}
	return n.bridge.openCapture("nic_capture", n.vmName+" on "+n.bridge.name, site, n.port.Capture(selected)), nil
}

// openCapture returns the stream of a capture and lists it until it is closed.
func (b *Bridge) openCapture(kind, detail string, site stream.Site, c *vnet.Capture) *stream.Stream {
	var s *stream.Stream
	s = stream.New(stream.Config{Kind: kind, Detail: detail, Noun: "capture", Site: site, Source: captureSource{c},
		Closed: func() {
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			b.net.captures = slices.DeleteFunc(b.net.captures, func(o openCapture) bool { return o.stream == s })
		}})
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	b.net.captures = append(b.net.captures, openCapture{b, s})
	return s
}

// Captures returns the open captures of the bridges that a VM is attached to.
func (n *Network) Captures(s Station) (all []*stream.Stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, nic := range n.sortedNICs(s) {
		for _, c := range n.captures {
			if c.bridge == nic.bridge {
				all = append(all, c.stream)
			}
		}
	}
	return all
}

// CaptureFile returns a capture as a pcap file, with what was read from its stream, and what it is of.
// whole reports whether none of that is missing since it was too long. ok is false for other streams.
func CaptureFile(s *stream.Stream) (file []byte, whole, ok bool) {
	source, ok := s.Source().(captureSource)
	if !ok {
		return nil, false, false
	}
	file, whole = source.c.File()
	return file, whole, true
}

// Packet is a decoded frame of a capture.
type Packet struct {
	At     time.Time
	Length int // on the wire
	Frame  []byte
	packet.Packet
}

// Packets decodes the frames that a capture brings until the limit or the end,
// with those held back. They are taken from the stream's bytes: what one call has
// returned no other returns again.
func Packets(ctx context.Context, s *stream.Stream, limit time.Duration) ([]Packet, error) {
	source, ok := s.Source().(captureSource)
	if !ok {
		return nil, fmt.Errorf("%s is no capture", s.Kind())
	}
	atHeader := false
	pieces, err := s.DrainFrom(ctx, limit, func(p stream.Position) error {
		if p.Split {
			return errors.New("the capture stands inside of a frame, behind what read_until or expect found; " +
				"take the rest with next first")
		}
		atHeader = p.Given == 0
		return nil
	})
	if err != nil {
		return nil, err
	}
	b := bytes.Join(pieces, nil)
	if atHeader {
		b = b[min(len(b), vnet.PcapHeader):]
	}
	records, err := vnet.ReadPcapFrames(b, source.c.Nanoseconds())
	if err != nil {
		return nil, err
	}
	all := make([]Packet, len(records))
	for i, r := range records {
		all[i] = Packet{r.At, r.Length, r.Frame, packet.Decode(r.Frame)}
	}
	return all, nil
}

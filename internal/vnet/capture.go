package vnet

import (
	"context"
	"io"
	"slices"
	"sync"
)

const (
	// captureChunk is the most that Capture.Next returns at once, in bytes.
	captureChunk = 64 << 10
	// captureLimit is the most that may wait for the reader of a capture, in bytes.
	// Frames beyond it are dropped.
	captureLimit = 64 << 20
	// captureKept is how many bytes of those that the reader has taken are kept: the latest.
	captureKept = 16 << 20
)

// Capture is a pcap file that grows with the traffic.
type Capture struct {
	sw   *Switch
	port *Port // nil: every frame as it enters the switch
	how  Selection

	mu     sync.Mutex
	chunks fifo[[]byte] // whole records each
	size   int          // of all chunks together
	taken  fifo[[]byte] // chunks that the reader has taken, the latest
	kept   int          // bytes of them
	begun  bool         // the reader has the header, which is not in taken
	cut    bool         // some of taken was dropped
	end    bool
	wake   chan struct{} // has a token when there is something new
}

// Selection is which frames a capture has, and how exact their times are.
type Selection struct {
	Nanoseconds bool                    // times of the file are that exact, else to the microsecond
	Keep        func(frame []byte) bool // nil: all; called with the switch's lock held
}

// Capture records every frame once, as it enters the switch. The caller must close it.
func (s *Switch) Capture(how Selection) *Capture { return s.capture(nil, how) }

// Capture records what the port sends, and what reaches it after all rules. The
// caller must close it.
func (p *Port) Capture(how Selection) *Capture { return p.sw.capture(p, how) }

func (s *Switch) capture(p *Port, how Selection) *Capture {
	c := &Capture{sw: s, port: p, how: how, wake: make(chan struct{}, 1)}
	header := AppendPcapHeader(nil, how.Nanoseconds)
	c.chunks.push(header)
	c.size = len(header)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || p != nil && p.gone {
		c.end = true
		return c
	}
	s.captures = append(s.captures, c)
	return c
}

// record adds a frame that enters at p, or with out reaches it, to the captures that
// want it. The caller must hold s.mu.
func (s *Switch) record(p *Port, frame []byte, out bool) {
	for _, c := range s.captures {
		if (c.port == p || c.port == nil && !out) && (c.how.Keep == nil || c.how.Keep(frame)) {
			c.add(s, frame)
		}
	}
}

func (c *Capture) add(s *Switch, frame []byte) {
	at := s.epoch.Add(s.elapsed())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+len(frame) > captureLimit {
		return
	}
	all := c.chunks.all()
	if n := len(all); n == 0 || len(all[n-1])+pcapRecord+len(frame) > captureChunk {
		c.chunks.push(nil)
		all = c.chunks.all()
	}
	last := &all[len(all)-1]
	before := len(*last)
	*last = AppendPcapFrame(*last, at, frame, c.how.Nanoseconds)
	c.size += len(*last) - before
	c.signal()
}

func (c *Capture) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next records. The first ones begin with the header of the
// file. It returns io.EOF when the switch, the port or the capture is closed and
// nothing is left, and the context's cause when the context ends.
func (c *Capture) Next(ctx context.Context) ([]byte, error) {
	for {
		c.mu.Lock()
		if c.chunks.len() > 0 {
			p := c.chunks.pop()
			c.size -= len(p)
			c.keep(p)
			c.mu.Unlock()
			return p, nil
		}
		end := c.end
		c.mu.Unlock()
		if end {
			return nil, io.EOF
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// keep keeps a chunk that the reader takes. The caller must hold c.mu.
func (c *Capture) keep(chunk []byte) {
	if !c.begun {
		c.begun = true
		chunk = chunk[PcapHeader:]
	}
	c.taken.push(chunk)
	for c.kept += len(chunk); c.kept > captureKept; {
		c.kept -= len(c.taken.pop())
		c.cut = true
	}
}

// File returns the capture as a file: with what the reader has taken, of which the latest 16 MiB are
// there, and with what waits for it. whole reports whether none of it is missing for that reason.
func (c *Capture) File() (file []byte, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun {
		file = AppendPcapHeader(nil, c.how.Nanoseconds)
	}
	for _, list := range [][][]byte{c.taken.all(), c.chunks.all()} {
		for _, chunk := range list {
			file = append(file, chunk...)
		}
	}
	return file, !c.cut
}

// Nanoseconds returns how exact the times of the file are.
func (c *Capture) Nanoseconds() bool { return c.how.Nanoseconds }

// Ended reports whether no more records will follow.
func (c *Capture) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end && c.chunks.len() == 0
}

// Close ends the capture. It may be called again.
func (c *Capture) Close() {
	c.sw.mu.Lock()
	c.sw.captures = slices.DeleteFunc(c.sw.captures, func(o *Capture) bool { return o == c })
	c.sw.mu.Unlock()
	c.finish()
}

func (c *Capture) finish() {
	c.mu.Lock()
	c.end = true
	c.mu.Unlock()
	c.signal()
}

// endCaptures ends the captures of a port, or all for nil. The caller must hold s.mu.
func (s *Switch) endCaptures(p *Port) {
	s.captures = slices.DeleteFunc(s.captures, func(c *Capture) bool {
		if p != nil && c.port != p {
			return false
		}
		c.finish()
		return true
	})
}

package vnet

import (
	"bytes"
	"sync"
	"time"
)

// maxCollected is the most that a guest may send between two exchanges, in bytes. More is dropped.
const maxCollected = 32 << 20

// Held is a member of a switch whose frames wait, on their way in and out, until they are asked for. It is safe for
// concurrent use.
type Held struct {
	port  *Port
	inbox *Inbox

	mu     sync.Mutex
	rest   []byte // of a frame that is not all there
	frames [][]byte
	size   int // of frames, in bytes
}

// Hold makes the port live. It returns ErrClosed for a closed port or switch. The caller must close what is returned.
func (p *Port) Hold() (*Held, error) {
	inbox, err := p.OpenInbox()
	return &Held{port: p, inbox: inbox}, err
}

// Collect takes the next bytes of the guest's stream of frames. It returns a *LengthError for a frame that cannot be.
func (h *Held) Collect(stream []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest = append(h.rest, stream...)
	for {
		frame, size, err := cut(h.rest)
		if err != nil || size == 0 {
			return err
		}
		if h.size+len(frame) <= maxCollected {
			h.frames = append(h.frames, bytes.Clone(frame))
			h.size += len(frame)
		}
		h.rest = append(h.rest[:0], h.rest[size:]...)
	}
}

// Send sends the frames that were collected, and returns how many they are.
func (h *Held) Send() int {
	h.mu.Lock()
	frames := h.frames
	h.frames, h.size = nil, 0
	h.mu.Unlock()
	if len(frames) > 0 {
		h.port.sw.enter(h.port, frames)
	}
	return len(frames)
}

// Drop forgets the frames that were collected, and those that wait for the guest.
func (h *Held) Drop() {
	h.mu.Lock()
	h.frames, h.size = nil, 0
	h.mu.Unlock()
	h.inbox.Clear()
}

// Receive returns the oldest frame for the guest behind its length, nil without one.
func (h *Held) Receive() []byte {
	frame, _ := h.inbox.ses.takeOne()
	if frame == nil {
		return nil
	}
	return appendFrame(make([]byte, 0, prefixLen+len(frame)), frame)
}

// Close ends the membership.
func (h *Held) Close() { h.inbox.Close() }

// Pace makes the switch go by a clock that moves with Advance only, or by the host's again. Frames under way are
// dropped, and addresses forgotten.
func (s *Switch) Pace(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eachLink(s.drain)
	s.paced, s.at = on, time.Time{}
	s.now = time.Now
	if on {
		s.now = func() time.Time { return s.at }
	}
	s.epoch, s.swept = s.now(), 0
	clear(s.table)
	s.shaper.free = 0
	s.eachLink(func(l *link) { l.shaper.free = 0 })
	s.wakeUp()
}

// Advance moves the clock of a paced switch, delivers the frames that are due by then, and returns when the next one
// is.
func (s *Switch) Advance(now time.Duration) (next time.Duration, more bool) {
	s.mu.Lock()
	s.at = s.epoch.Add(now)
	s.mu.Unlock()
	wait, more := s.release()
	return now + wait, more
}

// isPaced reports whether frames that are due wait for Advance.
func (s *Switch) isPaced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paced
}

package vnet

import "context"

// GatewayName is the port of a bridge's gateway, which no guest can have as a name.
// Isolated ports can still reach it.
const GatewayName = ".1"

// Inside is a member of a switch that lives in this process and handles its frames as they
// come.
type Inside struct {
	port  *Port
	ses   *session
	ended chan struct{}
}

// Join makes the port live and calls receive with its frames, one at a time. They are
// valid during the call. The port is live when Join returns, unless it or the switch is
// closed. The caller must close it.
func (p *Port) Join(receive func(frame []byte)) *Inside {
	i := &Inside{port: p, ses: newSession(nil), ended: make(chan struct{})}
	if p.open(i.ses) != nil {
		close(i.ended)
		return i
	}
	go func() {
		defer close(i.ended)
		var frames []byte
		for {
			var closed bool
			if frames, closed = i.ses.take(frames); closed {
				return
			}
			for at := 0; at < len(frames); {
				frame, size, _ := cut(frames[at:]) // push has written the lengths
				receive(frame)
				at += size
			}
		}
	}()
	return i
}

// Send sends a frame from the port. The caller may reuse frame.
func (p *Port) Send(frame []byte) { p.sw.enter(p, [][]byte{frame}) }

// Close ends the membership and returns when no call of receive is running.
func (i *Inside) Close() {
	i.port.leave(i.ses)
	<-i.ended
}

// Inbox is a member of a switch that queues its frames for readers in this process. Up to
// 4 MiB wait; what comes then is dropped.
type Inbox struct {
	port *Port
	ses  *session
}

// OpenInbox makes the port live. It returns ErrClosed for a closed port or switch. The
// caller must close the inbox.
func (p *Port) OpenInbox() (*Inbox, error) {
	i := &Inbox{port: p, ses: newSession(nil)}
	return i, p.open(i.ses)
}

// Receive returns the oldest frame, which it waits for until ctx ends: then it returns its
// cause. It returns ErrClosed when the inbox, the port or the switch is closed.
func (i *Inbox) Receive(ctx context.Context) ([]byte, error) {
	for {
		frame, closed := i.ses.takeOne()
		switch {
		case closed:
			return nil, ErrClosed
		case frame != nil:
			return frame, nil
		}
		select {
		case <-i.ses.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Clear drops the frames that wait.
func (i *Inbox) Clear() {
	i.ses.mu.Lock()
	defer i.ses.mu.Unlock()
	i.ses.pending = nil
}

// Dropped returns how many frames were lost since the queue was full.
func (i *Inbox) Dropped() uint64 {
	i.ses.mu.Lock()
	defer i.ses.mu.Unlock()
	return i.ses.dropped
}

// Close ends the membership. Readers return. It may be called again.
func (i *Inbox) Close() { i.port.leave(i.ses) }

// SetPromiscuous makes the port receive also the frames between other ports, under the
// rules of its own links with their senders.
func (p *Port) SetPromiscuous() {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if !p.promiscuous && !p.gone {
		p.promiscuous = true
		p.sw.observers = append(p.sw.observers, p)
	}
}

// IsolatedAddress reports whether the port that a hardware address was last heard at
// is cut off from all others.
func (s *Switch) IsolatedAddress(at [6]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.table[addressAt(at[:])]
	return ok && s.rules.isolated[seen.port.owner]
}

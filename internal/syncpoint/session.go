package syncpoint

import (
	"io"
	"net"
	"os"
	"time"
)

// Session is a connection to a guest's agent. Bytes written to it reach the guest at sync points.
//
// Who uses it says by Adjust what the host is about to do. It is safe for concurrent use.
type Session struct {
	p *Pacer

	// Guarded by p.mu.
	in, out   []byte
	isReading bool // the reader waits: it has dealt with all that has come
	busy      int  // who is about to send something, perhaps
	waiting   int  // who waits for the guest
	op        string
	isOver    bool
	isClosed  bool
	until     [2]time.Time // deadlines of reading and writing
}

const (
	reading = iota
	writing
)

// Dial begins a session, and ends the one before.
func (p *Pacer) Dial() *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &Session{p: p, in: p.early}
	p.early = nil
	if p.session != nil {
		p.session.isOver = true
	}
	select {
	case <-p.done:
		s.isOver = true
	default:
	}
	p.session = s
	p.broadcast()
	return s
}

// Adjust adds to the numbers of those who are about to do something, and of those who wait for the guest. The guest
// goes on while the first is 0 and the second is not.
func (s *Session) Adjust(busy, waiting int) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.busy += busy
	s.waiting += waiting
	s.p.broadcast()
}

// Began says what the host has begun to do with the guest, for people.
func (s *Session) Began(op string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.op = op
}

// Passed returns how many sync points the guest has passed.
func (s *Session) Passed() uint64 { return s.p.passed.Load() }

// expired returns the error of a deadline that is over. The caller must hold s.p.mu.
func (s *Session) expired(direction int) error {
	if t := s.until[direction]; !t.IsZero() && !time.Now().Before(t) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Read returns what the guest has sent, and waits for it.
func (s *Session) Read(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for len(s.in) == 0 {
		switch err := s.expired(reading); {
		case s.isClosed:
			return 0, net.ErrClosed
		case s.isOver:
			return 0, io.EOF
		case err != nil:
			return 0, err
		}
		if !s.isReading {
			s.isReading = true
			s.p.broadcast()
		}
		s.p.changed.Wait()
	}
	s.isReading = false
	n := copy(b, s.in)
	s.in = s.in[n:]
	return n, nil
}

// Write has bytes sent at the next sync point. It does not wait for that.
func (s *Session) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if err := s.expired(writing); err != nil {
		return 0, err
	}
	if s.isOver {
		return 0, net.ErrClosed
	}
	s.out = append(s.out, b...)
	return len(b), nil
}

// Close ends the session.
func (s *Session) Close() error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.isOver, s.isClosed = true, true
	s.p.broadcast()
	return nil
}

// SetDeadline sets both deadlines.
func (s *Session) SetDeadline(t time.Time) error {
	s.setDeadline(reading, t)
	s.setDeadline(writing, t)
	return nil
}

// SetReadDeadline sets until when Read waits.
func (s *Session) SetReadDeadline(t time.Time) error {
	s.setDeadline(reading, t)
	return nil
}

// SetWriteDeadline sets when Write begins to fail.
func (s *Session) SetWriteDeadline(t time.Time) error {
	s.setDeadline(writing, t)
	return nil
}

func (s *Session) setDeadline(direction int, t time.Time) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.until[direction] = t
	s.p.broadcast()
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		time.AfterFunc(wait, func() {
			s.p.mu.Lock()
			defer s.p.mu.Unlock()
			s.p.broadcast()
		})
	}
}

// LocalAddr and RemoteAddr are those of a connection without a name.
func (s *Session) LocalAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// RemoteAddr is LocalAddr.
func (s *Session) RemoteAddr() net.Addr { return s.LocalAddr() }

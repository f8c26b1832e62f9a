package vnet

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Counters count the traffic of a port as its guest sees it: received frames are those
// that the switch delivered.
type Counters struct {
	RxBytes, TxBytes     uint64
	RxPackets, TxPackets uint64
	// Errors are frames that were malformed, or that found a queue full.
	Errors uint64
}

// Port is a member of a switch.
type Port struct {
	sw    *Switch
	name  string
	owner string // that rules name; see AddPort
	slot  int

	// Guarded by the switch's lock.
	up       bool
	gone     bool
	live     *session
	counters Counters
}

// maxQueue is the most that may wait for a guest that does not read, in bytes.
const maxQueue = 4 << 20

// session is a port's connection.
type session struct {
	conn net.Conn

	mu      sync.Mutex
	pending []byte // frames with their lengths, not yet given to the writer
	closed  bool
	wake    chan struct{} // has a token when there is something new
}

// ErrClosed is returned for a port that was removed, or a closed switch.
var ErrClosed = errors.New("the port is closed")

// Serve moves frames between a connection and the port until the connection ends or
// another takes its place, and closes it. It returns nil when either side hung up.
func (p *Port) Serve(conn net.Conn) error {
	defer conn.Close()
	ses := &session{conn: conn, wake: make(chan struct{}, 1)}
	p.sw.mu.Lock()
	var err error
	if p.gone || p.sw.closed {
		err = ErrClosed
	} else {
		p.hangUp()
		p.live = ses
	}
	p.sw.mu.Unlock()
	if err != nil {
		return err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		ses.write()
	}()
	err = readFrames(conn, func(frames [][]byte) { p.sw.enter(p, frames) })
	p.sw.mu.Lock()
	if p.live == ses {
		p.live = nil
	}
	var bad *LengthError
	if errors.As(err, &bad) {
		p.counters.Errors++
	}
	p.sw.mu.Unlock()
	ses.close()
	<-written
	if bad == nil && (errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return err
}

// write sends all that is pending at once, until the session ends.
func (ses *session) write() {
	var out []byte
	for range ses.wake {
		ses.mu.Lock()
		out, ses.pending = ses.pending, out[:0]
		closed := ses.closed
		ses.mu.Unlock()
		if closed {
			return
		}
		if len(out) == 0 {
			continue
		}
		if _, err := ses.conn.Write(out); err != nil {
			ses.close()
			return
		}
	}
}

func (ses *session) close() {
	ses.mu.Lock()
	ses.closed, ses.pending = true, nil
	ses.mu.Unlock()
	ses.conn.Close()
	ses.signal()
}

func (ses *session) signal() {
	select {
	case ses.wake <- struct{}{}:
	default:
	}
}

// push queues a frame, and returns false if the queue is full.
func (ses *session) push(frame []byte) bool {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if ses.closed || len(ses.pending)+prefixLen+len(frame) > maxQueue {
		return false
	}
	if len(ses.pending) == 0 {
		ses.signal()
	}
	ses.pending = appendFrame(ses.pending, frame)
	return true
}

// receive sends a frame to the port's guest. The caller must hold the switch's lock.
func (p *Port) receive(frame []byte) {
	if !p.up || p.live == nil {
		return
	}
	if !p.live.push(frame) {
		p.counters.Errors++
		return
	}
	if len(p.sw.captures) > 0 {
		p.sw.record(p, frame, true)
	}
	p.counters.RxPackets++
	p.counters.RxBytes += uint64(len(frame))
}

// hangUp ends the connection, if there is one. The caller must hold the switch's lock.
func (p *Port) hangUp() {
	if p.live != nil {
		p.live.close()
		p.live = nil
	}
}

// Name returns the port's name.
func (p *Port) Name() string { return p.name }

// SetUp takes the port off the switch, or puts it back. The connection stays.
func (p *Port) SetUp(up bool) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	p.up = up
}

// IsLive reports whether the port has a connection.
func (p *Port) IsLive() bool {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.live != nil
}

// Counters returns the present counts.
func (p *Port) Counters() Counters {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.counters
}

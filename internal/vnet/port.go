package vnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
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
	up          bool
	gone        bool
	promiscuous bool
	live        *session
	counters    Counters
}

// maxQueue is the most that may wait for a guest that does not read, in bytes.
const maxQueue = 4 << 20

// session is a port's connection, or without conn a member in this process.
type session struct {
	conn net.Conn

	mu      sync.Mutex
	pending []byte // frames with their lengths, not yet given to the writer or a reader
	dropped uint64 // frames that did not fit into pending
	closed  bool
	wake    chan struct{} // has a token when there is something new

	writing sync.Mutex // held while frames are written to conn
}

func newSession(conn net.Conn) *session { return &session{conn: conn, wake: make(chan struct{}, 1)} }

// ErrClosed is returned for a port that was removed, or a closed switch.
var ErrClosed = errors.New("the port is closed")

// Serve moves frames between a connection and the port until the connection ends or
// another takes its place, and closes it. It returns nil when either side hung up.
func (p *Port) Serve(conn net.Conn) error {
	defer conn.Close()
	ses := newSession(conn)
	if err := p.open(ses); err != nil {
		return err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		ses.write()
	}()
	err := readFrames(conn, func(frames [][]byte) { p.sw.enter(p, frames) })
	var bad *LengthError
	if errors.As(err, &bad) {
		p.sw.mu.Lock()
		p.counters.Errors++
		p.sw.mu.Unlock()
	}
	p.leave(ses)
	<-written
	if bad == nil && (errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return err
}

// open makes a session the port's, in place of the one there is.
func (p *Port) open(ses *session) error {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if p.gone || p.sw.closed {
		return ErrClosed
	}
	p.hangUp()
	p.live = ses
	return nil
}

// leave closes a session, and takes it off the port if it is still the port's.
func (p *Port) leave(ses *session) {
	p.sw.mu.Lock()
	if p.live == ses {
		p.live = nil
	}
	p.sw.mu.Unlock()
	ses.close()
}

// write sends all that is pending at once, until the session ends.
func (ses *session) write() {
	var out []byte
	for {
		var closed bool
		if out, closed = ses.take(out); closed {
			return
		}
		ses.writing.Lock()
		_, err := ses.conn.Write(out)
		ses.writing.Unlock()
		if err != nil {
			ses.close()
			return
		}
	}
}

// take waits for frames and returns all that is pending, or that the session is closed. It
// reuses the buffer that the last call returned.
func (ses *session) take(last []byte) (frames []byte, closed bool) {
	for range ses.wake {
		ses.mu.Lock()
		frames, ses.pending = ses.pending, last[:0]
		closed = ses.closed
		ses.mu.Unlock()
		if closed || len(frames) > 0 {
			break
		}
		last = frames
	}
	return frames, closed
}

// takeOne returns a copy of the oldest pending frame, or nil. There may be several callers:
// each wakes the next one if that has something to do.
func (ses *session) takeOne() (frame []byte, closed bool) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if !ses.closed && len(ses.pending) > 0 {
		first, size, _ := cut(ses.pending) // push has written the length
		frame = bytes.Clone(first)
		ses.pending = ses.pending[size:]
	}
	if ses.closed || len(ses.pending) > 0 {
		ses.signal()
	}
	return frame, ses.closed
}

func (ses *session) close() {
	ses.mu.Lock()
	ses.closed, ses.pending = true, nil
	ses.mu.Unlock()
	if ses.conn != nil {
		ses.conn.Close()
	}
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
		ses.dropped++
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

// Quiet keeps frames from the port's connection until release is called, as it must be. It reports
// whether the other end has read all that was sent to it.
func (p *Port) Quiet() (release func(), ok bool) {
	p.sw.mu.Lock()
	ses := p.live
	p.sw.mu.Unlock()
	if ses == nil || ses.conn == nil {
		return func() {}, true
	}
	if !ses.writing.TryLock() {
		return func() {}, false
	}
	return ses.writing.Unlock, unread(ses.conn) == 0
}

// unread returns how much of what was sent the other end has not read, -1 if that is not known.
func unread(conn net.Conn) (n int) {
	n = -1
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if out, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
					n = out
				}
			})
		}
	}
	return n
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

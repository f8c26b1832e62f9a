package syncpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Kinds of sync points, and what else the plugin says.
const (
	empty  = 'e' // the agent has read all that its port had
	loaded = 'L' // the plugin is there; the guest does not run yet
	full   = 'f' // the guest has no room for what is in its port's socket
)

// What the plugin is answered at a sync point.
const (
	goOn     = 0
	takeThis = 1 // the same, when the guest has what is in its port's socket
	stopNow  = 2 // the same, when QEMU waits for the CPU to stop
)

const (
	// chunk is how many bytes reach the guest at one point at most. Its port holds 128 pages.
	chunk = 32 << 10
	// maxEarly is how much of what a guest sends is kept for the next session.
	maxEarly = 1 << 20
)

// Config is what a Pacer works with.
type Config struct {
	Control  *os.File // the plugin's socket; does not block
	Port     *os.File // our end of the agent's port; does not block
	Seed     uint64   // of what a host sends that is random
	Restored bool     // the guest goes on from a snapshot: it has read all that its port had
	// Arrived is called at each point: what the guest has printed until then is to be delivered.
	Arrived func()
	// Observe is called before the CPU goes on. Nil observes nothing.
	Observe func(Point) error
	// Failed is called once when the guest can no longer be deterministic.
	Failed func(error)
}

// Point is a sync point.
type Point struct {
	Kind     byte
	Op       string // what the host has begun last
	Sent     []byte // what has reached the guest at it
	Received []byte // what the guest has sent since the point before
}

// Pacer lets a guest go on from one sync point to the next. It is safe for concurrent use.
type Pacer struct {
	cfg    Config
	loaded chan struct{} // closed when the plugin has said that it is there
	done   chan struct{} // closed when Run has returned

	passed atomic.Uint64

	mu       sync.Mutex
	changed  *sync.Cond
	session  *Session
	early    []byte // what came while there was no session
	room     bool   // the guest has read all that it was sent
	free     int    // callers of Free
	stands   bool   // the guest is at a point
	stop     bool   // Stop wants it to stop there
	isClosed bool
	nonces   *rand.ChaCha8
}

// New returns a Pacer. Run must be called, and closes the files.
func New(cfg Config) *Pacer {
	var key [32]byte
	copy(key[:], fmt.Appendf(nil, "link %d", cfg.Seed))
	p := &Pacer{cfg: cfg, room: cfg.Restored, loaded: make(chan struct{}), done: make(chan struct{}),
		nonces: rand.NewChaCha8(key)}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// Loaded is closed when the plugin has said that it is there. It never is where QEMU has ended
// before that; see Done.
func (p *Pacer) Loaded() <-chan struct{} { return p.loaded }

// Done is closed when QEMU has ended.
func (p *Pacer) Done() <-chan struct{} { return p.done }

// Read fills b with what is to be random in the sessions of the guest's host, and is not.
func (p *Pacer) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nonces.Read(b)
}

// Run answers the plugin until QEMU ends.
func (p *Pacer) Run() {
	defer close(p.done)
	defer p.cfg.Port.Close()
	defer p.cfg.Control.Close()
	var letter [1]byte
	for {
		n, err := p.cfg.Control.Read(letter[:])
		if err != nil || n == 0 {
			p.end(net.ErrClosed)
			return
		}
		switch letter[0] {
		case loaded:
			close(p.loaded)
		case full:
			p.end(errFull)
			return
		default:
			if err := p.meet(letter[0]); err != nil {
				p.end(err)
				return
			}
		}
	}
}

var errFull = errors.New("the guest has no room for what its agent is sent: another program reads the agent's port")

// Close must be called when QEMU has ended. Run returns then.
func (p *Pacer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isClosed = true
	p.changed.Broadcast()
}

// end ends the session. What has gone wrong is told, unless QEMU has just ended.
func (p *Pacer) end(err error) {
	p.mu.Lock()
	if p.session != nil {
		p.session.isOver = true
	}
	p.changed.Broadcast()
	p.mu.Unlock()
	if !errors.Is(err, net.ErrClosed) {
		p.cfg.Failed(err)
	}
}

// meet carries out a sync point.
func (p *Pacer) meet(kind byte) error {
	received, err := p.receive()
	if err != nil {
		return err
	}
	p.passed.Add(1)
	p.cfg.Arrived()
	p.mu.Lock()
	if s := p.session; s != nil && !s.isOver {
		s.in = append(s.in, received...)
	} else if len(p.early)+len(received) <= maxEarly {
		p.early = append(p.early, received...)
	}
	p.room = p.room || kind == empty
	p.changed.Broadcast()
	p.stands = true
	for !p.mayGo() && !p.stop && !p.isClosed {
		p.changed.Wait()
	}
	p.stands = false
	if p.stop {
		p.stop = false
		p.mu.Unlock()
		return p.answer(stopNow)
	}
	var out []byte
	op := ""
	if p.session != nil {
		op = p.session.op
	}
	if s := p.session; p.room && s != nil && len(s.out) > 0 {
		n := min(len(s.out), chunk)
		out = append(out, s.out[:n]...)
		s.out = append(s.out[:0], s.out[n:]...)
		p.room = false
	}
	p.mu.Unlock()
	if p.cfg.Observe != nil {
		if err := p.cfg.Observe(Point{Kind: kind, Op: op, Sent: out, Received: received}); err != nil {
			return err
		}
	}
	if len(out) == 0 {
		return p.answer(goOn)
	}
	if _, err := p.cfg.Port.Write(out); err != nil {
		return fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	return p.answer(takeThis)
}

func (p *Pacer) answer(b byte) error {
	if _, err := p.cfg.Control.Write([]byte{b}); err != nil {
		return fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	return nil
}

// Stop stops the guest at the sync point at which it stands, or at the next. stop has QEMU do so, and returns when
// it has.
func (p *Pacer) Stop(ctx context.Context, stop func() error) error {
	wake := context.AfterFunc(ctx, func() { p.addFree(0) })
	defer wake()
	p.mu.Lock()
	for !p.stands && ctx.Err() == nil && !p.isClosed {
		p.changed.Wait()
	}
	if !p.stands {
		p.mu.Unlock()
		return errors.Join(context.Cause(ctx), errors.New("the guest reaches no sync point"))
	}
	p.stop = true
	p.changed.Broadcast()
	p.mu.Unlock()
	return stop()
}

// mayGo reports whether the guest may go on: somebody waits for it, and nobody of the host is about to send it
// more. The caller must hold p.mu.
func (p *Pacer) mayGo() bool {
	s := p.session
	if s == nil || s.isOver {
		return p.free > 0
	}
	return s.isReading && len(s.in) == 0 && s.busy == 0 && s.waiting+p.free > 0
}

// Free lets the guest go on as long as something is waited for that is no operation, such as its end. The caller
// must call done.
func (p *Pacer) Free() (done func()) {
	p.addFree(+1)
	return func() { p.addFree(-1) }
}

func (p *Pacer) addFree(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free += n
	p.changed.Broadcast()
}

// receive reads what the guest has sent. Its CPU stands, so this is all.
func (p *Pacer) receive() ([]byte, error) {
	raw, err := p.cfg.Port.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	var all []byte
	buf := make([]byte, 4<<10)
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return
			case err != nil || n == 0:
				failed = net.ErrClosed
				return
			}
			all = append(all, buf[:n]...)
		}
	})
	if err == nil {
		err = failed
	}
	return all, err
}

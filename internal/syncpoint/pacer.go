package syncpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Kinds of sync points, as the plugin and the agent have them.
const (
	loaded = 'L' // the plugin, before the guest runs
	empty  = 'e' // the agent has read all that its port had
)

const (
	// chunk is how many bytes reach the guest at one point at most. Its port holds 128 pages.
	chunk = 32 << 10
	// settleTries is how often QEMU is asked until it has taken a chunk.
	settleTries = 100
	// maxEarly is how much of what a guest sends is kept for the next session.
	maxEarly = 1 << 20
)

// Config is what a Pacer works with.
type Config struct {
	Control *os.File // the plugin's socket; does not block
	Port    *os.File // our end of the agent's port; does not block
	Seed    uint64   // of what a host sends that is random
	// Settle returns when QEMU's main loop has done what it had to.
	Settle func() error
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
	isClosed bool
	nonces   *rand.ChaCha8
}

// New returns a Pacer. Run must be called, and closes the files.
func New(cfg Config) *Pacer {
	var key [32]byte
	copy(key[:], fmt.Appendf(nil, "link %d", cfg.Seed))
	p := &Pacer{cfg: cfg, loaded: make(chan struct{}), done: make(chan struct{}), nonces: rand.NewChaCha8(key)}
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
		if letter[0] == loaded {
			close(p.loaded)
			continue
		}
		if err := p.meet(letter[0]); err != nil {
			p.end(err)
			return
		}
	}
}

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
	for !p.mayGo() && !p.isClosed {
		p.changed.Wait()
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
	if len(out) > 0 {
		if err := p.deliver(out); err != nil {
			return err
		}
	}
	if p.cfg.Observe != nil {
		if err := p.cfg.Observe(Point{Kind: kind, Op: op, Sent: out, Received: received}); err != nil {
			return err
		}
	}
	if _, err := p.cfg.Control.Write([]byte{0}); err != nil {
		return fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	return nil
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

// deliver puts bytes into the guest's port.
func (p *Pacer) deliver(b []byte) error {
	if _, err := p.cfg.Port.Write(b); err != nil {
		return fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	for range settleTries {
		if err := p.cfg.Settle(); err != nil {
			return fmt.Errorf("%w: %w", net.ErrClosed, err)
		}
		left, err := p.unread()
		if err != nil {
			return err
		}
		if left == 0 {
			// What it has read it has passed on when it answers once more.
			if err := p.cfg.Settle(); err != nil {
				return fmt.Errorf("%w: %w", net.ErrClosed, err)
			}
			return nil
		}
	}
	return errors.New("the guest has no room for what its agent is sent: another program reads the agent's port")
}

// unread returns how many bytes QEMU has not read.
func (p *Pacer) unread() (n int, err error) {
	raw, err := p.cfg.Port.SyscallConn()
	if err == nil {
		e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		err = errors.Join(e, err)
	}
	if err != nil {
		return 0, fmt.Errorf("sync point: %w", err)
	}
	return n, nil
}

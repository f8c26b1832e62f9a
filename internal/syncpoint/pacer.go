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
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of sync points, and what else the plugin says.
const (
	empty  = 'e' // the agent has read all that its port had
	ticked = 'k' // the guest of a group has come to a time that was chosen
	loaded = 'L' // the plugin is there; the guest does not run yet
	full   = 'f' // the guest has no room for what is in its port's socket
)

// What the plugin is answered at a sync point.
const (
	goOn     = 0
	takeThis = 1 // the same, when the guest has what is in its port's socket
	stopNow  = 2 // the same, when QEMU waits for the CPU to stop
	frame    = 3 // nothing yet: a frame is in the socket of the interface whose number follows
)

const (
	// chunk is how many bytes reach the guest at one point at most. Its port holds 128 pages.
	chunk = 32 << 10
	// maxEarly is how much of what a guest sends is kept for the next session.
	maxEarly = 1 << 20
)

// Config is what a Pacer works with.
type Config struct {
	Control *os.File // the plugin's socket; does not block
	Port    *os.File // our end of the agent's port; does not block
	// Group is what the guest's time depends on, nil for a guest on no bridge. Pace is our end of the port by which
	// its ticks are chosen, NICs are its network interfaces, and Key is its place among the guests of the group.
	Group    *Group
	Pace     *os.File
	NICs     []NIC
	Key      string
	Seed     uint64 // of what a host sends that is random
	Restored bool   // the guest goes on from a snapshot: it has read all that its port had
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
	Printed  string // a digest of what it has printed on its consoles until then, filled in by Config.Observe
}

// Pacer lets a guest go on from one sync point to the next. It is safe for concurrent use.
type Pacer struct {
	cfg    Config
	loaded chan struct{} // closed when the plugin has said that it is there
	done   chan struct{} // closed when Run has returned

	passed atomic.Uint64

	mu       *sync.Mutex // the group's, if there is one
	changed  *sync.Cond
	member   member
	held     int  // who keeps the guest from going on
	settle   bool // QEMU has got something to do while the guest stood
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
	p.mu = &sync.Mutex{}
	if cfg.Group != nil {
		p.mu = &cfg.Group.mu
	}
	p.changed = sync.NewCond(p.mu)
	if cfg.Group != nil {
		cfg.Group.enter(p)
	}
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
	if p.cfg.Group != nil {
		var readers sync.WaitGroup
		for i := range p.cfg.NICs {
			readers.Go(p.cfg.NICs[i].read)
		}
		defer readers.Wait()
		defer p.closeNICs()
		defer p.cfg.Group.leave(p)
	}
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
	p.broadcast()
}

// end ends the session. What has gone wrong is told, unless QEMU has just ended.
func (p *Pacer) end(err error) {
	p.mu.Lock()
	if p.session != nil {
		p.session.isOver = true
	}
	p.broadcast()
	p.mu.Unlock()
	if !errors.Is(err, net.ErrClosed) {
		p.cfg.Failed(err)
	}
}

// meet carries out a sync point.
func (p *Pacer) meet(kind byte) error {
	received, err := receive(p.cfg.Port)
	if err == nil {
		err = p.collect()
	}
	var tick time.Duration
	if err == nil && kind == ticked {
		tick, err = p.tick()
	}
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
	if kind == ticked {
		p.member.ticked(tick)
	}
	if !p.passes(received) {
		p.stands = true
		p.broadcast()
		for !p.mayGo() && !p.stop && !p.isClosed {
			p.changed.Wait()
		}
		p.stands = false
	}
	if p.stop {
		p.stop = false
		p.mu.Unlock()
		return p.answer(stopNow)
	}
	out, op := p.next()
	plan := p.plan()
	answer := byte(goOn)
	if len(out)+len(plan) > 0 || p.settle {
		answer = takeThis
	}
	p.settle = false
	p.mu.Unlock()
	if p.cfg.Observe != nil {
		if err := p.cfg.Observe(Point{Kind: kind, Op: op, Sent: out, Received: p.trailed(received, out)}); err != nil {
			return err
		}
	}
	if err := p.handFrames(); err != nil {
		return err
	}
	for _, w := range []struct {
		to *os.File
		b  []byte
	}{{p.cfg.Port, out}, {p.cfg.Pace, plan}} {
		if len(w.b) == 0 {
			continue
		}
		if _, err := w.to.Write(w.b); err != nil {
			return fmt.Errorf("%w: %w", net.ErrClosed, err)
		}
	}
	return p.answer(answer)
}

// next returns what the guest is sent now, and what the host does. The caller must hold p.mu.
func (p *Pacer) next() (out []byte, op string) {
	s := p.session
	if s == nil {
		return nil, ""
	}
	n := min(len(s.out), chunk)
	if p.member.joined {
		n = min(n, p.member.released)
	}
	if p.room && n > 0 {
		out = append(out, s.out[:n]...)
		s.out = append(s.out[:0], s.out[n:]...)
		p.room = false
		p.member.released -= min(n, p.member.released)
	}
	return out, s.op
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
		return errors.Join(context.Cause(ctx), errNoPoint)
	}
	p.stop = true
	p.broadcast()
	p.mu.Unlock()
	return stop()
}

// mayGo reports whether the guest may go on. The caller must hold p.mu.
func (p *Pacer) mayGo() bool {
	if p.member.joined {
		p.cfg.Group.resume()
		return p.member.runs
	}
	waiting, isQuiet := p.awaited()
	return isQuiet && waiting > 0
}

// awaited returns how many wait for the guest, and whether nobody of the host is about to send it more. The caller
// must hold p.mu.
func (p *Pacer) awaited() (waiting int, isQuiet bool) {
	s := p.session
	if s == nil || s.isOver {
		return p.free, p.held == 0
	}
	return s.waiting + p.free, s.isReading && len(s.in) == 0 && s.busy == 0 && p.held == 0
}

// broadcast wakes all who wait for a change. The caller must hold p.mu.
func (p *Pacer) broadcast() {
	p.changed.Broadcast()
	if p.cfg.Group != nil {
		p.cfg.Group.broadcast()
	}
}

// AtRest does something with the guest that it sees when it goes on, while it stands at a sync point.
func (p *Pacer) AtRest(ctx context.Context, act func() error) error {
	wake := context.AfterFunc(ctx, func() { p.addFree(0) })
	defer wake()
	p.mu.Lock()
	p.held++
	rests := func() bool { return p.stands && !p.member.runs }
	for !rests() && ctx.Err() == nil && !p.isClosed {
		p.changed.Wait()
	}
	stands := rests()
	p.settle = p.settle || stands
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held--
		p.broadcast()
	}()
	if !stands {
		return errors.Join(context.Cause(ctx), errNoPoint)
	}
	return act()
}

var errNoPoint = errors.New("the guest reaches no sync point")

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
	p.broadcast()
}

// receive reads what the guest has sent. Its CPU stands, so this is all.
func receive(f *os.File) ([]byte, error) {
	raw, err := f.SyscallConn()
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

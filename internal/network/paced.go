package network

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/qemu"
	"provium/internal/syncpoint"
	"provium/internal/vnet"
)

// Wires are the bridges of deterministic guests that can meet. The time of such a bridge is that of its guests, which
// one group keeps together.
type Wires struct {
	group *syncpoint.Group

	mu       sync.Mutex
	switches []*vnet.Switch
}

// NewWires returns Wires without bridges. The seed decides which guest sends first.
func NewWires(seed uint64) *Wires {
	w := &Wires{}
	w.group = syncpoint.NewGroup(seed, w.advance)
	return w
}

// advance moves the time of all switches, and returns when the next frame that is under way is due.
func (w *Wires) advance(now time.Duration) (next time.Duration, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.switches {
		if at, ok := s.Advance(now); ok && (!more || at < next) {
			next, more = at, true
		}
	}
	return next, more
}

func (w *Wires) set(s *vnet.Switch, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.switches = slices.DeleteFunc(w.switches, func(o *vnet.Switch) bool { return o == s })
	if on {
		w.switches = append(w.switches, s)
	}
	s.Pace(on)
}

// isPaced reports whether there are deterministic guests on a bridge.
func (n *Network) isPaced() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.bridges, func(b *Bridge) bool { return b.paced > 0 })
}

// mixed returns an error for a bridge that some guests would have by the host's time and others by their own.
func (b *Bridge) mixed() error {
	return fmt.Errorf("bridge `%s` would have guests that are deterministic and guests that are not; make all of them "+
		"so (deterministic = true in their profile, or --deterministic)", b.name)
}

// errPaced returns an error for something that has no place on a bridge of deterministic guests.
func (b *Bridge) errPaced(what string) error {
	return fmt.Errorf("bridge `%s` has deterministic guests, and %s would send when the host has the time; use a "+
		"guest for that, or boot the guests without `deterministic`", b.name, what)
}

// mayAnswer returns an error for something that sends frames by the host's time, on a bridge of deterministic guests.
// The caller must hold net.mu.
func (b *Bridge) mayAnswer(what string) error {
	if b.paced > 0 {
		return b.errPaced(what)
	}
	return nil
}

// admit counts a guest's interface. wires are those of a deterministic guest, nil of others.
func (b *Bridge) admit(wires *Wires) error {
	isPaced := wires != nil
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	switch {
	case isPaced && b.unpaced > 0, !isPaced && b.paced > 0:
		return b.mixed()
	case !isPaced:
		b.unpaced++
		return nil
	case b.gateway != nil:
		return b.errPaced("its gateway")
	case len(b.servers) > 0:
		return b.errPaced("its server")
	case len(b.ports) > 0:
		return b.errPaced("a port")
	case b.wires != nil && b.wires != wires:
		return fmt.Errorf("bridge `%s` has deterministic guests of a fixture that is being built", b.name)
	}
	if b.paced++; b.paced == 1 {
		b.wires = wires
		wires.set(b.sw, true)
	}
	return nil
}

// dismiss undoes admit.
func (b *Bridge) dismiss(isPaced bool) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	if !isPaced {
		b.unpaced--
		return
	}
	if b.paced--; b.paced == 0 {
		b.wires.set(b.sw, false)
		b.wires = nil
	}
}

// pacedLink is the connection of a deterministic guest's interface to its bridge. It implements syncpoint.Link.
type pacedLink struct {
	mu   sync.Mutex
	held *vnet.Held // nil while there is no bridge
}

func (l *pacedLink) get() *vnet.Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// connect connects the interface to a port.
func (l *pacedLink) connect(p *vnet.Port) {
	held, err := p.Hold()
	if err != nil {
		return // the bridge is closed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
}

func (l *pacedLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		l.held.Close()
		l.held = nil
	}
}

func (l *pacedLink) Collect(stream []byte) error {
	if h := l.get(); h != nil {
		return h.Collect(stream)
	}
	return nil
}

func (l *pacedLink) Send() int {
	if h := l.get(); h != nil {
		return h.Send()
	}
	return 0
}

func (l *pacedLink) Drop() {
	if h := l.get(); h != nil {
		h.Drop()
	}
}

func (l *pacedLink) Receive() []byte {
	if h := l.get(); h != nil {
		return h.Receive()
	}
	return nil
}

// pace makes the connection of a deterministic guest's interface.
func (d *netdev) pace() error {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("network socket: %w", err)
	}
	d.link = &pacedLink{}
	d.dev.Socket = ""
	d.dev.Paced = &qemu.PacedNIC{Host: os.NewFile(uintptr(p[0]), "nic"), QEMU: os.NewFile(uintptr(p[1]), "nic"),
		Link: d.link}
	return nil
}

// closePaced ends the connection of a deterministic guest's interface.
func (d *netdev) closePaced() {
	d.link.close()
	d.dev.Paced.Host.Close()
	d.dev.Paced.QEMU.Close()
}

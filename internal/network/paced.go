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

// Deterministic guests are on bridges of their own. The time of such a bridge is that of its guests, which one group
// for all of a test file's bridges keeps together.

// wires are the switches of a Group.
type wires struct {
	group *syncpoint.Group

	mu       sync.Mutex
	switches []*vnet.Switch
}

func newWires(seed uint64) *wires {
	w := &wires{}
	w.group = syncpoint.NewGroup(seed, w.advance)
	return w
}

// advance moves the time of all switches, and returns when the next frame that is under way is due.
func (w *wires) advance(now time.Duration) (next time.Duration, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.switches {
		if at, ok := s.Advance(now); ok && (!more || at < next) {
			next, more = at, true
		}
	}
	return next, more
}

func (w *wires) set(s *vnet.Switch, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.switches = slices.DeleteFunc(w.switches, func(o *vnet.Switch) bool { return o == s })
	if on {
		w.switches = append(w.switches, s)
	}
	s.Pace(on)
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

// admit counts a guest's interface. isPaced is that of a deterministic guest.
func (b *Bridge) admit(isPaced bool) error {
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
	}
	if b.paced++; b.paced == 1 {
		b.net.wires.set(b.sw, true)
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
		b.net.wires.set(b.sw, false)
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

package syncpoint

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// How much time guests of a Group go on without each other: the shortest while frames pass or the host has just begun
// something, and of a quiet network a part of the time for which it has been quiet.
const (
	shortest = time.Millisecond
	longest  = 512 * time.Millisecond
	patience = 16 // that part
)

// Group keeps guests that send each other frames at the same time. Each goes on by itself to the end of a window of
// time. When all stand there, the frames that they have sent change hands, in an order that the seed decides.
//
// A guest whose host has something to do with it stands before the end of the window. Then all others go on to the
// end, and nothing is sent to any of them before they stand: what is sent when does not depend on which of them is
// faster.
type Group struct {
	seed    uint64
	advance func(now time.Duration) (next time.Duration, more bool)

	mu      sync.Mutex
	booting int // guests that are not yet members
	members []*Pacer
	now     time.Duration // the end of the window
	window  time.Duration
	active  time.Duration // when something was last sent
}

// NewGroup returns a Group without guests. advance moves the time of the network that is between them, and returns
// when the next frame that is under way is due.
func NewGroup(seed uint64, advance func(now time.Duration) (next time.Duration, more bool)) *Group {
	return &Group{seed: seed, advance: advance, window: shortest}
}

// member is what a Group knows of a guest. Its zero value is a guest that has not joined.
type member struct {
	joined   bool
	runs     bool          // it may go on to the end of the window
	known    bool          // its time is
	offset   time.Duration // of its clock, against the group's
	last     time.Duration // by its clock: of its last tick
	next     time.Duration // likewise: of the one that it has been told of
	every    time.Duration // what passes between its ticks
	released int           // how much of what the host has to send may be sent
}

// ticked takes the time of a tick.
func (m *member) ticked(at time.Duration) {
	m.last, m.next = at, at+m.every
}

// enter counts a guest that is about to boot: the others wait for it.
func (g *Group) enter(p *Pacer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.booting++
}

// leave ends a membership.
func (g *Group) leave(p *Pacer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !p.member.joined {
		g.booting--
	}
	p.member = member{joined: true}
	g.members = slices.DeleteFunc(g.members, func(o *Pacer) bool { return o == p })
	p.broadcast()
}

// broadcast wakes all who wait for a change. The caller must hold g.mu.
func (g *Group) broadcast() {
	for _, p := range g.members {
		p.changed.Broadcast()
	}
}

// Join makes a guest that has booted a member of its group. What it has sent before is dropped. It does nothing to a
// member, and to a guest without a group.
func (p *Pacer) Join() {
	g := p.cfg.Group
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.member.joined {
		return
	}
	for i := range p.cfg.NICs {
		p.cfg.NICs[i].Link.Drop()
	}
	g.booting--
	p.member = member{joined: true}
	g.members = append(g.members, p)
	slices.SortFunc(g.members, func(a, b *Pacer) int { return strings.Compare(a.cfg.Key, b.cfg.Key) })
	g.broadcast()
}

// Rejoin is Join for a guest that has booted once more: its clock is another one.
func (p *Pacer) Rejoin() {
	p.mu.Lock()
	p.member.known = false
	p.mu.Unlock()
	p.Join()
}

// isDone reports whether the guest has reached the end of the window. The caller must hold g.mu.
func (g *Group) isDone(m *member) bool { return m.known && m.last >= m.offset+g.now }

// passes reports whether a guest goes on at a point at which nothing awaits it. The caller must hold p.mu.
func (p *Pacer) passes(received []byte) bool {
	m, g := &p.member, p.cfg.Group
	if !m.joined || !m.runs {
		return false
	}
	if !m.known && m.last > 0 {
		m.known, m.offset = true, m.last-g.now
	}
	m.runs = len(received) == 0 && !g.isDone(m) && !p.stop && !p.isClosed
	return m.runs
}

// resume lets the guests go on if all stand, nobody is about to send them more, and somebody waits for one of them.
// The caller must hold g.mu.
func (g *Group) resume() {
	waiting := 0
	for _, p := range g.members {
		n, isQuiet := p.awaited()
		if !p.stands || p.member.runs || !isQuiet || p.stop {
			return
		}
		waiting += n
	}
	if waiting == 0 || g.booting > 0 {
		return
	}
	for _, p := range g.members {
		if s := p.session; s != nil && len(s.out) > 0 {
			g.active = g.now
		}
	}
	if !slices.ContainsFunc(g.members, func(p *Pacer) bool { return !g.isDone(&p.member) }) {
		g.exchange()
	}
	for _, p := range g.members {
		if g.isDone(&p.member) {
			continue
		}
		if !p.member.known {
			p.member.last = 0
		}
		p.member.runs, p.member.released = true, 0
		if p.session != nil {
			p.member.released = len(p.session.out)
		}
	}
	g.broadcast()
}

// exchange ends a window, and begins the next. The caller must hold g.mu.
func (g *Group) exchange() {
	g.advance(g.now)
	for _, p := range g.order() {
		for i := range p.cfg.NICs {
			if p.cfg.NICs[i].Link.Send() > 0 {
				g.active = g.now
			}
		}
	}
	next, more := g.advance(g.now)
	window := min(max((g.now-g.active)/patience, shortest), longest)
	if more {
		window = min(window, max(next-g.now, shortest))
	}
	// Ticks need not be announced while windows are of one length, so there are few.
	g.window = shortest << (bits.Len64(uint64(window/shortest)) - 1)
	g.now += g.window
}

// order returns the guests in the order in which they send.
func (g *Group) order() []*Pacer {
	rank := func(p *Pacer) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%d %d %s", g.seed, g.now, p.cfg.Key)
		return h.Sum64()
	}
	sorted := slices.Clone(g.members)
	slices.SortStableFunc(sorted, func(a, b *Pacer) int {
		if rank(a) < rank(b) {
			return -1
		}
		return 1
	})
	return sorted
}

// plan returns what the guest's ticker is told, if that is not what it does. The caller must hold p.mu.
func (p *Pacer) plan() []byte {
	m, g := &p.member, p.cfg.Group
	if !m.runs {
		return nil
	}
	var at time.Duration // at once
	if m.known {
		at = m.offset + g.now
		if m.next == at && m.every == g.window {
			return nil
		}
	}
	m.next, m.every = at, g.window
	b := binary.LittleEndian.AppendUint64(nil, uint64(at))
	return binary.LittleEndian.AppendUint64(b, uint64(g.window))
}

// tick reads the time of a tick.
func (p *Pacer) tick() (time.Duration, error) {
	if p.cfg.Pace == nil {
		return 0, fmt.Errorf("%w: a tick of a guest without a port for it", net.ErrClosed)
	}
	b, err := receive(p.cfg.Pace)
	if err == nil && (len(b) < 8 || len(b)%8 != 0) {
		err = fmt.Errorf("a tick of %d bytes; 8 were expected", len(b))
	}
	if err != nil {
		return 0, err
	}
	at := time.Duration(binary.LittleEndian.Uint64(b[len(b)-8:]))
	if at < 0 {
		return 0, fmt.Errorf("a tick at %d ns", at)
	}
	return at, nil
}

package vnet

import (
	"container/heap"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config describes a switch.
type Config struct {
	// Seed of everything random.
	Seed uint64
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const (
	// maxHeld is the most that may be delayed in one switch, in bytes.
	maxHeld = 64 << 20
	// maxLearned is the number of addresses that are remembered; frames to others are
	// flooded.
	maxLearned = 16 << 10
	// ageLimit is how long an address is remembered after its last frame.
	ageLimit = 5 * time.Minute
	// sweepEvery limits the work that a guest with many addresses causes.
	sweepEvery = time.Second
)

// Switch is a running switch.
type Switch struct {
	seed uint64
	now  func() time.Time

	mu        sync.Mutex
	epoch     time.Time
	paced     bool      // the clock moves with Advance
	at        time.Time // of a paced switch
	ports     map[string]*Port
	slots     []*Port   // by Port.slot; nil is a free one
	observers []*Port   // promiscuous ones
	from      [][]*link // links by slots of sender and receiver
	table     map[address]sighting
	swept     time.Duration
	rules     rules
	shaper    shaper // the whole switch's bandwidth
	agenda    agenda
	pool      bufferPool
	held      int // bytes delayed
	closed    bool
	captures  []*Capture
	wake      chan struct{} // has a token when the agenda's top may have changed

	done chan struct{} // closed when the goroutine has ended
	stop chan struct{}
}

// sighting is an FDB entry: the port of the last frame from an address.
type sighting struct {
	port *Port
	at   time.Duration
}

// New starts a switch. The caller must Close it.
func New(cfg Config) *Switch {
	s := newSwitch(cfg)
	go s.run()
	return s
}

// newSwitch makes a switch without the goroutine that releases delayed frames.
func newSwitch(cfg Config) *Switch {
	s := &Switch{seed: cfg.Seed, now: cfg.Now, ports: map[string]*Port{}, table: map[address]sighting{},
		rules: newRules(),
		wake:  make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	s.epoch = s.now()
	return s
}

// Close ends all connections and returns when all goroutines of the switch have ended,
// except those in Port.Serve, which are about to return.
func (s *Switch) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for _, p := range s.ports {
		p.hangUp()
	}
	s.endCaptures(nil)
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	<-s.done
}

// AddPort returns the port with a name, which it makes if necessary. Its link is up. Rules
// name the owner of a port: the part of its name before a slash. They are not for links
// between ports of one owner.
func (s *Switch) AddPort(name string) *Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[name]; p != nil {
		return p
	}
	owner, _, _ := strings.Cut(name, "/")
	p := &Port{sw: s, name: name, owner: owner, up: true, slot: len(s.slots)}
	for i, q := range s.slots {
		if q == nil {
			p.slot = i
			break
		}
	}
	if p.slot == len(s.slots) {
		s.slots = append(s.slots, nil)
		s.from = append(s.from, nil)
	}
	s.slots[p.slot], s.ports[name] = p, p
	for _, q := range s.slots {
		if q != nil && q != p {
			s.connect(p, q)
			s.connect(q, p)
		}
	}
	return p
}

// connect creates the link from one port to another. The caller must hold s.mu.
func (s *Switch) connect(from, to *Port) {
	row := s.from[from.slot]
	for len(row) <= to.slot {
		row = append(row, nil)
	}
	l := &link{from: from, to: to, key: linkKey(s.seed, from.name, to.name), at: -1}
	row[to.slot] = l
	s.from[from.slot] = row
	s.applyRulesTo(l, s.elapsed(), false)
}

// RemovePort ends a port with its connection and drops every rule that names it.
func (s *Switch) RemovePort(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.rules.forget(name)
	if p := s.ports[name]; p != nil {
		p.hangUp()
		delete(s.ports, name)
		for a, seen := range s.table {
			if seen.port == p {
				delete(s.table, a)
			}
		}
		s.eachLink(func(l *link) {
			if l.from == p || l.to == p {
				s.drain(l)
			}
		})
		for i := range s.from {
			if p.slot < len(s.from[i]) {
				s.from[i][p.slot] = nil
			}
		}
		s.from[p.slot], s.slots[p.slot] = nil, nil
		s.observers = slices.DeleteFunc(s.observers, func(o *Port) bool { return o == p })
		p.gone = true
		s.endCaptures(p)
	}
	if changed {
		s.applyRules()
	}
}

func (s *Switch) eachLink(do func(*link)) {
	for _, row := range s.from {
		for _, l := range row {
			if l != nil {
				do(l)
			}
		}
	}
}

// applyRules brings every link, and the frames under way, up to date with the
// rules. The caller must hold s.mu.
func (s *Switch) applyRules() {
	now := s.elapsed()
	unlimited := s.shaper.rate > 0 && s.rules.whole[Bandwidth] == 0
	s.shaper.set(&s.rules.whole)
	s.eachLink(func(l *link) { s.applyRulesTo(l, now, unlimited) })
}

// applyRulesTo brings one link up to date with the rules. unlimited is set when the
// whole switch has just lost its bandwidth limit. The caller must hold s.mu.
func (s *Switch) applyRulesTo(l *link, now time.Duration, unlimited bool) {
	p := pair{l.from.owner, l.to.owner}
	v := s.rules.of(p)
	if v != l.values {
		l.shaper.set(&v)
		if !l.values.any() {
			l.index = 0
		}
		l.badAt = 0
		l.values, l.impaired = v, v.any()
		s.hasten(l, now)
	} else if unlimited {
		s.hasten(l, now)
	}
	if l.blocked = s.rules.blocked(p); l.blocked {
		s.drain(l)
	}
}

// hasten reduces the delay of frames under way on a link to that of a frame sent now.
func (s *Switch) hasten(l *link, now time.Duration) {
	if l.idle() {
		return
	}
	latest := now + time.Duration(l.values.latest()*float64(time.Millisecond))
	if l.values[Bandwidth] > 0 || s.shaper.rate > 0 {
		return // they wait for their turn, not only for their latency
	}
	for _, q := range []*fifo[delayed]{&l.ordered, &l.overtaking} {
		for i := range q.all() {
			d := &q.all()[i]
			d.due = min(d.due, latest)
		}
	}
	l.last = min(l.last, latest)
	heap.Fix(&s.agenda, l.at)
	s.wakeUp()
}

// drain drops what is under way on a link.
func (s *Switch) drain(l *link) {
	if l.at >= 0 {
		heap.Remove(&s.agenda, l.at)
	}
	for _, q := range []*fifo[delayed]{&l.ordered, &l.overtaking} {
		for q.len() > 0 {
			d := q.pop()
			s.held -= len(d.frame)
			s.pool.release(d.frame)
		}
	}
	l.last = 0
}

func (s *Switch) elapsed() time.Duration { return s.now().Sub(s.epoch) }

// enter handles frames that a port sent. The caller may reuse them afterwards.
func (s *Switch) enter(p *Port, frames [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.up || p.gone || s.closed {
		return
	}
	now := s.elapsed()
	for _, frame := range frames {
		if len(frame) < headerLen || len(frame) > MaxFrame {
			p.counters.Errors++
			continue
		}
		p.counters.TxPackets++
		p.counters.TxBytes += uint64(len(frame))
		if len(s.captures) > 0 {
			s.record(p, frame, false)
		}
		s.learn(now, p, addressAt(frame[6:]))
		s.forward(now, p, frame)
	}
}

func (s *Switch) learn(now time.Duration, p *Port, a address) {
	if a.group() {
		return
	}
	seen, known := s.table[a]
	if known && seen.port == p && now-seen.at < sweepEvery {
		return
	}
	if !known && len(s.table) >= maxLearned && !s.sweep(now) {
		return
	}
	s.table[a] = sighting{p, now}
}

// sweep removes addresses that are too old and reports whether there is room.
func (s *Switch) sweep(now time.Duration) bool {
	if now-s.swept < sweepEvery {
		return false
	}
	s.swept = now
	for a, seen := range s.table {
		if now-seen.at > ageLimit {
			delete(s.table, a)
		}
	}
	return len(s.table) < maxLearned
}

func (s *Switch) forward(now time.Duration, p *Port, frame []byte) {
	to := addressAt(frame)
	row := s.from[p.slot]
	if !to.group() {
		if seen, ok := s.table[to]; ok && now-seen.at <= ageLimit {
			if seen.port != p {
				s.send(now, row[seen.port.slot], frame)
			}
			for _, q := range s.observers {
				if q != p && q != seen.port {
					s.send(now, row[q.slot], frame)
				}
			}
			return
		}
	}
	for _, l := range row {
		if l != nil {
			s.send(now, l, frame)
		}
	}
}

// send puts a frame on a link.
func (s *Switch) send(now time.Duration, l *link, frame []byte) {
	if l.blocked {
		return
	}
	if !l.impaired && s.shaper.rate <= 0 && l.idle() {
		l.to.receive(frame)
		return
	}
	f := l.impair(len(frame))
	if f.lost {
		return
	}
	s.carry(now, l, frame, &f)
	if f.duplicated {
		s.carry(now, l, frame, &f)
	}
}

// carry delivers a frame when its time has come.
func (s *Switch) carry(now time.Duration, l *link, frame []byte, f *effect) {
	due, ok := s.shaper.admit(now, len(frame))
	if ok {
		due, ok = l.shaper.admit(due, len(frame))
	}
	if !ok || s.held+len(frame) > maxHeld {
		l.to.counters.Errors++
		return
	}
	queue := &l.ordered
	if f.overtakes {
		queue = &l.overtaking
		if n := queue.len(); n > 0 {
			due = max(due, queue.all()[n-1].due)
		}
	} else {
		due = max(due+f.delay, l.last)
		l.last = due
	}
	atOnce := due <= now && queue.len() == 0
	if atOnce && !f.corrupt {
		l.to.receive(frame)
		return
	}
	frame = s.pool.copy(frame)
	if f.corrupt {
		flip(frame, f.bit)
	}
	if atOnce {
		l.to.receive(frame)
		s.pool.release(frame)
		return
	}
	s.held += len(frame)
	queue.push(delayed{due, frame})
	if l.at < 0 {
		heap.Push(&s.agenda, l)
	} else {
		heap.Fix(&s.agenda, l.at)
	}
	if s.agenda[0] == l {
		s.wakeUp()
	}
}

func (s *Switch) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// release delivers the frames that are due and returns the time until the next one, or
// false if there is none.
func (s *Switch) release() (wait time.Duration, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.elapsed()
	for len(s.agenda) > 0 {
		l := s.agenda[0]
		if due := l.due(); due > now {
			return due - now, true
		}
		d := l.next().pop()
		s.held -= len(d.frame)
		l.to.receive(d.frame)
		s.pool.release(d.frame)
		if l.idle() {
			heap.Pop(&s.agenda)
		} else {
			heap.Fix(&s.agenda, 0)
		}
	}
	return 0, false
}

// run releases delayed frames until Close.
func (s *Switch) run() {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Stop()
		if !s.isPaced() {
			if wait, more := s.release(); more {
				timer.Reset(wait)
			}
		}
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.stop:
			return
		}
	}
}

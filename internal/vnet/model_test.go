package vnet

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is a network worked out frame by frame: when each one is due follows from
// the rules and from the effect on it alone. It knows no queue, heap, buffer or timer.
type model struct {
	names    []string
	seed     uint64
	up       map[string]bool
	stations map[string]station // by hardware address
	rules    map[Kind]Rule
	pairs    map[pair]map[Kind]Rule
	blocked  map[pair]bool // partitions of one direction
	isolated map[string]bool
	links    map[pair]*modelLink
	free     time.Duration
	pending  []arrival
	counters map[string]*Counters
	overtook map[uint32]bool
}

type station struct {
	port string
	at   time.Duration
}

type modelLink struct {
	values       values
	index        uint64
	free         time.Duration
	last         time.Duration // due time of the last frame that keeps its place
	lastOvertook time.Duration
}

// arrival is a frame as the model or the switch delivers it.
type arrival struct {
	at   time.Duration
	on   pair
	body string
}

func newModel(seed uint64, names []string) *model {
	m := &model{names: names, seed: seed, up: map[string]bool{}, stations: map[string]station{}, rules: map[Kind]Rule{},
		pairs: map[pair]map[Kind]Rule{}, blocked: map[pair]bool{}, isolated: map[string]bool{},
		links:    map[pair]*modelLink{},
		counters: map[string]*Counters{}, overtook: map[uint32]bool{}}
	for _, a := range names {
		m.up[a], m.counters[a] = true, &Counters{}
		for _, b := range names {
			m.links[pair{a, b}] = &modelLink{}
		}
	}
	return m
}

// ruled brings the links up to date with the rules.
func (m *model) ruled() {
	for p, l := range m.links {
		var v values
		for k := range jitterShape {
			r, whole := m.rules[k], true
			if own, ok := m.pairs[p][k]; ok {
				r, whole = own, false
			}
			if r.Kind = k; k != Bandwidth || !whole {
				r.put(&v)
			}
		}
		if v == l.values {
			continue
		}
		if !l.values.any() {
			l.index = 0
		}
		if v[Bandwidth] != l.values[Bandwidth] {
			l.free = 0
		}
		l.values = v
	}
}

func (m *model) stopped(p pair) bool {
	return m.blocked[p] || m.isolated[p.from] || m.isolated[p.to]
}

// send has a port send a frame.
func (m *model) send(now time.Duration, from string, frame []byte) {
	if !m.up[from] {
		return
	}
	c := m.counters[from]
	if len(frame) < headerLen || len(frame) > MaxFrame {
		c.Errors++
		return
	}
	c.TxPackets++
	c.TxBytes += uint64(len(frame))
	to, src := string(frame[:6]), string(frame[6:12])
	if src[0]&1 == 0 {
		if s, ok := m.stations[src]; !ok || s.port != from || now-s.at >= sweepEvery {
			m.stations[src] = station{from, now}
		}
	}
	if s, ok := m.stations[to]; ok && to[0]&1 == 0 && now-s.at <= ageLimit {
		if s.port != from {
			m.transmit(now, pair{from, s.port}, frame)
		}
		return
	}
	for _, name := range m.names {
		if name != from {
			m.transmit(now, pair{from, name}, frame)
		}
	}
}

// transmit has a frame go from one port to another.
func (m *model) transmit(now time.Duration, p pair, frame []byte) {
	if m.stopped(p) {
		return
	}
	l := m.links[p]
	whole := m.rules[Bandwidth]
	if !l.values.any() && whole.Value == 0 {
		m.pending = append(m.pending, arrival{now, p, string(frame)})
		return
	}
	key := linkKey(m.seed, p.from, p.to)
	d := decide(&l.values, key, l.index, len(frame), l.state(key))
	l.index++
	copies := 1
	if d.duplicated {
		copies = 2
	}
	if d.lost {
		copies = 0
	}
	for range copies {
		due, ok := shape(now, &m.free, whole.Value, whole.Queue, len(frame))
		if ok {
			due, ok = shape(due, &l.free, l.values[Bandwidth], int64(l.values[queueLimit]), len(frame))
		}
		if !ok {
			m.counters[p.to].Errors++
			continue
		}
		if d.overtakes {
			due = max(due, l.lastOvertook)
			l.lastOvertook = due
			m.overtook[number(frame)] = true
		} else {
			due = max(due+d.delay, l.last)
			l.last = due
		}
		body := slices.Clone(frame)
		if d.corrupt {
			flip(body, d.bit)
		}
		m.pending = append(m.pending, arrival{due, p, string(body)})
	}
}

// state is that of a link's loss model, gone through from the first frame.
func (l *modelLink) state(key uint64) (bad bool) {
	g := l.values.model()
	if g.Enter == 0 {
		return false
	}
	for i := range l.index + 1 {
		u := uniform(key, i, drawState) * 100
		switch {
		case i == 0:
			bad = u < 100*g.Enter/(g.Enter+g.Leave)
		case bad:
			bad = u < 100-g.Leave
		default:
			bad = u < g.Enter
		}
	}
	return bad
}

// shape returns when a frame has passed a limit of so many bits per second.
func shape(now time.Duration, free *time.Duration, bps float64, queue int64, size int) (time.Duration, bool) {
	if bps == 0 {
		return now, true
	}
	takes := func(bytes float64) time.Duration { return time.Duration(bytes * 8 / bps * 1e9) }
	limit := max(queueTime, takes(queueBytes))
	if queue > 0 {
		limit = takes(float64(queue))
	}
	begin := max(now, *free)
	if begin-now > limit {
		return 0, false
	}
	*free = begin + takes(float64(size))
	return *free, true
}

// arrive returns what is due.
func (m *model) arrive(now time.Duration) (out []arrival) {
	m.pending = slices.DeleteFunc(m.pending, func(a arrival) bool {
		if a.at > now {
			return false
		}
		if m.up[a.on.to] {
			c := m.counters[a.on.to]
			c.RxPackets++
			c.RxBytes += uint64(len(a.body))
			out = append(out, a)
		}
		return true
	})
	return out
}

// cut drops what is under way where nothing passes any more.
func (m *model) cut() {
	m.pending = slices.DeleteFunc(m.pending, func(a arrival) bool {
		if m.stopped(a.on) {
			m.links[a.on].last, m.links[a.on].lastOvertook = 0, 0
			return true
		}
		return false
	})
}

// sorted orders arrivals by time, then by what arrives where: which of two frames
// on different links that are due at the same moment comes first is left open.
func sorted(all []arrival) []string {
	lines := make([]string, len(all))
	for i, a := range all {
		lines[i] = fmt.Sprintf("%015d to %s: frame %d of %d bytes, %x", a.at, a.on.to, number([]byte(a.body)),
			len(a.body), a.body[:min(len(a.body), 64)])
	}
	slices.Sort(lines)
	return lines
}

// randomRule draws an impairment, at times none.
func randomRule(rnd *rand.Rand) Rule {
	pick := func(values ...float64) float64 { return values[rnd.IntN(len(values))] }
	r := Rule{Kind: Kind(rnd.IntN(int(jitterShape)))}
	switch r.Kind {
	case Latency:
		r.Value = pick(0, 0.25, 3, 40)
	case Jitter:
		r.Value, r.Distribution = pick(0, 2, 50), Distribution(rnd.IntN(3))
	case Loss:
		r.Value = pick(0, 30, 100)
		if r.Value > 0 && rnd.IntN(2) == 0 {
			r.Burst = GilbertElliott{pick(1, 40, 100), pick(5, 70, 100), pick(0, 10), pick(50, 100)}
			r.Value = r.Burst.Mean()
		}
	case Bandwidth:
		r.Value, r.Queue = pick(0, 0, 1e6, 8e6), int64(pick(0, 1, 3000, 20000))
	default:
		r.Value = pick(0, 10, 25)
	}
	return r
}

// TestModel has random networks do random things and compares each frame, its time
// and all counters with the model.
func TestModel(t *testing.T) {
	for seed := range uint64(300) {
		compareWithModel(t, seed)
	}
}

func compareWithModel(t *testing.T, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "c", "d"}[:2+rnd.IntN(3)]
	b := newBench(t, seed, names...)
	m := newModel(seed, names)
	start := b.at
	anyone := func() string { return names[rnd.IntN(len(names))] }
	anyPair := func() pair {
		for {
			if p := (pair{anyone(), anyone()}); p.from != p.to {
				return p
			}
		}
	}
	var got, want []arrival
	collect := func() {
		now := b.at.Sub(start)
		for _, name := range names {
			for _, f := range b.take(name) {
				got = append(got, arrival{now, pair{to: name}, string(f)})
			}
		}
		want = append(want, m.arrive(now)...)
	}
	pass := func(d time.Duration) {
		for end := b.at.Add(d); ; {
			wait, more := b.s.release()
			collect()
			if !more || wait > end.Sub(b.at) {
				b.at = end
				collect()
				return
			}
			b.at = b.at.Add(wait)
		}
	}
	var history []string
	did := func(format string, args ...any) { history = append(history, fmt.Sprintf(format, args...)) }
	for n := range uint32(200) {
		switch what := rnd.IntN(40); {
		case what < 2 || n < 4:
			if len(m.pending) > 0 { // what a new rule does to frames under way is not the model's
				pass(time.Hour)
			}
			r := randomRule(rnd)
			if rnd.IntN(3) == 0 {
				b.s.Apply(r)
				m.rules[r.Kind] = r
				if r.Kind == Bandwidth {
					m.free = 0
				}
				did("%+v", r)
			} else {
				p := anyPair()
				b.s.ApplyPair(p.from, p.to, r)
				if m.pairs[p] == nil {
					m.pairs[p] = map[Kind]Rule{}
				}
				if m.pairs[p][r.Kind] = r; r.Value == 0 {
					delete(m.pairs[p], r.Kind)
				}
				did("%v %+v", p, r)
			}
			m.ruled()
		case what == 2:
			p := anyPair()
			if m.blocked[p] {
				b.s.UnpartitionOneWay(p.from, p.to)
			} else {
				b.s.PartitionOneWay(p.from, p.to)
			}
			m.blocked[p] = !m.blocked[p]
			m.cut()
			did("partition %v: %v", p, m.blocked[p])
		case what == 3:
			name := anyone()
			m.isolated[name] = !m.isolated[name]
			b.s.Isolate(name, m.isolated[name])
			m.cut()
			did("isolate %s: %v", name, m.isolated[name])
		case what == 4:
			name := anyone()
			m.up[name] = !m.up[name]
			b.ids[name].SetUp(m.up[name])
			did("link %s: %v", name, m.up[name])
		case what == 5 && rnd.IntN(4) == 0:
			pass(ageLimit + time.Duration(rnd.IntN(2000)-1000)*time.Millisecond)
			did("ageing")
		}
		for range rnd.IntN(4) {
			from := anyone()
			f := randomFrame(rnd, from, n)
			b.send(from, f)
			m.send(b.at.Sub(start), from, f)
			collect()
		}
		pass(time.Duration(rnd.IntN(4)) * time.Millisecond)
	}
	pass(time.Hour)
	g, w := sorted(got), sorted(want)
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("seed %d: %d frames arrived, %d were to; the first difference is\n got %s\nwant %s\nafter %q",
				seed, len(g), len(w),
				slices.Concat(g, []string{"nothing"})[min(i, len(g))],
				slices.Concat(w, []string{"nothing"})[min(i, len(w))], history)
		}
	}
	for _, name := range names {
		if c := b.ids[name].Counters(); c != *m.counters[name] {
			t.Errorf("seed %d: counters of %s are %+v, should be %+v", seed, name, c, *m.counters[name])
		}
	}
	if b.s.held != 0 || len(b.s.agenda) != 0 {
		t.Fatalf("seed %d: %d bytes held after the last frame", seed, b.s.held)
	}
	inOrder(t, seed, got, m.overtook)
}

// inOrder checks that frames between two stations arrive in the order of sending,
// those aside that overtook.
func inOrder(t *testing.T, seed uint64, got []arrival, overtook map[uint32]bool) {
	t.Helper()
	last := map[string]uint32{}
	for _, a := range got {
		f := []byte(a.body)
		n := number(f)
		if len(f) < 60 || overtook[n] || binary.BigEndian.Uint32(f[headerLen+5:]) != n {
			continue // too short to tell, overtaking, or corrupt
		}
		way := a.on.to + string(f[headerLen+4:headerLen+5])
		if n < last[way] {
			t.Errorf("seed %d: frame %d arrived behind frame %d", seed, n, last[way])
		}
		last[way] = n
	}
}

// randomFrame makes one of any kind: also too short, too long, tagged, to nobody, to
// itself and with the address of somebody else.
func randomFrame(rnd *rand.Rand, from string, n uint32) []byte {
	size := 60 + rnd.IntN(1400)
	switch rnd.IntN(20) {
	case 0:
		return make([]byte, rnd.IntN(headerLen))
	case 1:
		size = MaxFrame
	case 2:
		size = MaxFrame + 1 + rnd.IntN(50_000)
	case 3:
		size = headerLen + 6
	}
	to, src := mac("abcdx"[rnd.IntN(5)]), mac(from[0])
	if rnd.IntN(6) == 0 {
		to = broadcast
	}
	if rnd.IntN(15) == 0 {
		src = mac("abcd"[rnd.IntN(4)])
	}
	f := frame(to, src, n, size)
	f[headerLen+4] = from[0]
	if size < 60 {
		return f
	}
	binary.BigEndian.PutUint32(f[headerLen+5:], n)
	if rnd.IntN(8) == 0 {
		binary.BigEndian.PutUint16(f[12:], 0x8100)
	}
	return f
}

// TestBursts compares long runs of the loss model with what its numbers promise,
// and its state with the one that is worked out from any frame on.
func TestBursts(t *testing.T) {
	for _, g := range []GilbertElliott{{1, 25, 0, 100}, {5, 50, 1, 80}, {90, 60, 0, 100}, {100, 100, 0, 100}} {
		l := &link{key: linkKey(7, "a", "b")}
		r := Rule{Kind: Loss, Value: g.Mean(), Burst: g}
		r.put(&l.values)
		const frames = 200_000
		lost, bursts, in := 0, 0, false
		for i := range uint64(frames) {
			f := l.impair(100)
			if bad := g.badAt(l.key, i, nil); bad != l.bad {
				t.Fatalf("%+v: state at frame %d is %v looking back and %v step by step", g, i, bad, l.bad)
			}
			if f.lost {
				lost++
			}
			if l.bad && !in {
				bursts++
			}
			in = l.bad
			if g.Enter == 100 && i > 2000 {
				break // never forgets: looking back takes ever longer
			}
		}
		if g.Enter == 100 {
			continue
		}
		if rate := float64(lost) / frames * 100; rate < g.Mean()*0.95 || rate > g.Mean()*1.05 {
			t.Errorf("%+v: %.2f %% lost, %.2f %% were to", g, rate, g.Mean())
		}
		share := g.Enter / (g.Enter + g.Leave)
		if mean := share * frames / float64(bursts); mean < 0.95*100/g.Leave || mean > 1.05*100/g.Leave {
			t.Errorf("%+v: bad for %.2f frames on average, should be %.2f", g, mean, 100/g.Leave)
		}
	}
}

// TestDistributions looks at the mean, the spread and the ends of each.
func TestDistributions(t *testing.T) {
	for _, c := range []struct {
		d              Distribution
		mean, low, top float64
	}{{Uniform, 0, -1, 1}, {Normal, 0, -4, 4}, {Pareto, 1, 0, 20}} {
		sum, low, top := 0.0, 100.0, -100.0
		const n = 200_000
		for i := range uint64(n) {
			x := c.d.spread(uniform(1, i, drawJitter), uniform(1, i, drawJitterToo))
			sum, low, top = sum+x, min(low, x), max(top, x)
		}
		if mean := sum / n; mean < c.mean-0.02 || mean > c.mean+0.02 || low < c.low || top > c.top || top < 0.9*c.top {
			t.Errorf("%v: mean %.3f, from %.2f to %.2f", c.d, mean, low, top)
		}
	}
	for _, u := range []float64{0, 0.5, 1 - 1.0/(1<<53)} {
		for d := Uniform; d <= Pareto; d++ {
			if x := d.spread(u, u); x != x || cmp.Compare(x, -d.tail()) < 0 || x > d.tail() {
				t.Errorf("%v spreads %v to %v", d, u, x)
			}
		}
	}
}

// FuzzModel is TestModel from any seed.
func FuzzModel(f *testing.F) {
	f.Add(uint64(0))
	f.Add(uint64(12345))
	f.Fuzz(compareWithModel)
}

package vnet

import "time"

// link is one direction between two ports.
type link struct {
	from, to *Port
	key      uint64 // of its random numbers

	blocked  bool
	impaired bool
	values   values
	index    uint64 // frames since it became impaired
	bad      bool   // state of the loss model at frame badAt-1
	badAt    uint64 // 0: not known
	shaper   shaper

	// Delayed frames, each queue in order of its due times: overtaking frames
	// pass by those that wait for their latency.
	ordered, overtaking fifo[delayed]
	last                time.Duration // when the last ordered frame is due
	at                  int           // position in the switch's agenda, -1: not in it
}

// delayed is a frame under way.
type delayed struct {
	due   time.Duration
	frame []byte
}

// impair returns what happens to the next frame.
func (l *link) impair(size int) effect {
	if l.values[burstEnter] > 0 {
		var before *bool
		if l.badAt == l.index && l.index > 0 {
			before = &l.bad
		}
		l.bad = l.values.model().badAt(l.key, l.index, before)
		l.badAt = l.index + 1
	}
	f := decide(&l.values, l.key, l.index, size, l.bad)
	l.index++
	return f
}

// idle reports whether no frame is under way.
func (l *link) idle() bool { return l.ordered.len() == 0 && l.overtaking.len() == 0 }

// next returns the queue whose first frame is due first. The link must not be idle.
func (l *link) next() *fifo[delayed] {
	switch {
	case l.ordered.len() == 0:
		return &l.overtaking
	case l.overtaking.len() == 0 || l.ordered.front().due < l.overtaking.front().due:
		return &l.ordered
	}
	return &l.overtaking
}

func (l *link) due() time.Duration { return l.next().front().due }

// shaper limits the rate of frames. Its zero value has no limit.
type shaper struct {
	rate  float64       // bits per second; 0: no limit
	queue float64       // bytes that may wait; 0: queueTime
	free  time.Duration // when the last frame has passed
}

const (
	// queueTime is how much traffic may wait at a shaper if no limit was set, but
	// queueBytes at least.
	queueTime  = 500 * time.Millisecond
	queueBytes = 32 << 10
)

// admit returns the time at which a frame of size bytes has passed, or false when
// the queue is full.
func (s *shaper) admit(now time.Duration, size int) (time.Duration, bool) {
	if s.rate <= 0 {
		return now, true
	}
	start := max(now, s.free)
	limit := max(queueTime, s.time(queueBytes))
	if s.queue > 0 {
		limit = s.time(s.queue)
	}
	if start-now > limit {
		return 0, false
	}
	s.free = start + s.time(float64(size))
	return s.free, true
}

func (s *shaper) time(bytes float64) time.Duration {
	seconds := bytes * 8 / s.rate
	return time.Duration(min(seconds, maxDelay/1000) * float64(time.Second))
}

// set changes the rate for later frames.
func (s *shaper) set(v *values) {
	if s.rate != v[Bandwidth] {
		*s = shaper{rate: v[Bandwidth]}
	}
	s.queue = v[queueLimit]
}

// agenda is a heap (container/heap) of the links with frames under way, by the time at
// which the next frame is due.
type agenda []*link

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due() < a[j].due() }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].at, a[j].at = i, j
}

func (a *agenda) Push(x any) {
	l := x.(*link)
	l.at = len(*a)
	*a = append(*a, l)
}

func (a *agenda) Pop() any {
	old := *a
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	l.at = -1
	return l
}

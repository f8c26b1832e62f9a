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

// idle tells whether nothing is under way.
func (l *link) idle() bool { return l.ordered.len() == 0 && l.overtaking.len() == 0 }

// next is the queue whose first frame is due first. The link must not be idle.
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

// shaper lets frames pass at a rate. Its zero value has no limit.
type shaper struct {
	rate float64       // bits per second; 0: no limit
	free time.Duration // when the last frame has passed
}

const (
	// queueTime is how much traffic may wait at a shaper, and queueBytes what
	// may wait at least.
	queueTime  = 500 * time.Millisecond
	queueBytes = 32 << 10
)

// admit gives the time at which a frame of size bytes has passed, or false when
// the queue is full.
func (s *shaper) admit(now time.Duration, size int) (time.Duration, bool) {
	if s.rate <= 0 {
		return now, true
	}
	start := max(now, s.free)
	limit := max(queueTime, s.time(queueBytes))
	if start-now > limit {
		return 0, false
	}
	s.free = start + s.time(size)
	return s.free, true
}

func (s *shaper) time(bytes int) time.Duration {
	seconds := float64(bytes) * 8 / s.rate
	return time.Duration(min(seconds, maxDelay/1000) * float64(time.Second))
}

// setRate changes the rate; what has passed already is not charged again.
func (s *shaper) setRate(rate float64) {
	if s.rate != rate {
		*s = shaper{rate: rate}
	}
}

// agenda is a heap (container/heap) of the links with frames under way, the one
// due first at its top.
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

// Package hosttsc measures how fast the time stamp counter of the host's processors counts.
//
// An emulated guest reads that counter. Its kernel would measure the counter by itself, and
// on a busy host it measures nonsense: a clock that runs twenty times too fast has been seen.
// The package starts nothing and knows no guests: who boots one tells its kernel.
package hosttsc

import (
	"context"
	"sync"
	"time"
)

const (
	// span is the least time between the two looks at the counter. Each is exact to some
	// tens of nanoseconds, which makes the frequency exact to about 20 millionths.
	span = 5 * time.Millisecond
	// looks is how often the clock and the counter are read for one look, of which the
	// pair that was read fastest counts: others were interrupted.
	looks = 64
	// minKHz and maxKHz bound what is taken for a frequency.
	minKHz, maxKHz = 100_000, 20_000_000
)

// Meter measures the counter. The zero value is ready: it begins with the first call of
// KHz, unless Start was called before, and measures once. It is safe for concurrent use.
type Meter struct {
	mu    sync.Mutex
	begun bool
	first pair
	khz   int
	done  bool
}

// Start takes the first look, so that KHz has less to wait for.
func (m *Meter) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start()
}

func (m *Meter) start() {
	if !m.begun && supported {
		m.begun, m.first = true, look()
	}
}

// KHz returns the frequency in kHz, after at most a few milliseconds; 0 where the processor
// has no such counter or the context ends first.
func (m *Meter) KHz(ctx context.Context) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done || !supported {
		return m.khz
	}
	m.start()
	if rest := span - time.Since(m.first.at); rest > 0 {
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(rest):
		}
	}
	m.khz, m.done = frequency(m.first, look()), true
	return m.khz
}

// pair is the clock and the counter at one moment.
type pair struct {
	at    time.Time
	count uint64
}

// look returns the pair that was read with the least delay.
func look() (best pair) {
	least := time.Duration(-1)
	for range looks {
		before := time.Now()
		n := counter()
		took := time.Since(before)
		if least < 0 || took < least {
			least, best = took, pair{before.Add(took / 2), n}
		}
	}
	return best
}

// frequency returns by how many thousands per second the counter went on, 0 when that is no
// frequency of one.
func frequency(from, to pair) int {
	elapsed := to.at.Sub(from.at).Seconds()
	if elapsed <= 0 || to.count <= from.count {
		return 0
	}
	khz := float64(to.count-from.count) / elapsed / 1e3
	if khz < minKHz || khz > maxKHz {
		return 0
	}
	return int(khz + 0.5)
}

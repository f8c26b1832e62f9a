package sched

import "time"

// share is what one guest takes of its file's part of the pool. It belongs to the pool's
// lock.
type share struct {
	size   Amount
	since  time.Time
	cold   bool // boots, and is not restored
	booted bool
}

func (s *share) boots(now time.Time) bool {
	return s.cold && !s.booted && now.Sub(s.since) < coldBootLimit
}

// fresh reports whether what is measured does not stand for the guest yet.
func (s *share) fresh(now time.Time) bool { return now.Sub(s.since) < measuredAfter || s.boots(now) }

// Observe takes a measurement: of the machine, and of what the running files use. It
// grants what has room now. It should be called about every half second.
func (p *Pool) Observe(load Load, uses map[*File]Use) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	over := now.Sub(p.observed)
	if p.observed.IsZero() {
		over = 0
	}
	p.observed, p.load, p.pressure = now, load, p.pressure.next(load)
	for _, f := range p.running {
		use, ok := uses[f]
		if !ok {
			continue
		}
		f.used = max(0, use.Memory-FileOverhead)
		if over > 0 {
			f.rate = average(f.rate, use.CPUs, over)
			f.cpuSeconds += use.CPUs * over.Seconds()
			f.seconds += over.Seconds()
		}
	}
	p.schedule()
}

// Booted says that a guest of the file which boots cold is up.
func (f *File) Booted() {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	for _, s := range f.shares {
		if s.cold && !s.booted {
			s.booted = true
			f.pool.schedule()
			return
		}
	}
}

// The caller of the functions below must hold the pool's lock.

// expects returns how many CPUs a file that has not started is taken to use.
func (f *File) expects() float64 {
	expected := f.expected
	if expected <= 0 {
		expected = (unknownCPUs + f.pool.endedRates) / float64(1+f.pool.endedFiles)
	}
	return max(leastCPUs, expected)
}

// learn takes what a file that ends has used into the expectation of unknown ones.
func (p *Pool) learn(f *File) {
	if f.seconds >= 1 {
		p.endedRates += f.cpuSeconds / f.seconds
		p.endedFiles++
	}
}

// guests returns the facts about the guests of a file, with further ones about to start.
func (f *File) guests(more Amount) guests {
	g := guests{declared: f.charged.Memory + more.Memory, fresh: more.Memory, used: f.used}
	now := f.pool.cfg.Now()
	for _, s := range f.shares {
		if s.fresh(now) {
			g.fresh += s.size.Memory
			continue
		}
		g.settled++
		g.largest = max(g.largest, s.size.Memory)
	}
	return g
}

// coldBoots returns how many guests boot at the moment.
func (p *Pool) coldBoots() (n int) {
	now := p.cfg.Now()
	for _, f := range p.running {
		for _, s := range f.shares {
			if s.boots(now) {
				n++
			}
		}
	}
	return n
}

// unmeasured reports whether a running file has guests that are charged what they declare
// only until they are measured.
func (p *Pool) unmeasured() bool {
	if !p.load.known() {
		return false
	}
	for _, f := range p.running {
		if g := f.guests(Amount{}); f.claim.Memory == 0 && g.fresh > 0 {
			return true
		}
	}
	return false
}

// cpus returns how many CPUs a running file has claimed, or else uses.
func (f *File) cpus() (claimed, demand float64) {
	if f.claim.CPUs > 0 {
		return float64(f.claim.CPUs), 0
	}
	return 0, f.rate
}

// cpuFacts returns what decides about CPUs for a request.
func (p *Pool) cpuFacts(w *waiter, all totals) cpuFacts {
	facts := cpuFacts{budget: float64(p.cfg.Total.CPUs), claimed: all.claimed, demand: all.demand,
		alone: len(p.running) == 0, load: p.load, pressed: p.pressure.cpu}
	if w.file.state == running {
		claimed, demand := w.file.cpus()
		facts.claimed, facts.demand = facts.claimed-claimed, facts.demand-demand
		facts.alone = len(p.running) == 1
	}
	now := p.cfg.Now()
	facts.overdue = !w.since.IsZero() && now.Sub(w.since) >= p.cfg.MaxBypassTime &&
		now.Sub(p.started) >= p.cfg.MaxBypassTime
	return facts
}

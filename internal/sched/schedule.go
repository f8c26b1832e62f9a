package sched

import (
	"fmt"
	"slices"
)

// The caller of every function in this file must hold the pool's lock.

// reserved returns what the file takes out of the pool while it runs.
func (f *File) reserved() Amount { return f.reservation(f.claim, Amount{}) }

// reservation returns the overhead of a file plus its claim; where there is no claim,
// guests count by themselves, with further ones about to start.
func (f *File) reservation(claim, more Amount) Amount {
	r := Amount{CPUs: f.charged.CPUs + more.CPUs}
	if claim.CPUs > 0 {
		r.CPUs = claim.CPUs
	}
	if claim.Memory > 0 {
		r.Memory = FileOverhead + max(claim.Memory, f.used)
	} else {
		r.Memory = FileOverhead + f.guests(more).charge()
	}
	return r
}

func (p *Pool) used() Amount { return p.totals().reserved }

// totals are sums over the running files.
type totals struct {
	reserved        Amount
	claimed, demand float64 // CPUs of files with a claim of them, and of the others
	growth          int64   // what the largest guest without a claim can grow by
}

func (p *Pool) totals() (t totals) {
	for _, f := range p.running {
		t.reserved = t.reserved.plus(f.reserved())
		claimed, demand := f.cpus()
		t.claimed, t.demand = t.claimed+claimed, t.demand+demand
		if f.claim.Memory == 0 {
			t.growth = max(t.growth, f.guests(Amount{}).growth())
		}
	}
	return t
}

// after returns what the file would reserve once the request is granted.
func (w *waiter) after() Amount {
	f := w.file
	switch w.kind {
	case wantCharge:
		return f.reservation(f.claim, w.need)
	case wantClaim:
		return f.reservation(w.need, Amount{})
	}
	return f.reserved()
}

// verdict says what a request has room for.
type verdict struct {
	memory bool // in the budget
	cpus   bool
	calm   bool // nothing on the host keeps it back
}

func (v verdict) all() bool { return v.memory && v.cpus && v.calm }

// fit decides what a request has room for beside the running files.
func (p *Pool) fit(w *waiter, all totals) verdict {
	var before Amount
	growth := all.growth
	if w.file.state == running {
		before, growth = w.file.reserved(), p.growth(w)
	}
	others := all.reserved.minus(before)
	after := w.after()
	more := after.Memory - before.Memory
	v := verdict{memory: more <= 0 || others.Memory+after.Memory+growth <= p.cfg.Total.Memory, calm: true}
	// The oldest file always goes on, and what is within a claim was granted with it.
	if len(p.running) > 0 && w.file != p.running[0] && more > 0 && p.load.known() {
		v.calm = !p.pressure.memory && (p.load.MemoryFree < 0 || more <= p.load.MemoryFree)
	}
	switch {
	case p.cfg.CountCPUs:
		v.cpus = after.CPUs <= before.CPUs || others.CPUs == 0 || others.CPUs+after.CPUs <= p.cfg.Total.CPUs
	case w.kind == wantCharge:
		v.cpus = true
	case w.kind == wantClaim:
		v.cpus = p.cpuFacts(w, all).roomForClaim(float64(w.need.CPUs))
	case w.file.claim.CPUs > 0:
		v.cpus = p.cpuFacts(w, all).roomForClaim(float64(w.file.claim.CPUs))
	default:
		v.cpus = p.cpuFacts(w, all).roomFor(w.file.expects())
	}
	if w.kind == wantCharge && p.cfg.ColdBoots > 0 {
		booting, cold := p.coldBoots(), w.coldBoots()
		v.cpus = v.cpus && (cold == 0 || booting == 0 || booting+cold <= p.cfg.ColdBoots)
	}
	return v
}

func (w *waiter) coldBoots() (n int) {
	for _, s := range w.shares {
		if s.cold {
			n++
		}
	}
	return n
}

// growth returns the room that is kept for the largest guest to grow, when the request of
// a running file is granted.
func (p *Pool) growth(w *waiter) (most int64) {
	for _, f := range p.running {
		var more Amount
		claim := f.claim
		if f == w.file && w.kind == wantCharge {
			more = w.need
		} else if f == w.file && w.kind == wantClaim {
			claim = w.need
		}
		if claim.Memory == 0 {
			most = max(most, f.guests(more).growth())
		}
	}
	return most
}

// goesOn reports whether the measured memory has room for a request of a running file,
// while all others wait: their overheads and their room to grow do not count.
func (p *Pool) goesOn(w *waiter) bool {
	sum := w.after().Memory
	for _, f := range p.running {
		if f != w.file {
			sum += f.reserved().Memory - FileOverhead
		}
	}
	return sum <= p.cfg.Total.Memory
}

// schedule grants what can be granted, after any change.
func (p *Pool) schedule() {
	for p.scan() || p.untangle() {
	}
	p.tell()
}

// scan goes over all requests in order, grants the first that fits and that
// may go before those in front of it, and reports whether there was one.
func (p *Pool) scan() bool {
	now := p.cfg.Now()
	all := p.totals()
	var passed []*waiter
	for _, w := range slices.Concat(p.waiting, p.queue) {
		if w.kind == wantStart && p.cfg.Jobs > 0 && len(p.running) >= p.cfg.Jobs {
			return false
		}
		if p.fit(w, all).all() {
			for _, o := range passed {
				o.bypass++
			}
			p.grant(w)
			return true
		}
		if w.since.IsZero() {
			w.since = now
		}
		if w.bypass >= p.cfg.MaxBypass || now.Sub(w.since) >= p.cfg.MaxBypassTime {
			return false
		}
		passed = append(passed, w)
	}
	return false
}

// untangle acts when every running file waits, so that none can free anything,
// and reports whether it changed something.
func (p *Pool) untangle() bool {
	if len(p.running) == 0 || len(p.waiting) == 0 {
		return false
	}
	for _, f := range p.running {
		if !slices.ContainsFunc(p.waiting, func(w *waiter) bool { return w.file == f }) {
			return false
		}
	}
	all := p.totals()
	// A request that waits for its turn would wait for ever, and CPUs only cause delay.
	for _, w := range p.waiting {
		if p.fit(w, all).all() {
			p.grant(w)
			return true
		}
	}
	onlyClaims := true
	for _, w := range p.waiting {
		if p.fit(w, all).memory {
			p.grant(w)
			return true
		}
		onlyClaims = onlyClaims && w.kind == wantClaim
	}
	if onlyClaims {
		p.grant(p.waiting[0])
		return true
	}
	for _, f := range p.running {
		for _, w := range p.waiting {
			if w.file == f && p.goesOn(w) {
				p.grant(w)
				return true
			}
		}
	}
	if p.unmeasured() {
		return false // the next measurement may find room
	}
	for _, w := range slices.Backward(p.waiting) {
		if w.kind == wantCharge {
			p.finish(w, fmt.Errorf("%s needs %s, but %w: every running file waits for memory that the others hold"+
				"(%s of %s are in use); reserve the file's peak with provium:claim, or raise --mem",
				w.what, w.need, ErrDeadlock, p.used(), p.cfg.Total))
			return true
		}
	}
	return false
}

func (p *Pool) grant(w *waiter) {
	f := w.file
	switch w.kind {
	case wantStart:
		f.state, f.rate, p.started = running, f.expects(), p.cfg.Now()
		p.running = append(p.running, f)
	case wantCharge:
		f.charged = f.charged.plus(w.need)
		for _, s := range w.shares {
			s.since = p.cfg.Now()
			f.shares = append(f.shares, s)
		}
	case wantClaim:
		f.claim = w.need
	}
	p.finish(w, nil)
	p.recheck(f)
}

// recheck fails those charges of a file that no longer fit into its claim.
func (p *Pool) recheck(f *File) {
	for _, w := range slices.Clone(p.waiting) {
		if w.file == f && w.kind == wantCharge {
			if err := f.withinClaim(w.what, w.need); err != nil {
				p.finish(w, err)
			}
		}
	}
}

// finish decides a request.
func (p *Pool) finish(w *waiter, err error) {
	if w.settled {
		return
	}
	w.settled, w.err = true, err
	gone := func(o *waiter) bool { return o == w }
	p.queue = slices.DeleteFunc(p.queue, gone)
	p.waiting = slices.DeleteFunc(p.waiting, gone)
	close(w.done)
}

// tell reports the queued files whose reason to wait has changed.
func (p *Pool) tell() {
	for _, w := range p.queue {
		why := PoolFull
		switch {
		case p.cfg.Jobs > 0 && len(p.running) >= p.cfg.Jobs:
			why = JobsLimit
		case p.pressure != pressure{}:
			why = PSIPressure
		}
		if w.told == why {
			continue
		}
		w.told = why
		if p.cfg.Blocked != nil {
			p.cfg.Blocked(w.file.name, w.after(), why)
		}
	}
}

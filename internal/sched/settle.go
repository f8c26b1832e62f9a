package sched

import (
	"fmt"
	"slices"
)

// All of this file is called with the pool locked.

// reserved is what the file takes out of the pool while it runs.
func (f *File) reserved() Amount { return reservation(f.claim, f.charged) }

// reservation is the overhead of a file plus its claim; where there is no
// claim, charges count by themselves.
func reservation(claim, charged Amount) Amount {
	r := Amount{Memory: FileOverhead + charged.Memory, CPUs: charged.CPUs}
	if claim.Memory > 0 {
		r.Memory = FileOverhead + claim.Memory
	}
	if claim.CPUs > 0 {
		r.CPUs = claim.CPUs
	}
	return r
}

func (p *Pool) used() Amount {
	var sum Amount
	for _, f := range p.running {
		sum = sum.plus(f.reserved())
	}
	return sum
}

// after is what the file would reserve once the request is granted.
func (w *waiter) after() Amount {
	f := w.file
	switch w.kind {
	case wantCharge:
		return reservation(f.claim, f.charged.plus(w.need))
	case wantClaim:
		return reservation(w.need, f.charged)
	}
	return f.reserved()
}

// fit tells whether a request fits, for memory and for CPUs.
func (p *Pool) fit(w *waiter) (memory, cpus bool) {
	var before Amount
	if w.file.state == running {
		before = w.file.reserved()
	}
	others := p.used().minus(before)
	after := w.after()
	memory = after.Memory <= before.Memory || others.Memory+after.Memory <= p.cfg.Total.Memory
	cpus = after.CPUs <= before.CPUs || others.CPUs == 0 || others.CPUs+after.CPUs <= p.cfg.Total.CPUs
	return memory, cpus
}

// settle grants what can be granted, after any change.
func (p *Pool) settle() {
	for p.scan() || p.untangle() {
	}
	p.tell()
}

// holds tells whether the file has more of the pool than its overhead.
func (f *File) holds() bool { return f.claim != Amount{} || f.charged != Amount{} }

// byHolding parts the requests of running files. Those of files that hold something
// go first: what they hold is idle while they wait, and free again when they are done.
func (p *Pool) byHolding() (holders, others []*waiter) {
	for _, w := range p.waiting {
		if w.file.holds() {
			holders = append(holders, w)
		} else {
			others = append(others, w)
		}
	}
	return holders, others
}

// waits tells whether the file has a request that is not decided.
func (p *Pool) waits(f *File) bool {
	return slices.ContainsFunc(p.waiting, func(w *waiter) bool { return w.file == f })
}

// scan goes over all requests in order, grants the first that fits and that
// may go before those in front of it, and tells whether there was one.
func (p *Pool) scan() bool {
	now := p.cfg.Now()
	var passed []*waiter
	holders, others := p.byHolding()
	for _, w := range slices.Concat(holders, others, p.queue) {
		if w.kind == wantStart && p.cfg.Jobs > 0 && len(p.running) >= p.cfg.Jobs {
			return false
		}
		if memory, cpus := p.fit(w); memory && cpus {
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

// untangle acts when none can free anything, and tells whether it changed something.
func (p *Pool) untangle() bool {
	holders, others := p.byHolding()
	if len(p.waiting) == 0 || slices.ContainsFunc(p.running, func(f *File) bool { return f.holds() && !p.waits(f) }) {
		return false
	}
	// Every file that holds something waits. Waiting for one's turn is of no use now,
	// and CPUs only ever delay. The overdraft goes to files that hold something, so
	// that they come to their end, and not one more has idle guests.
	if p.grantFirst(holders) {
		return true
	}
	if slices.ContainsFunc(p.running, func(f *File) bool { return !p.waits(f) }) {
		return false // its end gives its overhead back
	}
	if p.grantFirst(others) {
		return true
	}
	if !slices.ContainsFunc(p.waiting, func(w *waiter) bool { return w.kind != wantClaim }) {
		p.grant(p.waiting[0])
		return true
	}
	for _, w := range slices.Backward(p.waiting) {
		if w.kind == wantCharge {
			p.finish(w, fmt.Errorf("%s needs %s, but %w: every running file waits for memory that the others hold (%s of %s are in use); reserve the file's peak with provium:claim, or raise --mem",
				w.what, w.need, ErrDeadlock, p.used(), p.cfg.Total))
			return true
		}
	}
	return false
}

// grantFirst grants the first of the requests that fits, else the first that does but
// for CPUs, and tells whether there was one.
func (p *Pool) grantFirst(requests []*waiter) bool {
	var short *waiter
	for _, w := range requests {
		memory, cpus := p.fit(w)
		if memory && cpus {
			p.grant(w)
			return true
		}
		if memory && short == nil {
			short = w
		}
	}
	if short != nil {
		p.grant(short)
	}
	return short != nil
}

func (p *Pool) grant(w *waiter) {
	f := w.file
	switch w.kind {
	case wantStart:
		f.state = running
		p.running = append(p.running, f)
	case wantCharge:
		f.charged = f.charged.plus(w.need)
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

// tell reports the queued files whose reason to wait is new.
func (p *Pool) tell() {
	for _, w := range p.queue {
		why := PoolFull
		if p.cfg.Jobs > 0 && len(p.running) >= p.cfg.Jobs {
			why = JobsLimit
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

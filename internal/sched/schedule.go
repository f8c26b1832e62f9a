package sched

import (
	"fmt"
	"slices"
)

// The caller of every function in this file must hold the pool's lock.

// reserved returns what the file takes out of the pool while it runs.
func (f *File) reserved() Amount { return reservation(f.claim, f.charged) }

// reservation returns the overhead of a file plus its claim; where there is no
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

// after returns what the file would reserve once the request is granted.
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

// fit reports whether a request fits, for memory and for CPUs.
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
	var passed []*waiter
	for _, w := range slices.Concat(p.waiting, p.queue) {
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
	// A request that waits for its turn would wait for ever, and CPUs only cause delay.
	for _, w := range p.waiting {
		if memory, cpus := p.fit(w); memory && cpus {
			p.grant(w)
			return true
		}
	}
	onlyClaims := true
	for _, w := range p.waiting {
		if memory, _ := p.fit(w); memory {
			p.grant(w)
			return true
		}
		onlyClaims = onlyClaims && w.kind == wantClaim
	}
	if onlyClaims {
		p.grant(p.waiting[0])
		return true
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

// tell reports the queued files whose reason to wait has changed.
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

package sched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// FileOverhead is the memory a running file reserves beside its claim.
	FileOverhead = 50 << 20
	// DefaultMaxBypass is how many later requests may go before one that does
	// not fit.
	DefaultMaxBypass = 8
	// DefaultMaxBypassTime is for how long they may.
	DefaultMaxBypassTime = 60 * time.Second
)

// Errors that the pool's errors wrap.
var (
	// ErrExceedsTotal is about a request that could never be granted.
	ErrExceedsTotal = errors.New("exceeds pool total")
	// ErrClaimTaken is about a file's second claim.
	ErrClaimTaken = errors.New("claim already taken")
	// ErrBeyondClaim is about a charge above the rest of the file's claim.
	ErrBeyondClaim = errors.New("beyond the file's claim")
	// ErrDeadlock is about a charge for which every running file would wait.
	ErrDeadlock = errors.New("the pool is deadlocked")
	// ErrEnded is about a request of a file that has ended.
	ErrEnded = errors.New("file has ended")
)

// Reason is why a file is not dispatched.
type Reason string

// The reasons.
const (
	PoolFull    Reason = "pool_full"
	PSIPressure Reason = "psi_pressure"
	JobsLimit   Reason = "jobs_limit"
)

// Config is what a pool is made from.
type Config struct {
	// Total is the budget.
	Total Amount
	// Jobs is how many files may run at a time, 0 for any number.
	Jobs int
	// CountCPUs has the vCPUs of guests count against the budget. Otherwise files start
	// while CPUs are left by what is used, see Observe, and only claims hold vCPUs.
	CountCPUs bool
	// ColdBoots is how many guests may boot cold at a time, 0 for any number. One
	// acquisition may always have them all.
	ColdBoots int
	// MaxBypass and MaxBypassTime bound how often, and for how long, a request
	// that does not fit is passed over; 0 is the default of each.
	MaxBypass     int
	MaxBypassTime time.Duration
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	// Blocked is told when a queued file starts to wait or its reason changes.
	// It is called with the pool locked and must not call into the pool. May
	// be nil.
	Blocked func(file string, waitingFor Amount, why Reason)
}

// Pool is the budget that files share. It is safe for concurrent use.
//
// Guests without a claim are charged the memory that they use, once Observe has told
// it, and room is kept for the largest of them to grow to its size.
//
// A request that does not fit does not hold back later ones until it was
// passed over too often. Requests of running files go before queued files.
// Where all running files wait, the oldest that the measured memory has room for goes on,
// though overheads of the others and the room to grow are in its way; with claims, the
// first. CPUs are overdrawn by a file that is the only one to hold any, and where every
// file would wait for CPUs of the others.
type Pool struct {
	cfg Config

	mu      sync.Mutex
	running []*File
	queue   []*waiter // files that are not dispatched, in order
	waiting []*waiter // charges and claims of running files, in order
	started time.Time // when a file started last

	observed   time.Time // when the load was measured
	load       Load
	pressure   pressure
	endedRates float64 // sum of the CPUs that ended files used on average
	endedFiles int
}

// File is the share of one test file.
type File struct {
	pool *Pool
	name string

	// The fields below belong to pool.mu.
	state   fileState
	start   *waiter
	claim   Amount // what is reserved for charges; zero fields are not claimed
	limit   Amount // the claim, from when it is asked for
	taken   bool   // Claim was called
	charged Amount // sum of what runs now, as declared
	shares  []*share

	expected            float64 // CPUs, as known before; 0: unknown
	rate                float64 // CPUs that it uses, averaged
	cpuSeconds, seconds float64 // what was measured so far
	used                int64   // memory beside the overhead; negative: not measured
}

type fileState int

const (
	queued fileState = iota
	running
	ended
)

// waiter is a request that may have to wait. Its fields belong to pool.mu,
// until done is closed.
type waiter struct {
	file    *File
	what    string // of a charge
	kind    waiterKind
	need    Amount   // of a charge: what it adds; of a claim: its size
	shares  []*share // of a charge
	bypass  int
	since   time.Time // when it was first found not to fit
	told    Reason
	done    chan struct{}
	err     error
	settled bool
}

type waiterKind int

const (
	wantStart waiterKind = iota
	wantCharge
	wantClaim
)

// New returns a pool. The budget must have room for one file.
func New(cfg Config) (*Pool, error) {
	if cfg.Total.Memory < FileOverhead {
		return nil, fmt.Errorf("memory budget %s is below the %s that one file needs", formatBytes(cfg.Total.Memory),
			formatBytes(FileOverhead))
	}
	if cfg.Total.CPUs < 1 {
		return nil, fmt.Errorf("cpu budget %d is below 1", cfg.Total.CPUs)
	}
	if cfg.Jobs < 0 {
		return nil, fmt.Errorf("jobs limit %d is negative", cfg.Jobs)
	}
	if cfg.MaxBypass == 0 {
		cfg.MaxBypass = DefaultMaxBypass
	}
	if cfg.MaxBypassTime == 0 {
		cfg.MaxBypassTime = DefaultMaxBypassTime
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Pool{cfg: cfg}, nil
}

// State returns what is reserved and what is free.
func (p *Pool) State() (used, available Amount) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used = p.used()
	available = p.cfg.Total.minus(used)
	return used, Amount{max(0, available.Memory), max(0, available.CPUs)}
}

// Enqueue puts a file at the end of the queue. claim is what the file is known
// to claim, reserved together with its start; zero if nothing is known. cpus is how
// many CPUs it will use on average, 0 if nothing is known. The file must be ended with
// Done, whether it started or not.
func (p *Pool) Enqueue(name string, claim Amount, cpus float64) (*File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.possible("claim", claim); err != nil {
		return nil, err
	}
	f := &File{pool: p, name: name, claim: claim, limit: claim, expected: cpus, used: -1}
	f.start = &waiter{file: f, kind: wantStart, done: make(chan struct{})}
	p.queue = append(p.queue, f.start)
	p.schedule()
	return f, nil
}

// Start waits until the file is dispatched.
func (f *File) Start(ctx context.Context) error { return f.pool.wait(ctx, f.start) }

// Reservation returns what the file holds from its start: its overhead and its
// claim as far as known.
func (f *File) Reservation() Amount {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	return f.reserved()
}

// Part is what one guest takes.
type Part struct {
	Amount
	Cold bool // boots, which keeps a CPU busy for seconds where it is emulated
}

// Acquire charges the file for what it is about to run, named by what, and waits until
// all parts fit at once: into the file's claim if there is one, else into the pool. Of
// the functions that it returns, each releases one part, and may be called more than
// once; the end of the file releases all.
func (f *File) Acquire(ctx context.Context, what string, parts ...Part) (release []func(), err error) {
	w, err := f.charge(what, parts)
	if err != nil {
		return nil, err
	}
	if err := f.pool.wait(ctx, w); err != nil {
		return nil, err
	}
	for _, s := range w.shares {
		release = append(release, sync.OnceFunc(func() { f.refund(s) }))
	}
	return release, nil
}

func (f *File) charge(what string, parts []Part) (*waiter, error) {
	w := &waiter{file: f, kind: wantCharge, what: what, done: make(chan struct{})}
	for _, part := range parts {
		if part.Memory < 0 || part.CPUs < 0 {
			return nil, fmt.Errorf("charge of %s: negative amount %s", what, part)
		}
		w.need = w.need.plus(part.Amount)
		w.shares = append(w.shares, &share{size: part.Amount, cold: part.Cold})
	}
	p := f.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.state != running {
		return nil, fmt.Errorf("charge of %s: %w", what, f.notRunning())
	}
	if err := f.withinClaim(what, w.need); err != nil {
		return nil, err
	}
	if err := p.possible(what, w.need); err != nil {
		return nil, err
	}
	p.waiting = append(p.waiting, w)
	p.schedule()
	return w, nil
}

// withinClaim checks what a charge would come to against the file's claim, or
// the one it waits for: what it has when that is granted must fit.
func (f *File) withinClaim(what string, need Amount) error {
	after := f.charged.plus(need)
	if f.limit.Memory > 0 && after.Memory > f.limit.Memory || f.limit.CPUs > 0 && after.CPUs > f.limit.CPUs {
		return fmt.Errorf("%s needs %s, which is %w: the file's claim is %s, and %s are in use; raise provium:claim",
			what, need, ErrBeyondClaim, f.limit.given(), f.charged)
	}
	return nil
}

func (f *File) refund(s *share) {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	if f.state == ended {
		return // everything was given back with the file
	}
	f.charged = f.charged.minus(s.size)
	f.shares = slices.DeleteFunc(f.shares, func(o *share) bool { return o == s })
	f.pool.schedule()
}

// Claim reserves the file's budget for all its charges, also those it has
// already. Each file has one claim; one that was known at the start is taken
// by the first call and changed to what the call says. It waits until the
// pool has the rest free.
func (f *File) Claim(ctx context.Context, size Amount) error {
	w, err := f.request(size)
	if err != nil {
		return err
	}
	return f.pool.wait(ctx, w)
}

func (f *File) request(size Amount) (*waiter, error) {
	p := f.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f.state != running:
		return nil, fmt.Errorf("claim: %w", f.notRunning())
	case f.taken:
		return nil, fmt.Errorf("%w: it is one-shot, one per file", ErrClaimTaken)
	case size.Memory < 0 || size.CPUs < 0 || size == Amount{}:
		return nil, fmt.Errorf("claim: memory %d and cpus %d, expected positive numbers", size.Memory, size.CPUs)
	case size.Memory > 0 && size.Memory < f.charged.Memory || size.CPUs > 0 && size.CPUs < f.charged.CPUs:
		return nil, fmt.Errorf("what runs is %w: the file's claim is %s, and %s are in use already; raise "+
			"provium:claim", ErrBeyondClaim, size.given(), f.charged)
	}
	if err := p.possible("claim", size); err != nil {
		return nil, err
	}
	f.taken, f.limit = true, size
	p.recheck(f)
	w := &waiter{file: f, kind: wantClaim, need: size, done: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.schedule()
	return w, nil
}

// Done releases everything that the file holds and withdraws its requests. It may be
// called again.
func (f *File) Done() {
	p := f.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.state == ended {
		return
	}
	if f.state == running {
		p.learn(f)
		p.load.Busy = max(0, p.load.Busy-f.rate) // it was measured with the file
	}
	f.state = ended
	f.charged, f.claim, f.limit, f.shares = Amount{}, Amount{}, Amount{}, nil
	for _, w := range slices.Concat(p.queue, p.waiting) {
		if w.file == f {
			p.finish(w, fmt.Errorf("%s: %w", f.name, ErrEnded))
		}
	}
	p.running = slices.DeleteFunc(p.running, func(r *File) bool { return r == f })
	p.schedule()
}

func (f *File) notRunning() error {
	if f.state == ended {
		return ErrEnded
	}
	return errors.New("file has not started")
}

// possible checks memory against what a lone file could get. CPUs are no
// limit: a lone file may exceed them.
func (p *Pool) possible(what string, need Amount) error {
	if most := p.cfg.Total.Memory - FileOverhead; need.Memory > most {
		return fmt.Errorf("%s of %s %w: %s, of which one file can have %s",
			what, need.given(), ErrExceedsTotal, p.cfg.Total, formatBytes(most))
	}
	return nil
}

// wait returns when the request was decided or the caller gave up. A request that was
// granted at that moment counts as granted.
func (p *Pool) wait(ctx context.Context, w *waiter) error {
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.settled {
		if w.kind == wantClaim {
			w.file.taken, w.file.limit = false, w.file.claim
		}
		p.finish(w, context.Cause(ctx))
		p.schedule()
	}
	return w.err
}

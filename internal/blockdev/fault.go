package blockdev

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// op is what a request does to the disk.
type op uint8

const (
	opRead op = iota
	opWrite
	opFlush
	opDiscard // or a write of zeroes
)

// request is a request as faults see it; off and n are in bytes, 0 for a flush.
type request struct {
	op     op
	off, n int64
	guests bool // it is the guest's, and no sector operation
}

// The modes of fault_inject.
const (
	ModeReadEIO  = "eio_read"  // reads fail
	ModeWriteEIO = "eio_write" // writes and flushes fail
	ModeSlow     = "slow"      // each request is held for SlowDelay first
)

// SlowDelay is how long ModeSlow holds a request.
const SlowDelay = 50 * time.Millisecond

// Modes lists the modes in order.
func Modes() []string { return []string{ModeReadEIO, ModeWriteEIO, ModeSlow} }

// FaultError is a request that failed because a test wants it to.
type FaultError struct {
	By    string // "fault_inject", or the rule's name
	Errno string // "" is EIO
}

func (e *FaultError) Error() string { return cmp.Or(e.Errno, "EIO") + " (" + e.By + ")" }

// Range is a number of sectors.
type Range struct {
	First int64 `json:"first"`
	Count int64 `json:"count"`
}

// Policy is what makes requests fail or wait, beside the modes. Its zero value
// lets all pass.
type Policy struct {
	FailReads  bool          `json:"fail_reads,omitempty"`
	FailWrites bool          `json:"fail_writes,omitempty"` // and flushes
	FailAfter  int64         `json:"fail_after,omitempty"`  // so many requests pass, those after them fail; 0: no such limit
	FailRanges []Range       `json:"fail_ranges,omitempty"` // reads and writes that touch one fail
	Delay      time.Duration `json:"delay,omitempty"`       // each request is held so long first
}

// faults decides on requests, of the guest and of the test alike. A request only
// looks at what was prepared by the latest change.
type faults struct {
	mu     sync.Mutex // of changes
	now    atomic.Pointer[faultSet]
	passed atomic.Int64 // requests since FailAfter was set
	puts   atomic.Int64 // changes so far

	// What the latest flush did to rules, in case that it was not one of the guest's.
	lastFlush atomic.Pointer[[]struckRule]
}

// faultSet are the faults in force. It does not change, except for what its rules
// count. None at all is nil.
type faultSet struct {
	modes  []string
	policy Policy
	rules  *ruleSet // nil: none

	readEIO, writeEIO bool
	hold              time.Duration // of every request
}

// set gives the faults in force.
func (f *faults) set() *faultSet {
	if s := f.now.Load(); s != nil {
		return s
	}
	return &faultSet{}
}

// put has s be in force. Held: f.mu.
func (f *faults) put(s faultSet) {
	f.puts.Add(1)
	s.readEIO, s.writeEIO = slices.Contains(s.modes, ModeReadEIO), slices.Contains(s.modes, ModeWriteEIO)
	s.hold = s.policy.Delay
	if slices.Contains(s.modes, ModeSlow) {
		s.hold += SlowDelay
	}
	p := &s.policy
	if len(s.modes) == 0 && s.rules == nil && len(p.FailRanges) == 0 && !p.FailReads && !p.FailWrites && p.FailAfter == 0 && p.Delay == 0 {
		f.now.Store(nil)
		return
	}
	f.now.Store(&s)
}

// check tells whether a request fails now.
func (f *faults) check(r request) error {
	s := f.now.Load()
	if s == nil {
		return nil
	}
	reads, writes := r.op == opRead, r.op != opRead
	switch {
	case reads && s.readEIO, writes && s.writeEIO:
		return &FaultError{By: "fault_inject"}
	case reads && s.policy.FailReads:
		return &FaultError{By: "fail_reads"}
	case writes && s.policy.FailWrites:
		return &FaultError{By: "fail_writes"}
	case s.policy.FailAfter > 0 && f.passed.Load() > s.policy.FailAfter:
		return &FaultError{By: "fail_after"}
	}
	for _, bad := range s.policy.FailRanges {
		// A flush touches nothing.
		if r.n > 0 && r.off < (bad.First+bad.Count)*SectorSize && bad.First*SectorSize < r.off+r.n {
			return &FaultError{By: "fail_range"}
		}
	}
	return nil
}

// uncount takes a request back that was not one of the guest's.
func (f *faults) uncount() {
	for {
		n := f.passed.Load()
		if n == 0 || f.passed.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// forgetFlush takes back what the latest flush did to rules.
func (f *faults) forgetFlush() {
	if last := f.lastFlush.Swap(nil); last != nil {
		for _, s := range *last {
			s.rule.mu.Lock()
			s.rule.Hits--
			*s.rule.chance = s.before
			s.rule.mu.Unlock()
		}
	}
}

// holds tells whether requests wait.
func (f *faults) holds() bool {
	s := f.now.Load()
	return s != nil && (s.hold > 0 || s.rules.delays())
}

// run carries a request out, or not. A fault that is set while it waits or is
// under way still counts; rules have their say when it comes. What the request is
// to do instead, if it is the guest's, is told to do.
func (f *faults) run(ctx context.Context, r request, do func(deed) error) error {
	var what deed
	if s := f.now.Load(); s != nil {
		hold := s.hold
		if s.policy.FailAfter > 0 {
			f.passed.Add(1)
		}
		var failed error
		if s.rules != nil {
			var more time.Duration
			var struck []struckRule
			what, more, struck, failed = s.rules.strike(r)
			hold += more
			if r.op == opFlush {
				f.lastFlush.Store(&struck)
			} else if r.op != opRead {
				f.lastFlush.Store(nil)
			}
		}
		if hold > 0 {
			t := time.NewTimer(hold)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return context.Cause(ctx)
			}
		}
		if failed != nil && what.effect == "" {
			return failed
		}
		what.err = failed
		if err := f.check(r); err != nil {
			return err
		}
	}
	if err := do(what); err != nil {
		return err
	}
	if what.err != nil {
		return what.err
	}
	return f.check(r)
}

// state describes the faults for an Image.
func (f *faults) state() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.set()
	out := State{Modes: slices.Clone(s.modes), Policy: s.policy, Passed: f.passed.Load(), Rules: s.rules.state()}
	out.Policy.FailRanges = slices.Clone(s.policy.FailRanges)
	return out
}

// become sets the faults that state has described.
func (f *faults) become(s State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := faultSet{modes: slices.Clone(s.Modes), policy: s.Policy, rules: s.Rules.set()}
	set.policy.FailRanges = slices.Clone(s.Policy.FailRanges)
	f.passed.Store(s.Passed)
	f.put(set)
}

// change alters the faults in force.
func (f *faults) change(do func(s *faultSet) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.set()
	if err := do(&next); err != nil {
		return err
	}
	f.put(next)
	return nil
}

// Inject switches a mode on.
func (d *Disk) Inject(mode string) error {
	if !slices.Contains(Modes(), mode) {
		return fmt.Errorf("unknown mode `%s` (valid: %s)", mode, strings.Join(Modes(), ", "))
	}
	return d.faults.change(func(s *faultSet) error {
		if !slices.Contains(s.modes, mode) {
			s.modes = append(slices.Clone(s.modes), mode)
			slices.Sort(s.modes)
		}
		return nil
	})
}

// ClearModes switches all modes off.
func (d *Disk) ClearModes() {
	_ = d.faults.change(func(s *faultSet) error { // cannot fail
		s.modes = nil
		return nil
	})
}

// ActiveModes lists the modes that are on, sorted.
func (d *Disk) ActiveModes() []string { return slices.Clone(d.faults.set().modes) }

// Policy returns the rules in force.
func (d *Disk) Policy() Policy {
	p := d.faults.set().policy
	p.FailRanges = slices.Clone(p.FailRanges)
	return p
}

// ChangePolicy has change alter the rules in force, and checks the outcome: an
// error leaves them as they were. A change of FailAfter starts its count anew.
func (d *Disk) ChangePolicy(change func(*Policy)) error {
	return d.faults.change(func(s *faultSet) error {
		next := s.policy
		next.FailRanges = slices.Clone(next.FailRanges)
		next.FailAfter = -1 // tells a change from none
		change(&next)
		for _, r := range next.FailRanges {
			if err := d.inRange(r.First, r.Count); err != nil {
				return err
			}
		}
		restart := false
		switch {
		case next.FailAfter == -1:
			next.FailAfter = s.policy.FailAfter
		case next.FailAfter < 0:
			return fmt.Errorf("%d requests: at least 1 is needed", next.FailAfter)
		default:
			restart = true
		}
		if next.Delay < 0 {
			return fmt.Errorf("delay of %v: must not be negative", next.Delay)
		}
		if restart {
			d.faults.passed.Store(0)
		}
		s.policy = next
		return nil
	})
}

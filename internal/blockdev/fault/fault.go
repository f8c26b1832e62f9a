// Package fault decides which requests to a disk fail, wait, or do something else than
// they should.
//
// It has no contents and no locks of a disk: the disk describes a request, and carries
// out what is decided. Errors and delays are for all requests, effects (see Effect) for
// the guest's only.
//
// Start reading at Faults.Run. Modes and the Policy are in fault.go, rules with their
// index by sectors in rules.go, and the count of Faults.Count in count.go.
package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sectorSize is the unit of ranges, in bytes.
const sectorSize = 512

// Op is what a request does to the disk.
type Op string

// Kinds of requests.
const (
	Read    Op = "read"
	Write   Op = "write"
	Discard Op = "discard" // or a write of zeroes
	Flush   Op = "flush"
	Any     Op = "any" // for a Rule or a Count
)

// Request is a request to the disk. Off and N are in bytes, and 0 for a flush.
type Request struct {
	Op     Op
	Off, N int64
	Guest  bool // the guest makes it; else it is a sector operation
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

// Error is returned for a request that a fault lets fail.
type Error struct {
	By    string // "fault_inject", or the rule's name
	Errno string // "" is EIO
}

func (e *Error) Error() string { return cmp.Or(e.Errno, "EIO") + " (" + e.By + ")" }

// Range is a range of sectors.
type Range struct {
	First int64 `json:"first"`
	Count int64 `json:"count"`
}

// Check returns a *RangeError unless the range has sectors and all of them are on a
// disk of size bytes.
func (r Range) Check(size int64) error {
	if sectors := size / sectorSize; r.First < 0 || r.Count < 1 || r.Count > sectors || r.First > sectors-r.Count {
		return &RangeError{r.First, r.Count, sectors}
	}
	return nil
}

// RangeError is returned for a range of sectors that is not on the disk.
type RangeError struct{ First, Count, Capacity int64 } // in sectors

func (e *RangeError) Error() string {
	switch {
	case e.First < 0:
		return fmt.Sprintf("sector %d is negative", e.First)
	case e.Count < 1:
		return fmt.Sprintf("%d sectors from sector %d on: at least 1 is needed", e.Count, e.First)
	}
	return fmt.Sprintf("%d sectors from sector %d on are past the end: the disk has %d sectors (%d bytes)",
		e.Count, e.First, e.Capacity, e.Capacity*sectorSize)
}

// Policy makes requests fail or wait, beside the modes. Its zero value lets all pass.
type Policy struct {
	FailReads  bool `json:"fail_reads,omitempty"`
	FailWrites bool `json:"fail_writes,omitempty"` // and flushes
	// so many requests pass, those after them fail; 0: no such limit
	FailAfter  int64         `json:"fail_after,omitempty"`
	FailRanges []Range       `json:"fail_ranges,omitempty"` // reads and writes that touch one fail
	Delay      time.Duration `json:"delay,omitempty"`       // each request is held so long first
}

// Faults are the faults of one disk. Its zero value has none. It is safe for
// concurrent use. A request reads one prepared value and takes no lock.
type Faults struct {
	mu      sync.Mutex // of changes
	now     atomic.Pointer[set]
	passed  atomic.Int64 // requests since FailAfter was set
	changes atomic.Int64
	count   atomic.Pointer[Count]
	met     atomic.Pointer[func(Met)] // nil: nobody wants to know

	struckMu sync.Mutex
	struck   map[string]int64 // how many requests each mode and part of the policy has met, by Met.By

	// What the latest flush did to rules, in case it was not one of the guest's.
	lastFlush atomic.Pointer[[]struckRule]
}

// set is the faults in force. It does not change, except for the counts of its rules.
// A nil set has no faults.
type set struct {
	modes  []string
	policy Policy
	rules  *ruleSet // nil if there are none

	readEIO, writeEIO bool
	delay             time.Duration // of every request
}

// set returns the faults in force.
func (f *Faults) set() *set {
	if s := f.now.Load(); s != nil {
		return s
	}
	return &set{}
}

// put installs s. The caller must hold f.mu.
func (f *Faults) put(s set) {
	f.changes.Add(1)
	s.readEIO, s.writeEIO = slices.Contains(s.modes, ModeReadEIO), slices.Contains(s.modes, ModeWriteEIO)
	s.delay = s.policy.Delay
	if slices.Contains(s.modes, ModeSlow) {
		s.delay += SlowDelay
	}
	p := &s.policy
	passes := len(p.FailRanges) == 0 && !p.FailReads && !p.FailWrites && p.FailAfter == 0 && p.Delay == 0
	if passes && len(s.modes) == 0 && s.rules == nil {
		f.now.Store(nil)
		return
	}
	f.now.Store(&s)
}

// Active reports whether there are faults or a count.
func (f *Faults) Active() bool { return f.now.Load() != nil || f.count.Load() != nil }

// Changes returns how often faults and counts were changed.
func (f *Faults) Changes() int64 { return f.changes.Load() }

// check returns the error of a request that modes or the policy let fail.
func (f *Faults) check(r Request) error {
	s := f.now.Load()
	if s == nil {
		return nil
	}
	reads, writes := r.Op == Read, r.Op != Read
	switch {
	case reads && s.readEIO, writes && s.writeEIO:
		return &Error{By: "fault_inject"}
	case reads && s.policy.FailReads:
		return &Error{By: "fail_reads"}
	case writes && s.policy.FailWrites:
		return &Error{By: "fail_writes"}
	case s.policy.FailAfter > 0 && f.passed.Load() > s.policy.FailAfter:
		return &Error{By: "fail_after"}
	}
	for _, bad := range s.policy.FailRanges {
		// A flush touches nothing.
		if r.N > 0 && r.Off < (bad.First+bad.Count)*sectorSize && bad.First*sectorSize < r.Off+r.N {
			return &Error{By: "fail_range"}
		}
	}
	return nil
}

// ExpectFlush forgets what earlier flushes did, so that ForgetFlush undoes a later one.
func (f *Faults) ExpectFlush() { f.lastFlush.Store(nil) }

// ForgetFlush undoes what the latest flush did to rules, and with counted to the count
// of Policy.FailAfter: it was not one of the guest's.
func (f *Faults) ForgetFlush(counted bool) {
	for counted {
		n := f.passed.Load()
		counted = n > 0 && !f.passed.CompareAndSwap(n, n-1)
	}
	if last := f.lastFlush.Swap(nil); last != nil {
		for _, s := range *last {
			s.rule.mu.Lock()
			s.rule.Hits--
			*s.rule.chance = s.before
			s.rule.mu.Unlock()
		}
	}
}

// Delays reports whether requests may wait.
func (f *Faults) Delays() bool {
	s := f.now.Load()
	return s != nil && (s.delay > 0 || s.rules.delays())
}

// Run carries out a request by do, unless a fault lets it fail. A mode or policy that
// is set while the request waits or is carried out still counts; rules decide when the
// request comes. do must apply the deed, which is empty unless the request is the
// guest's.
func (f *Faults) Run(ctx context.Context, r Request, do func(Deed) error) error {
	var what Deed
	if s := f.now.Load(); s != nil {
		delay := s.delay
		if s.policy.FailAfter > 0 {
			f.passed.Add(1)
		}
		var failed error
		if s.rules != nil {
			var more time.Duration
			var struck []struckRule
			what, more, struck, failed = s.rules.strike(r)
			delay += more
			if r.Op == Flush {
				f.lastFlush.Store(&struck)
			} else if r.Op != Read {
				f.lastFlush.Store(nil)
			}
		}
		if delay > 0 {
			f.tell(r, s.delayedBy(), "delay "+delay.String())
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return context.Cause(ctx)
			}
		}
		if failed != nil && what.Effect == "" {
			return f.failed(r, failed)
		}
		what.err = failed
		if what.Effect != "" {
			f.tell(r, "inject", string(what.Effect))
		}
		if err := f.check(r); err != nil {
			return f.failed(r, err)
		}
	}
	if err := do(what); err != nil {
		return err
	}
	if what.err != nil {
		return f.failed(r, what.err)
	}
	return f.failed(r, f.check(r))
}

// Met is a request that has met a fault.
type Met struct {
	Request
	By     string // the name of the rule, as Error has it
	Effect string // the errno, the effect of a Rule, or "delay" and how long
}

// OnMet has met called for each request that meets a fault. It must not block.
func (f *Faults) OnMet(met func(Met)) { f.met.Store(&met) }

func (f *Faults) tell(r Request, by, effect string) {
	f.struckMu.Lock()
	if f.struck == nil {
		f.struck = map[string]int64{}
	}
	f.struck[by]++
	f.struckMu.Unlock()
	if met := f.met.Load(); met != nil {
		(*met)(Met{r, by, effect})
	}
}

// failed reports an error of a fault, and returns it.
func (f *Faults) failed(r Request, err error) error {
	if e, ok := err.(*Error); ok && e != nil {
		f.tell(r, e.By, cmp.Or(e.Errno, "EIO"))
	}
	return err
}

// delayedBy names what delays requests.
func (s *set) delayedBy() string {
	switch {
	case s.policy.Delay > 0:
		return "delay"
	case s.delay > 0:
		return ModeSlow
	}
	return "inject"
}

// Struck returns how many requests each mode and each part of the policy that is in force has met since the disk was
// made, by the names that Error has. Rules are not among them.
func (f *Faults) Struck() map[string]int64 {
	s := f.set()
	counts := map[string]int64{}
	f.struckMu.Lock()
	defer f.struckMu.Unlock()
	for name, isSet := range map[string]bool{
		"fault_inject": s.readEIO || s.writeEIO, ModeSlow: s.delay > s.policy.Delay && s.policy.Delay == 0,
		"delay": s.policy.Delay > 0, "fail_reads": s.policy.FailReads, "fail_writes": s.policy.FailWrites,
		"fail_after": s.policy.FailAfter > 0, "fail_range": len(s.policy.FailRanges) > 0,
	} {
		if isSet {
			counts[name] = f.struck[name]
		}
	}
	return counts
}

// State is the faults of a disk, for a snapshot.
type State struct {
	Modes  []string `json:"modes,omitempty"`
	Policy Policy   `json:"policy"`
	Passed int64    `json:"passed,omitempty"` // requests that count for Policy.FailAfter
	Rules  Rules    `json:"rules"`
}

// State returns the faults in force.
func (f *Faults) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.set()
	out := State{Modes: slices.Clone(s.modes), Policy: s.policy, Passed: f.passed.Load(), Rules: s.rules.state()}
	out.Policy.FailRanges = slices.Clone(s.policy.FailRanges)
	return out
}

// Restore installs the faults of a State, in place of all others.
func (f *Faults) Restore(s State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := set{modes: slices.Clone(s.Modes), policy: s.Policy, rules: s.Rules.set()}
	next.policy.FailRanges = slices.Clone(s.Policy.FailRanges)
	f.passed.Store(s.Passed)
	f.put(next)
}

// Check returns an error if the state, which comes from a file, cannot be that of a
// disk of size bytes.
func (s *State) Check(size int64) error {
	for i, m := range s.Modes {
		if !slices.Contains(Modes(), m) || i > 0 && m <= s.Modes[i-1] {
			return fmt.Errorf("fault mode `%s`", m)
		}
	}
	if s.Passed < 0 || s.Policy.FailAfter < 0 || s.Policy.Delay < 0 {
		return errors.New("a fault's number is negative")
	}
	for _, r := range s.Policy.FailRanges {
		if err := r.Check(size); err != nil {
			return err
		}
	}
	return s.Rules.check(size)
}

// change installs a copy of the faults in force that do has changed. After an error of
// do the faults stay as they were.
func (f *Faults) change(do func(s *set) error) error {
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
func (f *Faults) Inject(mode string) error {
	if !slices.Contains(Modes(), mode) {
		return fmt.Errorf("unknown mode `%s` (valid: %s)", mode, strings.Join(Modes(), ", "))
	}
	return f.change(func(s *set) error {
		if !slices.Contains(s.modes, mode) {
			s.modes = append(slices.Clone(s.modes), mode)
			slices.Sort(s.modes)
		}
		return nil
	})
}

// ClearModes switches all modes off.
func (f *Faults) ClearModes() {
	_ = f.change(func(s *set) error { // cannot fail
		s.modes = nil
		return nil
	})
}

// ActiveModes lists the modes that are on, sorted.
func (f *Faults) ActiveModes() []string { return slices.Clone(f.set().modes) }

// Policy returns the policy in force.
func (f *Faults) Policy() Policy {
	p := f.set().policy
	p.FailRanges = slices.Clone(p.FailRanges)
	return p
}

// ChangePolicy calls change with a copy of the policy, and installs it. An error for one
// that a disk of size bytes cannot have leaves the old policy in force. A change of
// FailAfter starts its count anew.
func (f *Faults) ChangePolicy(size int64, change func(*Policy)) error {
	return f.change(func(s *set) error {
		next := s.policy
		next.FailRanges = slices.Clone(next.FailRanges)
		next.FailAfter = -1 // is replaced if change sets it
		change(&next)
		for _, r := range next.FailRanges {
			if err := r.Check(size); err != nil {
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
			f.passed.Store(0)
		}
		s.policy = next
		return nil
	})
}

package nbd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// op is what a request does to the disk.
type op uint8

const (
	opRead op = iota
	opWrite
	opFlush
)

// request is a request as faults see it; off and n are in bytes, 0 for a flush.
type request struct {
	op     op
	off, n int64
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
type FaultError struct{ By string } // "fault_inject", or the rule's name

func (e *FaultError) Error() string { return "EIO (" + e.By + ")" }

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

// faults decides on requests, of the guest and of the test alike.
type faults struct {
	mu     sync.Mutex
	modes  []string
	policy Policy
	passed int64 // requests since FailAfter was set
}

// check tells whether a request fails now. Held: f.mu.
func (f *faults) check(r request) error {
	reads, writes := r.op == opRead, r.op != opRead
	switch {
	case reads && slices.Contains(f.modes, ModeReadEIO), writes && slices.Contains(f.modes, ModeWriteEIO):
		return &FaultError{"fault_inject"}
	case reads && f.policy.FailReads:
		return &FaultError{"fail_reads"}
	case writes && f.policy.FailWrites:
		return &FaultError{"fail_writes"}
	case f.policy.FailAfter > 0 && f.passed > f.policy.FailAfter:
		return &FaultError{"fail_after"}
	}
	for _, bad := range f.policy.FailRanges {
		// A flush touches nothing.
		if r.n > 0 && r.off < (bad.First+bad.Count)*SectorSize && bad.First*SectorSize < r.off+r.n {
			return &FaultError{"fail_range"}
		}
	}
	return nil
}

// begin counts a request in.
func (f *faults) begin() (hold time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hold = f.policy.Delay
	if slices.Contains(f.modes, ModeSlow) {
		hold += SlowDelay
	}
	if f.policy.FailAfter > 0 {
		f.passed++
	}
	return hold
}

// uncount takes a request back that was not one of the guest's.
func (f *faults) uncount() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passed = max(0, f.passed-1)
}

func (f *faults) look(r request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check(r)
}

// holds tells whether requests wait.
func (f *faults) holds() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy.Delay > 0 || slices.Contains(f.modes, ModeSlow)
}

// run carries a request out, or not. A fault that is set while it waits or is
// under way still counts.
func (f *faults) run(ctx context.Context, r request, do func() error) error {
	if hold := f.begin(); hold > 0 {
		t := time.NewTimer(hold)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
	if err := f.look(r); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return f.look(r)
}

// state describes the faults for an Image.
func (f *faults) state() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{Modes: slices.Clone(f.modes), Policy: f.policy, Passed: f.passed}
	s.Policy.FailRanges = slices.Clone(f.policy.FailRanges)
	return s
}

// become sets the faults that state has described.
func (f *faults) become(s State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modes, f.policy, f.passed = slices.Clone(s.Modes), s.Policy, s.Passed
	f.policy.FailRanges = slices.Clone(s.Policy.FailRanges)
}

// Inject switches a mode on.
func (d *Disk) Inject(mode string) error {
	if !slices.Contains(Modes(), mode) {
		return fmt.Errorf("unknown mode `%s` (valid: %s)", mode, strings.Join(Modes(), ", "))
	}
	f := &d.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.modes, mode) {
		f.modes = append(slices.Clone(f.modes), mode)
		slices.Sort(f.modes)
	}
	return nil
}

// ClearModes switches all modes off.
func (d *Disk) ClearModes() {
	d.faults.mu.Lock()
	defer d.faults.mu.Unlock()
	d.faults.modes = nil
}

// ActiveModes lists the modes that are on, sorted.
func (d *Disk) ActiveModes() []string {
	d.faults.mu.Lock()
	defer d.faults.mu.Unlock()
	return slices.Clone(d.faults.modes)
}

// Policy returns the rules in force.
func (d *Disk) Policy() Policy {
	d.faults.mu.Lock()
	defer d.faults.mu.Unlock()
	p := d.faults.policy
	p.FailRanges = slices.Clone(p.FailRanges)
	return p
}

// ChangePolicy has change alter the rules in force, and checks the outcome: an
// error leaves them as they were. A change of FailAfter starts its count anew.
func (d *Disk) ChangePolicy(change func(*Policy)) error {
	f := &d.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.policy
	next.FailRanges = slices.Clone(next.FailRanges)
	next.FailAfter = -1 // tells a change from none
	change(&next)
	for _, r := range next.FailRanges {
		if err := d.inRange(r.First, r.Count); err != nil {
			return err
		}
	}
	switch {
	case next.FailAfter == -1:
		next.FailAfter = f.policy.FailAfter
	case next.FailAfter < 0:
		return fmt.Errorf("%d requests: at least 1 is needed", next.FailAfter)
	default:
		f.passed = 0
	}
	if next.Delay < 0 {
		return fmt.Errorf("delay of %v: must not be negative", next.Delay)
	}
	f.policy = next
	return nil
}

package sched

import (
	"math"
	"time"
)

// The rules of admission are functions of facts, with no clock and no state of their own:
// the pool keeps the facts, and a simulation can ask the same rules.

const (
	// GuestReserve is what a measured guest is charged beside what it uses: it may touch
	// that much until the next measurement.
	GuestReserve = 32 << 20
	// measuredAfter is the age from which what is measured of a guest stands for it. Before,
	// and while it boots cold, it is charged what it declares.
	measuredAfter = 3 * time.Second
	// coldBootLimit is the age from which a guest is no longer taken to boot.
	coldBootLimit = 30 * time.Second
	// rateTime is the time over which a file's use of CPUs is averaged.
	rateTime = 4 * time.Second
	// unknownCPUs is how many CPUs a file is taken to use before anything is known.
	unknownCPUs = 1.0
	// leastCPUs is how many CPUs a file is taken to use at least until it is measured: in a
	// run on a busy machine it got less than it wanted, and many would start at once.
	leastCPUs = 0.5
	// enough is the share of its CPUs with which a file starts that can use more than one.
	enough = 0.75
	// slack times the square root of the CPUs is how many more than there are the running
	// files may want together: they want them at different times, which evens out where they are many.
	slack = 0.35
	// saturated is the share of the machine's CPUs in use from which nothing more starts.
	saturated = 0.95
	// fairShare is the share of the CPUs that a run may want whatever else the machine does.
	fairShare = 0.5
	// A share of time in which something waited: above the first it is pressure, until it
	// is below the second.
	waitingHigh, waitingLow = 0.9, 0.8
	stalledHigh, stalledLow = 0.1, 0.05
)

// Load is what the machine does, as it was measured. The zero value is not measured.
type Load struct {
	// CPUs is how many CPUs the run can use, Busy how many of them are in use by anything.
	CPUs, Busy float64
	// Waiting is the share of the last seconds in which something waited for a CPU, from 0
	// to 1, Stalled the same for memory. Negative: unknown.
	Waiting, Stalled float64
	// MemoryFree is the memory that can be had without swapping. Negative: unknown.
	MemoryFree int64
}

func (l Load) known() bool { return l.CPUs > 0 }

// Use is what a running file uses, its guests and all.
type Use struct {
	CPUs   float64
	Memory int64
}

// pressure is whether something waits too often for CPUs or for memory.
type pressure struct{ cpu, memory bool }

// next returns the pressure under a new load.
func (p pressure) next(l Load) pressure {
	if !l.known() {
		return pressure{}
	}
	above := func(was bool, share, high, low float64) bool { return share > high || was && share > low }
	return pressure{above(p.cpu, l.Waiting, waitingHigh, waitingLow),
		above(p.memory, l.Stalled, stalledHigh, stalledLow)}
}

// cpuFacts are what decides whether CPUs are left.
type cpuFacts struct {
	budget  float64 // of the pool
	claimed float64 // by running files
	demand  float64 // of the running files without a claim
	alone   bool    // no file runs
	overdue bool    // has waited for so long that CPUs are no reason any more
	load    Load
	pressed bool
}

// roomFor reports whether a file may start that will use so many CPUs. One that can use more than one does not wait
// until all of them are left: with most of them it is nearly as fast, and what it uses keeps others back.
func (f cpuFacts) roomFor(next float64) bool {
	next = min(next, max(1, next*enough))
	switch {
	case f.alone || f.overdue:
		return true
	case f.claimed+f.demand+next > f.most():
		return false
	case !f.load.known() || f.claimed+f.demand+next <= f.budget*fairShare:
		return true
	}
	return !f.pressed && f.load.Busy < f.load.CPUs*saturated
}

// roomForClaim reports whether a claim of so many CPUs can be given: it is a guarantee
// beside other claims, and those who have none must leave it room.
func (f cpuFacts) roomForClaim(cpus float64) bool {
	switch {
	case f.alone || cpus <= 0:
		return true
	case f.claimed+cpus > f.budget:
		return false
	}
	return f.claimed+f.demand+cpus <= f.most()
}

// most returns how many CPUs the running files may want together.
func (f cpuFacts) most() float64 { return f.budget + slack*math.Sqrt(f.budget) }

// average returns an average of CPU use after a measurement over that time.
func average(before, measured float64, over time.Duration) float64 {
	weight := 1 - math.Exp(-over.Seconds()/rateTime.Seconds())
	return before + (measured-before)*weight
}

// guests are the guests of a file that draw on the pool.
type guests struct {
	declared int64 // memory of all
	fresh    int64 // of those that are not measured yet
	largest  int64 // of the measured ones
	settled  int   // how many are measured
	used     int64 // measured, of the whole file but its overhead; negative: never
}

// charge returns what the guests are charged: what they use and a reserve for each, or
// what they declare if that is less and not exceeded.
func (g guests) charge() int64 {
	if g.used < 0 {
		return g.declared
	}
	return max(g.used, min(g.declared, g.used+g.fresh+int64(g.settled)*GuestReserve))
}

// growth returns by how much the largest guest could exceed its charge.
func (g guests) growth() int64 { return max(0, min(g.largest, g.declared-g.charge())) }

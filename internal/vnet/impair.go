package vnet

import (
	"math"
	"time"
)

// Kind is one kind of impairment.
type Kind int

// The kinds of impairment, with the unit of their values.
const (
	Latency   Kind = iota // milliseconds, one way
	Jitter                // milliseconds around the latency, see Distribution
	Loss                  // percent of frames
	Duplicate             // percent of frames
	Reorder               // percent of frames that overtake delayed ones
	Corrupt               // percent of frames with one flipped bit
	Bandwidth             // bits per second

	// Details of the kinds above: they are set and removed with these.
	jitterShape // a Distribution
	burstEnter  // GilbertElliott, in its units
	burstLeave
	burstGood
	burstBad
	queueLimit // bytes that may wait for bandwidth

	kinds // how many there are
)

// kindNames are the names in files and messages.
var kindNames = [kinds]string{"latency_ms", "jitter_ms", "drop_pct", "duplicate_pct", "reorder_pct", "corrupt_pct",
	"bandwidth_bps",
	"jitter_distribution", "burst_enter_pct", "burst_leave_pct", "burst_good_pct", "burst_bad_pct", "queue_bytes"}

// String returns the name of the kind.
func (k Kind) String() string { return kindNames[k] }

// takes reports whether a value can be one of the kind.
func (k Kind) takes(v float64) bool {
	switch k {
	case jitterShape:
		return v == float64(Uniform) || v == float64(Normal) || v == float64(Pareto)
	case burstEnter, burstLeave, burstGood, burstBad:
		return v >= 0 && v <= 100
	}
	return v >= 0 && !math.IsInf(v, 0)
}

// detailsOf returns the kinds that describe a kind more closely.
func detailsOf(k Kind) (first, end Kind) {
	switch k {
	case Jitter:
		return jitterShape, jitterShape + 1
	case Loss:
		return burstEnter, burstBad + 1
	case Bandwidth:
		return queueLimit, queueLimit + 1
	}
	return kinds, kinds
}

// Distribution is the distribution of jitter.
type Distribution int

// The distributions of jitter j around a latency. No delay is negative.
const (
	Uniform Distribution = iota // from -j to j
	Normal                      // standard deviation j, cut at four of them
	Pareto                      // never early, late by j on average with a long tail, cut at twenty times j
)

// tail returns the most that jitter adds, as a multiple of its value.
func (d Distribution) tail() float64 {
	switch d {
	case Normal:
		return 4
	case Pareto:
		return 20
	}
	return 1
}

// spread turns two uniform numbers into a multiple of the jitter.
func (d Distribution) spread(u, w float64) float64 {
	switch d {
	case Normal: // Box and Muller
		n := math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*w)
		return max(-d.tail(), min(n, d.tail()))
	case Pareto: // Lomax with shape 3: mean 1, standard deviation 1.7
		return min(2*(1/math.Cbrt(1-u)-1), d.tail())
	}
	return 2*u - 1
}

// GilbertElliott is loss in bursts: a link is in a good or a bad state, may change it
// with each frame, and has a rate of loss for each state. With the zero value losses are
// independent. All numbers are percents.
type GilbertElliott struct {
	Enter, Leave float64 // of frames at which a good link turns bad, and a bad one good
	Good, Bad    float64 // of frames that are lost in either state
}

// Mean returns the percentage of frames lost in the long run.
func (g GilbertElliott) Mean() float64 {
	bad := g.badShare()
	return g.Good*(1-bad) + g.Bad*bad
}

func (g GilbertElliott) badShare() float64 {
	if g.Enter == 0 {
		return 0
	}
	return g.Enter / (g.Enter + g.Leave)
}

// badAt reports whether a link is bad at frame index, computed from the random numbers
// only: it looks back to a frame whose number decides the state. before is the state of
// the frame before, if known.
func (g GilbertElliott) badAt(key, index uint64, before *bool) bool {
	flips := false
	for i := index; ; i-- {
		if before != nil && i != index {
			return *before != flips
		}
		if i == 0 || index-i >= maxLookBack {
			// The first frame finds a link that has been there for long.
			return (uniform(key, i, drawState) < g.badShare()) != flips
		}
		u := uniform(key, i, drawState) * 100
		bad, good := u < g.Enter, u >= 100-g.Leave // where a good and a bad link go from here
		switch {
		case bad && !good:
			return !flips
		case good && !bad:
			return flips
		case bad && good:
			flips = !flips
		}
	}
}

// maxLookBack limits the work for links that rarely change their state.
const maxLookBack = 1 << 20

// values has a number for each kind of impairment; 0 is off.
type values [kinds]float64

func (v *values) any() bool { return *v != values{} }

func (v *values) distribution() Distribution { return Distribution(v[jitterShape]) }

func (v *values) model() GilbertElliott {
	return GilbertElliott{v[burstEnter], v[burstLeave], v[burstGood], v[burstBad]}
}

// latest returns the longest delay, in milliseconds.
func (v *values) latest() float64 {
	return min(v[Latency]+v[Jitter]*v.distribution().tail(), maxDelay)
}

// effect is what happens to one frame on a link.
type effect struct {
	lost, duplicated, overtakes bool
	corrupt                     bool
	bit                         int // that is flipped when corrupt
	delay                       time.Duration
}

// The uses of random numbers. Their values are part of the meaning of a seed.
const (
	drawLoss = iota + 1
	drawDuplicate
	drawReorder
	drawCorrupt
	drawBit
	drawJitter
	drawState
	drawJitterToo
)

// decide returns the effect on frame number index of a link. It depends on its arguments
// only; bad is the state of the link's loss model at that frame.
func decide(v *values, key, index uint64, size int, bad bool) effect {
	hit := func(percent float64, purpose uint64) bool {
		return percent > 0 && uniform(key, index, purpose)*100 < percent
	}
	loss := v[Loss]
	if v[burstEnter] > 0 {
		loss = v[burstGood]
		if bad {
			loss = v[burstBad]
		}
	}
	f := effect{lost: hit(loss, drawLoss)}
	if f.lost {
		return f
	}
	f.duplicated = hit(v[Duplicate], drawDuplicate)
	f.overtakes = hit(v[Reorder], drawReorder)
	if f.corrupt = hit(v[Corrupt], drawCorrupt); f.corrupt {
		f.bit = int(uniform(key, index, drawBit) * float64(size*8))
	}
	ms := v[Latency]
	if v[Jitter] > 0 {
		ms += v[Jitter] * v.distribution().spread(uniform(key, index, drawJitter), uniform(key, index, drawJitterToo))
	}
	f.delay = time.Duration(max(0, min(ms, maxDelay)) * float64(time.Millisecond))
	return f
}

// maxDelay is a year in milliseconds: larger values would overflow a clock.
const maxDelay = 365 * 24 * 3600 * 1000

// uniform returns a number in [0,1) that depends on its arguments only.
func uniform(key, index, purpose uint64) float64 {
	x := mix(key + index*0x9e3779b97f4a7c15)
	x = mix(x ^ purpose*0xd1342543de82ef95)
	return float64(x>>11) / (1 << 53)
}

// mix returns the finaliser of SplitMix64: each bit of the input changes half of the
// output's.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// linkKey returns a key that makes the random numbers of two links, or of two seeds,
// independent.
func linkKey(seed uint64, from, to string) uint64 {
	// FNV-1a, with the ends told apart by their lengths.
	h := mix(seed ^ 0x6a09e667f3bcc909)
	for _, s := range []string{from, to} {
		h ^= uint64(len(s))
		h *= 0x100000001b3
		for i := range len(s) {
			h ^= uint64(s[i])
			h *= 0x100000001b3
		}
	}
	return mix(h)
}

package vnet

import "time"

// Kind is one kind of impairment.
type Kind int

// The kinds of impairment, with the unit of their values.
const (
	Latency   Kind = iota // milliseconds, one way
	Jitter                // milliseconds, evenly spread around the latency
	Loss                  // percent of frames
	Duplicate             // percent of frames
	Reorder               // percent of frames that overtake delayed ones
	Corrupt               // percent of frames with one flipped bit
	Bandwidth             // bits per second

	kinds // how many there are
)

// values has a number per kind; 0 is none.
type values [kinds]float64

func (v *values) any() bool { return *v != values{} }

// fate is what happens to one frame on a link.
type fate struct {
	lost, duplicated, overtakes bool
	corrupt                     bool
	bit                         int // that is flipped when corrupt
	delay                       time.Duration
}

// What a random number is drawn for. The numbers are part of what a seed means.
const (
	drawLoss = iota + 1
	drawDuplicate
	drawReorder
	drawCorrupt
	drawBit
	drawJitter
)

// decide gives the fate of frame number index of a link. It depends on nothing
// but its arguments.
func decide(v *values, key, index uint64, size int) fate {
	hit := func(kind Kind, purpose uint64) bool {
		return v[kind] > 0 && uniform(key, index, purpose)*100 < v[kind]
	}
	f := fate{lost: hit(Loss, drawLoss)}
	if f.lost {
		return f
	}
	f.duplicated = hit(Duplicate, drawDuplicate)
	f.overtakes = hit(Reorder, drawReorder)
	if f.corrupt = hit(Corrupt, drawCorrupt); f.corrupt {
		f.bit = int(uniform(key, index, drawBit) * float64(size*8))
	}
	ms := v[Latency]
	if v[Jitter] > 0 {
		ms += (2*uniform(key, index, drawJitter) - 1) * v[Jitter]
	}
	f.delay = time.Duration(max(0, min(ms, maxDelay)) * float64(time.Millisecond))
	return f
}

// maxDelay is a year in milliseconds: larger values would overflow a clock.
const maxDelay = 365 * 24 * 3600 * 1000

// uniform is a number in [0,1) that depends on its arguments only.
func uniform(key, index, purpose uint64) float64 {
	x := mix(key + index*0x9e3779b97f4a7c15)
	x = mix(x ^ purpose*0xd1342543de82ef95)
	return float64(x>>11) / (1 << 53)
}

// mix is the finaliser of SplitMix64: each bit of the input changes half of the
// output's.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// linkKey makes the streams of numbers of two links, or of two seeds, independent.
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

package disk

import (
	"errors"
	"fmt"

	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
)

// Exploration is the states that a power cut could have left on a recorded disk. It
// is safe for concurrent use. It must not be used after the recording is closed.
type Exploration struct {
	states *blockdev.States
	plan   *crash.Plan
	marks  []int // entries that are marks
}

// CrashPoint is one of the states of an Exploration.
type CrashPoint struct {
	crash.Point
	Text  string   // description
	Marks []string // labels of the marks before the cut
	Kept  int      // writes that are kept, whole or in part
}

// CrashKey is equal for points that no check can distinguish.
type CrashKey struct {
	content uint64
	marks   int
}

// Explore stops the recording and returns its points.
func (r *Recording) Explore(o crash.Options) (*Exploration, error) {
	states, err := r.states()
	if err != nil {
		return nil, err
	}
	x := &Exploration{states: states, plan: crash.NewPlan(states.Log(), o)}
	for i, op := range states.Log() {
		if op.Kind == crash.Mark {
			x.marks = append(x.marks, i)
		}
	}
	return x, nil
}

// Points returns the number of points, which are numbered from 1.
func (x *Exploration) Points() int { return x.plan.Len() }

// Entries returns the number of entries of the log.
func (x *Exploration) Entries() int { return len(x.states.Log()) }

// Sample returns the numbers of n of the points, chosen by seed.
func (x *Exploration) Sample(n int, seed uint64) []int { return x.plan.Sample(n, seed) }

// Point returns the point of a number.
func (x *Exploration) Point(number int) *CrashPoint {
	p := &CrashPoint{Point: x.plan.Point(number)}
	log := x.states.Log()
	p.Text = crash.Describe(log, &p.Point)
	for _, m := range x.marks[:x.marksBefore(p.At)] {
		p.Marks = append(p.Marks, log[m].Label)
	}
	for i := range p.Keep {
		if i == 0 || p.Keep[i-1].Op != p.Keep[i].Op {
			p.Kept++
		}
	}
	return p
}

func (x *Exploration) marksBefore(at int) int {
	n := 0
	for n < len(x.marks) && x.marks[n] < at {
		n++
	}
	return n
}

// Key returns the key of a point.
func (x *Exploration) Key(p *CrashPoint) CrashKey {
	return CrashKey{x.states.Fingerprint(p.State), x.marksBefore(p.At)}
}

// Content returns what the point leaves on the disk.
func (x *Exploration) Content(p *CrashPoint) Content { return contentOf(x.states, p.State) }

// End returns what the recorded disk had at the end, with nothing lost.
func (x *Exploration) End() Content { return contentOf(x.states, crash.Whole(x.states.Log())) }

// Content fills a disk with something to be checked.
type Content func(*Disk) error

func contentOf(states *blockdev.States, s crash.State) Content {
	return func(d *Disk) error {
		data, err := d.backend()
		if err != nil {
			return err
		}
		if err := data.Load(states.Content(s)); err != nil {
			return fmt.Errorf("disk `%s`: %w", d.id, err)
		}
		return nil
	}
}

// Present returns the content of the disk as the guest sees it now. It must not be
// used after the disk is closed or restored.
func (d *Disk) Present() (Content, error) {
	r, err := d.record(blockdev.RecordLimit)
	if err != nil {
		return nil, err
	}
	states, err := r.states()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return contentOf(states, crash.Whole(states.Log())), nil
}

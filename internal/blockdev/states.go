package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"provium/internal/blockdev/crash"
)

// States are the contents that power cuts could have left on a disk, according to a
// recording. It is safe for concurrent use, and valid until the recording is closed.
type States struct {
	rec *Recording
	at  []int64
	x   *crash.Index

	seed    maphash.Seed
	entries []uint64 // per entry of x: what its sector has then
	base    []uint64 // per entry that is the first of its sector: what it had before all
	sums    []sum    // per flush, in order
}

// sum is that of all sectors' fingerprints, as they are settled by a flush.
type sum struct {
	flush int // entry of the log
	sum   uint64
}

// maxCovered limits the memory of States, which is about 24 bytes per sector.
const maxCovered = 1 << 25

// States returns the states of a recording that has ended and is complete.
func (r *Recording) States() (*States, error) {
	r.mu.Lock()
	ended, log, at := r.ended, slices.Clone(r.log), slices.Clone(r.at)
	r.mu.Unlock()
	if ended == "" {
		return nil, errors.New("the recording goes on")
	}
	if _, err := r.Ended(); err != nil {
		return nil, err
	}
	covered := int64(0)
	for i := range log {
		if log[i].Kind == crash.Write {
			covered += log[i].Count
		}
	}
	if covered > maxCovered {
		return nil, fmt.Errorf("its writes cover %d sectors, and at most %d can be looked at", covered, maxCovered)
	}
	s := &States{rec: r, at: at, x: crash.NewIndex(log), seed: maphash.MakeSeed()}
	return s, s.fingerprint()
}

// Log returns the log of the recording.
func (s *States) Log() []crash.Op { return s.x.Log() }

// fingerprint reads all data once, and computes the fingerprints of sectors.
func (s *States) fingerprint() error {
	n := s.x.Entries()
	s.entries, s.base = make([]uint64, n), make([]uint64, n)
	var p [SectorSize]byte
	last := int64(-1)
	for i := range n {
		sector, op := s.x.Entry(i)
		if sector != last {
			last = sector
			if err := s.rec.base.readAt(p[:], sector*SectorSize); err != nil {
				return err
			}
			s.base[i] = s.print(sector, p[:])
		}
		if err := s.read(op, sector, p[:]); err != nil {
			return err
		}
		s.entries[i] = s.print(sector, p[:])
	}
	// What each flush leaves, from one to the next.
	now := map[int64]int{}
	var total uint64
	var pending []int
	apply := func(op int) {
		w := &s.Log()[op]
		for n := range w.Count {
			sector := w.First + n
			was, ok := now[sector]
			if !ok {
				was = -1
			}
			if op > was {
				total += s.of(sector, op) - s.of(sector, was)
				now[sector] = op
			}
		}
	}
	for i, op := range s.Log() {
		switch {
		case op.Kind == crash.Write && op.FUA:
			apply(i)
		case op.Kind == crash.Write:
			pending = append(pending, i)
		case op.Kind == crash.Flush:
			for _, w := range pending {
				apply(w)
			}
			pending = pending[:0]
			s.sums = append(s.sums, sum{i, total})
		}
	}
	return nil
}

func (s *States) print(sector int64, p []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(sector))
	_, _ = h.Write(head[:]) // never fails
	_, _ = h.Write(p)
	return h.Sum64()
}

// of returns the fingerprint of a sector after write op, or with -1 before all writes.
func (s *States) of(sector int64, op int) uint64 {
	if op < 0 {
		return s.base[s.x.Find(sector, 0)]
	}
	return s.entries[s.x.Find(sector, op)]
}

// Fingerprint returns a number that is equal for states with equal contents. For others
// it is equal with a chance of one in 2^64.
func (s *States) Fingerprint(st crash.State) uint64 {
	log := s.Log()
	flush := crash.SettledBefore(log, st.At)
	var total uint64
	if i, found := slices.BinarySearchFunc(s.sums, flush, func(a sum, f int) int { return a.flush - f }); found {
		total = s.sums[i].sum
	}
	settled := s.x.View(crash.State{})
	if flush > 0 {
		settled = s.x.View(crash.State{At: flush + 1})
	}
	v := s.x.View(st)
	// Each sector counts with the write that it has its content from.
	look := func(op int, first, count int64) {
		v.Compare(settled, first, count, func(begin, now, then int) {
			if now < 0 {
				return
			}
			if _, from := s.x.Entry(now); from != op {
				return
			}
			before := s.base[begin]
			if then >= 0 {
				before = s.entries[then]
			}
			total += s.entries[now] - before
		})
	}
	for _, p := range st.Keep {
		look(p.Op, p.First, p.Count)
	}
	for i := flush; i < st.At; i++ {
		if log[i].Kind == crash.Write && log[i].FUA && !(st.InFlight && i == st.At-1) {
			look(i, log[i].First, log[i].Count)
		}
	}
	return total
}

// read reads one sector of a write.
func (s *States) read(op int, sector int64, p []byte) error {
	return s.readRun(op, sector, 1, p)
}

func (s *States) readRun(op int, first, count int64, p []byte) error {
	if s.at[op] < 0 {
		clear(p[:count*SectorSize])
		return nil
	}
	_, err := s.rec.data.ReadAt(p[:count*SectorSize], s.rec.dataAt+s.at[op]+(first-s.Log()[op].First)*SectorSize)
	return err
}

// Content is the content of one state, for Disk.Load. It does not change.
type Content struct {
	s *States
	v *crash.View
}

// Content returns the content of a state of a crash.Plan.
func (s *States) Content(st crash.State) *Content { return &Content{s, s.x.View(st)} }

func (c *Content) readAt(p []byte, off int64) error {
	return c.v.Runs(off/SectorSize, int64(len(p))/SectorSize, func(first, count int64, op int) error {
		at := first*SectorSize - off
		part := p[at : at+count*SectorSize]
		if op < 0 {
			return c.s.rec.base.readAt(part, first*SectorSize)
		}
		return c.s.readRun(op, first, count, part)
	})
}

// errEnough ends a walk over runs.
var errEnough = errors.New("enough")

func (c *Content) hole(off, limit int64) (hole bool, n int64) {
	_ = c.v.Runs(off/SectorSize, limit/SectorSize, func(first, count int64, op int) error {
		switch n = count * SectorSize; {
		case op < 0:
			hole, n = c.s.rec.base.hole(off, n)
		default:
			hole = c.s.at[op] < 0
		}
		return errEnough
	})
	return hole, n
}

func (c *Content) retain() { c.s.rec.refs.Add(1) }

func (c *Content) release() error { return c.s.rec.release() }

// Load replaces the contents of the disk, which must not be an image used in place and
// must have the same size. Later writes go to the disk and not to c.
func (d *Disk) Load(c *Content) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return ErrClosed
	case d.cfg.Image != "":
		return errors.New("an image that is used in place cannot be given other contents")
	case c.s.rec.size != d.size.Load():
		return errors.New("the content is that of a disk of another size")
	}
	d.stopRecording("the disk was given other contents")
	err := d.medium.close()
	c.retain()
	d.medium = &stack{&layer{dir: d.cfg.TempDir, size: d.size.Load()}, c}
	d.emptyCache()
	d.unflushed.forget()
	d.off, d.postponed = false, false
	return err
}

package blockdev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"provium/internal/blockdev/crash"
)

// unflushed has each write since the last flush, so that a power cut can keep some of
// them. The cache has only the latest content of a sector: what a write replaces there
// is saved first.
type unflushed struct {
	writes  []pendingWrite
	files   []*blob  // with what was replaced
	old     *os.File // the last of them, which is written to; nil if there is none
	oldSize int64
	covered int64 // sectors of all writes together
	coarse  bool  // until the next flush they count as one write
}

// pendingWrite is a write since the last flush, in sectors.
type pendingWrite struct {
	first, count int64
	settled      bool // it is on the medium already: FUA, or a sector write
	saved        []savedRun
}

// savedRun is what the cache had of some sectors before a write.
type savedRun struct {
	first, count int64
	in           *blob
	at           int64 // in it; -1 for zeroes
}

// Limits of an unflushed. Beyond them the cache counts as one write up to the next
// flush.
const (
	maxUnflushed = 1 << 17  // writes
	maxReplaced  = 32 << 20 // bytes that later writes replaced
	maxSectors   = 1 << 22  // of all writes together
)

// note must be called before a write of whole sectors changes the cache.
func (u *unflushed) note(cache *layer, dir string, off, n int64, settled bool) error {
	if u.coarse {
		return nil
	}
	u.covered += n / SectorSize
	if len(u.writes) >= maxUnflushed || u.oldSize >= maxReplaced || u.covered > maxSectors {
		u.forget()
		u.coarse = true
		return nil
	}
	w := pendingWrite{first: off / SectorSize, count: n / SectorSize, settled: settled}
	err := cache.each(off, n, func(p place, at, n int64) error {
		switch p {
		case absent:
		case zeroed:
			w.saved = append(w.saved, savedRun{at / SectorSize, n / SectorSize, nil, -1})
		default:
			if err := u.save(cache.file(p), dir, at, n); err != nil {
				return err
			}
			w.saved = append(w.saved, savedRun{at / SectorSize, n / SectorSize, u.files[len(u.files)-1], u.oldSize - n})
		}
		return nil
	})
	if err == nil {
		u.writes = append(u.writes, w)
	}
	return err
}

// dropLast undoes the last note, for a write that failed.
func (u *unflushed) dropLast() {
	if n := len(u.writes); n > 0 && !u.coarse {
		u.covered -= u.writes[n-1].count
		u.writes = u.writes[:n-1]
	}
}

func (u *unflushed) save(from *blob, dir string, off, n int64) error {
	if u.old == nil {
		f, err := temporary(dir, 0)
		if err != nil {
			return fmt.Errorf("replaced writes: %w", err)
		}
		u.old, u.oldSize = f, 0
		u.files = append(u.files, newBlob(f))
	}
	if err := copyRange(from, off, n, u.old, u.oldSize); err != nil {
		return fmt.Errorf("replaced writes: %w", err)
	}
	u.oldSize += n
	return nil
}

// copyRange copies n bytes between files.
func copyRange(from *blob, at, n int64, to *os.File, toAt int64) error {
	p := make([]byte, min(n, 1<<20))
	for n > 0 {
		p = p[:min(n, int64(len(p)))]
		if err := from.readAt(p, at); err != nil {
			return err
		}
		if _, err := to.WriteAt(p, toAt); err != nil {
			return err
		}
		at, toAt, n = at+int64(len(p)), toAt+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// forget drops all writes: what is in the cache counts as one write.
func (u *unflushed) forget() {
	u.covered, u.coarse = 0, false
	u.writes = u.writes[:0]
	if cap(u.writes) > 1<<12 {
		u.writes = nil
	}
	for len(u.files) > 0 && (u.old == nil || len(u.files) > 1) { // those that others have, too
		_ = u.files[0].release() // a temporary file
		u.files = u.files[1:]
	}
	if u.oldSize > 1<<20 {
		_ = u.old.Truncate(0) // only to give space back
	}
	u.oldSize = 0
}

// seal returns a copy that does not change. Later writes are saved in another file.
func (u *unflushed) seal() unflushed {
	u.old, u.oldSize = nil, 0
	return u.copy()
}

// copy returns a copy of u, which must be sealed.
func (u *unflushed) copy() unflushed {
	out := unflushed{writes: slices.Clone(u.writes), files: slices.Clone(u.files), covered: u.covered, coarse: u.coarse}
	for _, b := range out.files {
		b.retain()
	}
	return out
}

func (u *unflushed) close() error {
	var errs []error
	for _, b := range u.files {
		errs = append(errs, b.release())
	}
	u.files, u.old = nil, nil
	return errors.Join(errs...)
}

// Keep is what a power cut keeps of the writes that were not flushed.
type Keep string

// What a power cut can keep.
const (
	KeepNone   Keep = "none"
	KeepAll    Keep = "all"
	KeepPrefix Keep = "prefix" // the first ones
	KeepRandom Keep = "random" // some, chosen at random
)

// Keeps lists the values of Keep.
func Keeps() []Keep { return []Keep{KeepNone, KeepAll, KeepPrefix, KeepRandom} }

// Cut are the options of a power cut. Its zero value keeps nothing, and the disk works on.
type Cut struct {
	Keep  Keep // "" is KeepNone
	Seed  uint64
	Count int64 // for KeepPrefix: how many writes; -1 is a random number
	Torn  bool  // writes may be kept in part, down to a sector; the last one of a prefix is
	Off   bool  // the disk has no power until PowerOn: all requests fail with EIO
}

// CutResult is what a power cut did.
type CutResult struct {
	Unflushed   int   // number of writes; those of a coarse cache count as one
	Kept        int   // of them, also those that were kept in part
	Torn        int   // of those, the ones in part
	KeptSectors int64 // that now have what an un-flushed write wrote
}

// PowerCut drops what was not flushed, except for what c keeps. The disk goes on with
// what is left, at once or, with c.Off, from PowerOn on.
func (d *Disk) PowerCut(c Cut) (CutResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var r CutResult
	if d.closed {
		return r, ErrClosed
	}
	d.meddlings.Add(1)
	d.stopRecording("the power was cut")
	var err error
	if !d.cfg.ReadOnly {
		r, err = d.keep(c)
	}
	d.off, d.postponed = d.off || c.Off, false
	d.emptyCache()
	d.unflushed.forget()
	return r, err
}

// keep writes to the medium what a power cut keeps. The caller must hold d.mu.
func (d *Disk) keep(c Cut) (r CutResult, err error) {
	u := &d.unflushed
	var log []crash.Op
	var pending []int
	for i, w := range u.writes {
		log = append(log, crash.Op{First: w.first, Count: w.count, FUA: w.settled})
		if !w.settled {
			pending = append(pending, i)
		}
	}
	x := crash.NewIndex(log)
	older := d.olderThan(x)
	if r.Unflushed = len(pending); !older.empty() {
		r.Unflushed++
	}
	pieces, withOlder := choose(c, log, pending, !older.empty())
	for i, p := range pieces {
		if i == 0 || pieces[i-1].Op != p.Op {
			r.Kept++
		}
		if p.Count < log[p.Op].Count {
			r.Torn++
		}
	}
	if withOlder {
		r.Kept++
	}
	v := x.View(crash.State{At: len(log), Keep: pieces})
	sectors := d.size.Load() / SectorSize
	err = v.Runs(0, sectors, func(first, count int64, op int) error {
		switch {
		case op >= 0 && log[op].FUA:
			return nil // the medium has it
		case op >= 0:
			r.KeptSectors += count
			return d.restore(x, op, first, count)
		case !withOlder:
			return nil
		}
		return older.held(first, count, func(first, count int64) error {
			r.KeptSectors += count
			return d.restore(x, -1, first, count)
		})
	})
	return r, err
}

// choose returns what a power cut keeps, and whether it keeps what is older than the
// log, if older is set.
func choose(c Cut, log []crash.Op, pending []int, older bool) (pieces []crash.Piece, withOlder bool) {
	r := rand.New(rand.NewPCG(c.Seed, 0))
	whole := func(n int) {
		for _, op := range pending[:n] {
			pieces = append(pieces, crash.Piece{Op: op, First: log[op].First, Count: log[op].Count})
		}
	}
	switch c.Keep {
	case KeepAll:
		whole(len(pending))
		return pieces, older
	case KeepRandom:
		// What is older comes first in the cache and is what a cache writes first.
		return crash.Choose(log, pending, c.Torn, 1, r), older
	case KeepPrefix:
		n := len(pending)
		if older {
			n++
		}
		if c.Count < 0 {
			n = r.IntN(n + 1)
		} else {
			n = int(min(c.Count, int64(n)))
		}
		if older {
			if n == 0 {
				return nil, false
			}
			n--
		}
		whole(n)
		if last := n - 1; c.Torn && last >= 0 {
			if p := &pieces[last]; p.Count > 1 {
				p.Count = 1 + r.Int64N(p.Count-1)
			}
		}
		return pieces, older
	}
	return nil, false
}

// sectorSet is a set of sectors.
type sectorSet struct{ m table }

func (s *sectorSet) empty() bool { return s.m.empty() }

// held calls visit for the runs of a range that are in the set.
func (s *sectorSet) held(first, count int64, visit func(first, count int64) error) error {
	for count > 0 {
		h, n := s.m.run(first, count)
		if h != absent {
			if err := visit(first, n); err != nil {
				return err
			}
		}
		first, count = first+n, count-n
	}
	return nil
}

// olderThan returns the sectors that were in the cache before the first of the writes in
// the log.
func (d *Disk) olderThan(x *crash.Index) *sectorSet {
	s := &sectorSet{}
	_ = d.cache.table.held(d.size.Load()/SectorSize, func(first, n int64, _ place) error {
		s.m.set(first, n, zeroed)
		return nil
	})
	last := int64(-1)
	for i := range x.Entries() {
		sector, op := x.Entry(i)
		if sector == last {
			continue
		}
		last = sector
		// The first write that touches it has saved what was there, if anything.
		h := absent
		if _, ok := d.unflushed.writes[op].before(sector); ok {
			h = zeroed
		}
		s.m.set(sector, 1, h)
	}
	return s
}

// before returns what the cache had of a sector before the write.
func (w *pendingWrite) before(sector int64) (savedRun, bool) {
	i, found := slices.BinarySearchFunc(w.saved, sector, func(r savedRun, s int64) int {
		switch {
		case r.first+r.count <= s:
			return -1
		case r.first > s:
			return 1
		}
		return 0
	})
	if !found {
		return savedRun{}, false
	}
	return w.saved[i], true
}

// restore writes some sectors to the medium as write op left them, or with -1 as they
// were before all writes. The caller must hold d.mu.
func (d *Disk) restore(x *crash.Index, op int, first, count int64) error {
	for count > 0 {
		// The next write of a sector saved it; without one the cache has it.
		next := x.Next(first, op)
		n := int64(1)
		for n < count && x.Next(first+n, op) == next {
			n++
		}
		var err error
		if next < 0 {
			err = d.cache.each(first*SectorSize, n*SectorSize, d.settled)
		} else {
			r, _ := d.unflushed.writes[next].before(first)
			n = min(n, r.first+r.count-first)
			at := r.at
			if at >= 0 {
				at += (first - r.first) * SectorSize
			}
			err = d.toMedium(r.in, at, first*SectorSize, n*SectorSize)
		}
		if err != nil {
			return err
		}
		first, count = first+n, count-n
	}
	return nil
}

// settled writes to the medium a range that is in one place of the cache. The caller must hold d.mu.
func (d *Disk) settled(p place, off, n int64) error {
	if p == zeroed {
		return d.medium.zero(off, n)
	}
	return d.toMedium(d.cache.file(p), off, off, n)
}

// toMedium writes a part of a file, or with -1 zeroes, to the medium.
func (d *Disk) toMedium(f *blob, at, off, n int64) error {
	if at < 0 {
		return d.medium.zero(off, n)
	}
	p := make([]byte, min(n, 1<<20))
	for n > 0 {
		p = p[:min(n, int64(len(p)))]
		if err := f.readAt(p, at); err != nil {
			return err
		}
		if err := d.medium.writeAt(p, off); err != nil {
			return err
		}
		at, off, n = at+int64(len(p)), off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

package blockdev

import (
	"maps"
	"slices"
)

// place is where the contents of a sector are.
type place uint16

const (
	absent    place = iota // not here: what lies below counts
	zeroed                 // nowhere: it reads as zeroes
	firstFile              // this one and those that follow are files, by their index
)

const (
	// chunkSectors is the number of sectors that share an entry of a table: 1 MiB.
	chunkSectors = 2048
	chunkBytes   = chunkSectors * SectorSize
)

// table has the place of each sector. It needs no memory for absent sectors, and little
// for large ranges of one kind. In the zero value all are absent.
type table struct {
	chunks map[int64]chunk
	// mine is the owner of the entries that may be changed in place. If it is nil, as
	// after the map was copied, all are shared.
	mine *owner
}

// owner identifies a table by its address.
type owner struct{ _ byte }

// chunk describes chunkSectors sectors: all alike, or one by one.
type chunk struct {
	all     place
	sectors *[chunkSectors]place
	owner   *owner
}

func (t *table) empty() bool { return len(t.chunks) == 0 }

func (t *table) clear() { t.chunks = nil }

// set sets the place of n sectors from first on.
func (t *table) set(first, n int64, p place) {
	if t.chunks == nil {
		t.chunks = map[int64]chunk{}
	}
	if t.mine == nil {
		t.mine = new(owner)
	}
	for n > 0 {
		index, at := first/chunkSectors, first%chunkSectors
		k := min(n, chunkSectors-at)
		switch c := t.chunks[index]; { // one that is not there is absent
		case c.sectors == nil && c.all == p:
		case k == chunkSectors && p == absent:
			delete(t.chunks, index)
		case k == chunkSectors:
			t.chunks[index] = chunk{all: p}
		default:
			if c.sectors == nil || c.owner != t.mine {
				c = chunk{sectors: c.each(), owner: t.mine}
				t.chunks[index] = c
			}
			part := c.sectors[at : at+k]
			for i := range part {
				part[i] = p
			}
			if p == absent && *c.sectors == [chunkSectors]place{} {
				delete(t.chunks, index)
			}
		}
		first, n = first+k, n-k
	}
}

// each returns the places one by one.
func (c chunk) each() *[chunkSectors]place {
	out := new([chunkSectors]place)
	if c.sectors != nil {
		*out = *c.sectors
		return out
	}
	for i := range out {
		out[i] = c.all
	}
	return out
}

// run returns the place of sector first, and how many sectors from there on, at most
// limit, have the same.
func (t *table) run(first, limit int64) (p place, n int64) {
	for n < limit {
		index, at := (first+n)/chunkSectors, (first+n)%chunkSectors
		c := t.chunks[index]
		is, k := c.all, int64(chunkSectors)-at
		if c.sectors != nil {
			is = c.sectors[at]
			rest := c.sectors[at:]
			k = int64(slices.IndexFunc(rest, func(p place) bool { return p != is }))
			if k < 0 {
				k = int64(len(rest))
			}
		}
		if n > 0 && is != p {
			break
		}
		p = is
		n += k
		if at+k < chunkSectors {
			break
		}
	}
	return p, min(n, limit)
}

// held calls visit for each run of sectors below limit that are not absent, in
// order, until it fails. No run crosses the border of two entries. visit may
// change the table where it was called for.
func (t *table) held(limit int64, visit func(first, n int64, p place) error) error {
	for _, index := range slices.Sorted(maps.Keys(t.chunks)) {
		at, end := index*chunkSectors, min((index+1)*chunkSectors, limit)
		for at < end {
			p, n := t.run(at, end-at)
			if p != absent {
				if err := visit(at, n, p); err != nil {
					return err
				}
			}
			at += n
		}
	}
	return nil
}

// places lists those that occur.
func (t *table) places() map[place]bool {
	seen := map[place]bool{}
	for _, c := range t.chunks {
		if c.sectors == nil {
			seen[c.all] = true
			continue
		}
		last := absent
		for _, p := range c.sectors {
			if p != last {
				seen[p], last = true, p
			}
		}
	}
	return seen
}

// replace puts other places in the place of those that are keys.
func (t *table) replace(by map[place]place) {
	if t.mine == nil {
		t.mine = new(owner)
	}
	for index, c := range t.chunks {
		if c.sectors == nil {
			if p, ok := by[c.all]; ok {
				t.chunks[index] = chunk{all: p}
			}
			continue
		}
		c = chunk{sectors: c.each(), owner: t.mine}
		for i, p := range c.sectors {
			if q, ok := by[p]; ok {
				c.sectors[i] = q
			}
		}
		t.chunks[index] = c
	}
}

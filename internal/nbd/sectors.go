package nbd

import (
	"maps"
	"math/bits"
	"slices"
)

// holding is what a layer has of a sector.
type holding uint8

const (
	absent  holding = iota // what lies below counts
	written                // the layer's file has it
	zeroed                 // it reads as zeroes, whatever the file has
)

// chunkSectors is how many sectors share an entry of a sectorMap: 1 MiB.
const chunkSectors = 2048

// sectorMap says for each sector what a layer holds. It costs nothing for what is
// absent and little for large ranges of one kind. Its zero value holds nothing.
type sectorMap struct{ chunks map[int64]chunk }

// chunk describes chunkSectors sectors: all alike, or by the bits.
type chunk struct {
	all  holding
	bits *chunkBits
}

// chunkBits has a sector in at most one of the sets.
type chunkBits struct{ written, zeroed [chunkSectors / 64]uint64 }

func (m *sectorMap) empty() bool { return len(m.chunks) == 0 }

func (m *sectorMap) clear() { m.chunks = nil }

// set records n sectors from first on.
func (m *sectorMap) set(first, n int64, h holding) {
	if m.chunks == nil {
		m.chunks = map[int64]chunk{}
	}
	for n > 0 {
		index, at := first/chunkSectors, first%chunkSectors
		k := min(n, chunkSectors-at)
		switch c, known := m.chunks[index]; {
		case k == chunkSectors && h == absent, !known && h == absent:
			delete(m.chunks, index)
		case k == chunkSectors:
			m.chunks[index] = chunk{all: h}
		case c.bits == nil && c.all == h:
		default:
			if c.bits == nil {
				c = chunk{bits: uniform(c.all)}
				m.chunks[index] = c
			}
			c.bits.set(int(at), int(k), h)
			if h == absent && *c.bits == (chunkBits{}) {
				delete(m.chunks, index)
			}
		}
		first, n = first+k, n-k
	}
}

func uniform(h holding) *chunkBits {
	b := &chunkBits{}
	b.set(0, chunkSectors, h)
	return b
}

func (b *chunkBits) set(at, n int, h holding) {
	for n > 0 {
		word, bit := at/64, at%64
		k := min(n, 64-bit)
		mask := (^uint64(0) >> (64 - k)) << bit
		b.written[word] &^= mask
		b.zeroed[word] &^= mask
		switch h {
		case written:
			b.written[word] |= mask
		case zeroed:
			b.zeroed[word] |= mask
		}
		at, n = at+k, n-k
	}
}

// run tells what is held of sector first, and how many sectors from there on,
// at most limit, are alike.
func (m *sectorMap) run(first, limit int64) (h holding, n int64) {
	for n < limit {
		index, at := (first+n)/chunkSectors, (first+n)%chunkSectors
		c := m.chunks[index]
		var is holding
		k := int64(chunkSectors) - at
		whole := true
		if c.bits == nil {
			is = c.all
		} else {
			var length int
			is, length = c.bits.run(int(at))
			whole = int64(length) == k
			k = int64(length)
		}
		if n > 0 && is != h {
			break
		}
		h = is
		n += k
		if !whole {
			break
		}
	}
	return h, min(n, limit)
}

func (b *chunkBits) run(at int) (h holding, n int) {
	bit := uint64(1) << (at % 64)
	switch {
	case b.written[at/64]&bit != 0:
		h = written
	case b.zeroed[at/64]&bit != 0:
		h = zeroed
	}
	for at+n < chunkSectors {
		word, shift := (at+n)/64, (at+n)%64
		var alike uint64
		switch h {
		case written:
			alike = b.written[word]
		case zeroed:
			alike = b.zeroed[word]
		default:
			alike = ^(b.written[word] | b.zeroed[word])
		}
		k := min(bits.TrailingZeros64(^(alike >> shift)), 64-shift)
		n += k
		if shift+k < 64 {
			break
		}
	}
	return h, n
}

// held calls visit for each run of sectors below limit that are not absent, in
// order, until it fails. visit may change the map of what it was called for.
func (m *sectorMap) held(limit int64, visit func(first, n int64, h holding) error) error {
	for _, index := range slices.Sorted(maps.Keys(m.chunks)) {
		at, end := index*chunkSectors, min((index+1)*chunkSectors, limit)
		for at < end {
			h, n := m.run(at, end-at)
			if h != absent {
				if err := visit(at, n, h); err != nil {
					return err
				}
			}
			at += n
		}
	}
	return nil
}

package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
)

// ChunkSize is the unit in which the contents of an Image are written to a file, in
// bytes.
const ChunkSize = chunkBytes

// Dump describes the contents of an Image in a file, chunk by chunk: Medium chunks
// of what is on the medium, then Pending ones of what was not flushed. Map has an
// entry for each: its index on the disk in eight bytes, then a bit for each sector
// that is in the file, and a bit for each that is zeroes, all little endian. On the
// medium a sector with neither is zeroes, too; among what is pending, and in a dump of
// changes, it is absent.
type Dump struct {
	Size    int64  `json:"size"` // of the disk in bytes
	Medium  int    `json:"medium"`
	Pending int    `json:"pending"`
	State   State  `json:"state"`
	Map     []byte `json:"-"`
	// Described is set if the contents are only what was written over the Contents that the
	// disk began with.
	Described bool `json:"described,omitempty"`
}

// MapEntry is the size of a chunk's entry in a Dump's Map, in bytes.
const MapEntry = 8 + 2*chunkSectors/8

// bitmap has a bit per sector of a chunk.
type bitmap [chunkSectors / 64]uint64

func (b *bitmap) set(at, n int64) {
	for ; n > 0; at, n = at+1, n-1 {
		b[at/64] |= 1 << (at % 64)
	}
}

// Dump calls put with the contents, chunk by chunk, in the order that the result
// describes. put must not keep p.
func (i *Image) Dump(put func(p []byte) error) (*Dump, error) {
	d := &Dump{Size: i.size, State: i.state}
	var err error
	if _, d.Described = i.medium.base.(*described); d.Described {
		d.Medium, err = dumpLayer(d, i.medium.over, put)
	} else {
		err = i.dumpMedium(d, put)
	}
	if err == nil {
		d.Pending, err = dumpLayer(d, i.cache, put)
	}
	if err != nil {
		return nil, fmt.Errorf("disk contents: %w", err)
	}
	return d, nil
}

// emit adds a chunk with the contents p to the dump.
func (d *Dump) emit(index int64, written, zero *bitmap, p []byte, put func(p []byte) error) error {
	d.Map = binary.LittleEndian.AppendUint64(d.Map, uint64(index))
	for _, b := range []*bitmap{written, zero} {
		for _, w := range b {
			d.Map = binary.LittleEndian.AppendUint64(d.Map, w)
		}
	}
	return put(p)
}

// dumpMedium dumps what is on the medium and is not zero.
func (i *Image) dumpMedium(d *Dump, put func(p []byte) error) error {
	p := make([]byte, ChunkSize)
	for at := int64(0); at < i.size; {
		if hole, n := i.medium.hole(at, i.size-at); hole {
			at += n
			continue
		}
		index := at / ChunkSize
		at = min((index+1)*ChunkSize, i.size)
		part := p[:at-index*ChunkSize]
		clear(p[len(part):])
		if err := i.medium.readAt(part, index*ChunkSize); err != nil {
			return err
		}
		var written bitmap
		for s := range int64(len(part) / SectorSize) {
			if sector := part[s*SectorSize:][:SectorSize]; slices.IndexFunc(sector,
				func(b byte) bool { return b != 0 }) >= 0 {
				written.set(s, 1)
			}
		}
		if written == (bitmap{}) {
			continue
		}
		if err := d.emit(index, &written, &bitmap{}, p, put); err != nil {
			return err
		}
		d.Medium++
	}
	return nil
}

// dumpLayer dumps a layer, zeroes included, and returns the number of chunks.
func dumpLayer(d *Dump, l *layer, put func(p []byte) error) (chunks int, err error) {
	p := make([]byte, ChunkSize)
	var written, zero bitmap
	last := int64(-1)
	flush := func() error {
		if last < 0 {
			return nil
		}
		chunks++
		err := d.emit(last, &written, &zero, p, put)
		written, zero = bitmap{}, bitmap{}
		clear(p)
		return err
	}
	err = l.table.held(d.Size/SectorSize, func(first, n int64, at place) error {
		if index := first / chunkSectors; index != last {
			if err := flush(); err != nil {
				return err
			}
			last = index
		}
		if at == zeroed {
			zero.set(first%chunkSectors, n)
			return nil
		}
		written.set(first%chunkSectors, n)
		part := p[first%chunkSectors*SectorSize:][:n*SectorSize]
		return l.file(at).readAt(part, first*SectorSize)
	})
	if err == nil {
		err = flush()
	}
	return chunks, err
}

// LoadImage makes the image that a Dump describes, whose chunks are in f from at on.
// The file must not change while the image is in use. The caller may close f. base is what
// the disk began with if d.Described is set, else nil; LoadImage owns it.
func LoadImage(d *Dump, f *os.File, at int64, base Contents) (i *Image, err error) {
	var below source
	if base != nil {
		from := &described{contents: base}
		from.refs.Store(1)
		below = from
		defer func() {
			if err != nil {
				err = errors.Join(err, base.Close())
			}
		}()
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("disk contents: %w", err)
	}
	if d.Described != (base != nil) || base != nil && wholeSectors(base.Size()) != d.Size {
		return nil, errors.New("disk contents: they are changes of another disk")
	}
	i = &Image{size: d.Size, state: d.State}
	var layers [2]*layer
	text := d.Map
	for part, n := range []int{d.Medium, d.Pending} {
		l := &layer{size: d.Size}
		layers[part] = l
		if n == 0 {
			continue
		}
		slots := make(map[int64]int64, n)
		for range n {
			index := int64(binary.LittleEndian.Uint64(text))
			slots[index] = at
			for p, is := range []place{firstFile, zeroed} {
				for w := range chunkSectors / 64 {
					word := binary.LittleEndian.Uint64(text[8+p*chunkSectors/8+8*w:])
					for s := 0; word != 0; {
						skip := bits.TrailingZeros64(word)
						word >>= skip
						k := bits.TrailingZeros64(^word)
						word >>= k // 64 makes it zero
						s += skip
						l.table.set(index*chunkSectors+int64(64*w+s), int64(k), is)
						s += k
					}
				}
			}
			text, at = text[MapEntry:], at+ChunkSize
		}
		// A descriptor of its own, since others close theirs.
		own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			for _, l := range layers[:part] {
				_ = l.close()
			}
			return nil, fmt.Errorf("disk contents: %w", err)
		}
		b := newBlob(own)
		b.slots = slots
		l.files = []*blob{b}
	}
	i.medium, i.cache = &stack{layers[0], below}, layers[1]
	i.refs.Store(1)
	return i, nil
}

// check verifies a Dump that comes from a file.
func (d *Dump) check() error {
	if d.Size <= 0 || d.Size%SectorSize != 0 || d.Size > maxSize {
		return fmt.Errorf("%d bytes of disk", d.Size)
	}
	if d.Medium < 0 || d.Pending < 0 || d.Medium > len(d.Map) || d.Pending > len(d.Map) ||
		(d.Medium+d.Pending)*MapEntry != len(d.Map) {
		return fmt.Errorf("%d and %d chunks in a map of %d bytes", d.Medium, d.Pending, len(d.Map))
	}
	text := d.Map
	for _, n := range []int{d.Medium, d.Pending} {
		next := uint64(0)
		for range n {
			index := binary.LittleEndian.Uint64(text)
			if index < next || index >= uint64((d.Size+ChunkSize-1)/ChunkSize) {
				return fmt.Errorf("chunk %d", index)
			}
			next = index + 1
			sectors := min(d.Size/SectorSize-int64(index)*chunkSectors, chunkSectors)
			for w := range int64(chunkSectors / 64) {
				written := binary.LittleEndian.Uint64(text[8+8*w:])
				zero := binary.LittleEndian.Uint64(text[8+chunkSectors/8+8*w:])
				var past uint64
				if has := sectors - 64*w; has < 64 {
					past = ^uint64(0) << max(has, 0)
				}
				if written&zero != 0 || (written|zero)&past != 0 {
					return fmt.Errorf("sectors of chunk %d", index)
				}
			}
			text = text[MapEntry:]
		}
	}
	return d.State.Check(d.Size)
}

// maxSize is the largest size of a disk that is accepted from a file, in bytes.
const maxSize = 1 << 50

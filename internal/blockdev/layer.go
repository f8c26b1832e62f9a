package blockdev

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// blob is a file with sectors of disks in it. It counts its references; the last release
// closes it.
type blob struct {
	f    *os.File
	refs atomic.Int32
	// slots has the offset in the file of each chunk, by its index on the disk. Nil is
	// a file with the same offsets as the disk.
	slots map[int64]int64
	mapped
}

func newBlob(f *os.File) *blob {
	b := &blob{f: f}
	b.refs.Store(1)
	return b
}

func (b *blob) retain() *blob {
	b.refs.Add(1)
	return b
}

func (b *blob) release() error {
	if b.refs.Add(-1) > 0 {
		return nil
	}
	b.mapped.close()
	return b.f.Close()
}

func (b *blob) readAt(p []byte, off int64) error {
	if b.slots == nil {
		_, err := b.f.ReadAt(p, off)
		return err
	}
	for len(p) > 0 {
		index, in := off/chunkBytes, off%chunkBytes
		n := min(int64(len(p)), chunkBytes-in)
		slot, ok := b.slots[index]
		if !ok {
			return fmt.Errorf("chunk %d is missing", index)
		}
		if _, err := b.f.ReadAt(p[:n], slot+in); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// layer has some sectors of a disk: in a file that it writes to, its own, and in files
// that it shares with copies. Its zero value, with a size, has no sectors. Reads may
// run at once; all other calls must be alone.
type layer struct {
	dir     string // for its files
	size    int64  // of the disk in bytes
	table   table
	files   []*blob
	own     place // the file that is written to, the last one; 0 while there is none
	touched bool  // own has something in it
	compact int   // how many files there may be before unused ones are looked for
}

// temporary makes an empty file without a name that reads as size zeroes.
func temporary(dir string, size int64) (*os.File, error) {
	f, err := os.CreateTemp(dir, "disk-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (l *layer) file(p place) *blob { return l.files[p-firstFile] }

// each calls visit for the parts of a range that are in one place each.
func (l *layer) each(off, n int64, visit func(p place, off, n int64) error) error {
	for n > 0 {
		p, sectors := l.table.run(off/SectorSize, (off%SectorSize+n+SectorSize-1)/SectorSize)
		k := min(n, sectors*SectorSize-off%SectorSize)
		if err := visit(p, off, k); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// read reads the sectors that the layer has, and the others by below.
func (l *layer) read(p []byte, off int64, below func(p []byte, off int64) error) error {
	return l.each(off, int64(len(p)), func(at place, o, n int64) error {
		part := p[o-off : o-off+n]
		switch at {
		case zeroed:
			clear(part)
			return nil
		case absent:
			return below(part, o)
		}
		return l.file(at).readAt(part, o)
	})
}

// zeroes is the contents below a layer without a base.
func zeroes(p []byte, _ int64) error {
	clear(p)
	return nil
}

// write writes whole sectors.
func (l *layer) write(p []byte, off int64) error {
	if err := l.store(p, off); err != nil {
		return err
	}
	l.table.set(off/SectorSize, int64(len(p))/SectorSize, l.own)
	return nil
}

// store writes to the layer's own file, which it makes if necessary.
func (l *layer) store(p []byte, off int64) error {
	if l.own == 0 {
		if len(l.files) >= maxFiles {
			return errors.New("the disk has too many layers")
		}
		f, err := temporary(l.dir, l.size)
		if err != nil {
			return fmt.Errorf("disk file: %w", err)
		}
		l.files = append(l.files, newBlob(f))
		l.own = firstFile + place(len(l.files)-1)
	}
	l.touched = true
	own := l.file(l.own)
	if _, err := own.f.WriteAt(p, off); err != nil {
		return err
	}
	own.wrote(off, int64(len(p)))
	return nil
}

// memory returns a range of the layer's own file as memory to store to, or nil. What is
// stored there counts once the table refers to it.
func (l *layer) memory(off, n int64) []byte {
	if l.own == 0 {
		return nil
	}
	own := l.file(l.own)
	return own.memory(int(own.f.Fd()), l.size, off, n)
}

// maxFiles is the number of files that a layer can refer to, limited by place.
const maxFiles = 1<<16 - 1 - int(firstFile)

// zero makes whole sectors zeroes.
func (l *layer) zero(off, n int64) {
	l.table.set(off/SectorSize, n/SectorSize, zeroed)
	if l.own != 0 { // only to free space
		_ = unix.Fallocate(int(l.file(l.own).f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
}

// forget makes whole sectors absent.
func (l *layer) forget(first, n int64) { l.table.set(first, n, absent) }

// clear makes all sectors absent. The layer's own file stays, unless spare.
func (l *layer) clear(spare bool) {
	l.table.clear()
	var kept []*blob
	for i, b := range l.files {
		if firstFile+place(i) == l.own && !spare {
			kept = append(kept, b)
			continue
		}
		_ = b.release() // a temporary file
	}
	l.files, l.own = kept, 0
	if len(kept) > 0 {
		l.own = firstFile
	} else {
		l.touched = false
	}
}

// seal returns a copy of the layer that must never be written to. Both share all files;
// l writes to another file from now on.
func (l *layer) seal() *layer {
	if len(l.files) > l.compact {
		l.drop(l.table.places())
	}
	if l.touched {
		l.own, l.touched = 0, false
	}
	l.table.mine = nil
	out := l.copy()
	if l.own != 0 { // the table does not refer to it
		_ = out.files[len(out.files)-1].release() // it is still l's
		out.files = out.files[:len(out.files)-1]
	}
	return out
}

// copy returns a copy of l, which must be sealed. Several copies may be made at once.
func (l *layer) copy() *layer {
	out := &layer{dir: l.dir, size: l.size, table: table{chunks: maps.Clone(l.table.chunks)}, compact: l.compact}
	for _, b := range l.files {
		out.files = append(out.files, b.retain())
	}
	return out
}

// drop releases the files that are not used.
func (l *layer) drop(used map[place]bool) {
	moved := map[place]place{}
	var kept []*blob
	for i, b := range l.files {
		p := firstFile + place(i)
		if !used[p] && p != l.own {
			_ = b.release() // a temporary file, or one that is only read
			continue
		}
		if to := firstFile + place(len(kept)); to != p {
			moved[p] = to
		}
		kept = append(kept, b)
	}
	if to, ok := moved[l.own]; ok {
		l.own = to
	}
	l.files = kept
	if len(moved) > 0 {
		l.table.replace(moved)
	}
	l.compact = 2*len(kept) + 16
}

// close releases all files.
func (l *layer) close() error {
	var errs []error
	for _, b := range l.files {
		errs = append(errs, b.release())
	}
	l.files, l.own = nil, 0
	return errors.Join(errs...)
}

package blockdev

import (
	"context"
	"errors"

	"provium/internal/blockdev/fault"
	"provium/internal/nbd"
)

// filed are contents that know in which files they are.
type filed interface {
	// extents calls visit for a range, piece by piece and in order, until visit
	// fails. visit must release what keeps the file of an extent open. The error
	// is errCopy if the range must be read instead.
	extents(off, n int64, visit func(nbd.Extent) error) error
}

// errCopy is returned for a range that is not in a few files.
var errCopy = errors.New("to be read")

// extentsOf is extents for any contents.
func extentsOf(c contents, off, n int64, visit func(nbd.Extent) error) error {
	if f, ok := c.(filed); ok {
		return f.extents(off, n, visit)
	}
	return errCopy
}

// extents calls below for the ranges that the layer does not have.
func (l *layer) extents(off, n int64, visit func(nbd.Extent) error, below func(off, n int64) error) error {
	return l.each(off, n, func(p place, off, n int64) error {
		switch p {
		case zeroed:
			return visit(nbd.Extent{Len: n})
		case absent:
			return below(off, n)
		}
		b := l.file(p)
		if b.slots != nil {
			return errCopy
		}
		return visit(nbd.Extent{Len: n, File: b.f, At: off, Hold: b.retain()})
	})
}

func (s *stack) extents(off, n int64, visit func(nbd.Extent) error) error {
	return s.over.extents(off, n, visit, func(off, n int64) error {
		if s.base == nil {
			return visit(nbd.Extent{Len: n})
		}
		return extentsOf(s.base, off, n, visit)
	})
}

func (i *imageFile) extents(off, n int64, visit func(nbd.Extent) error) error {
	raw, ok := i.imageBytes.(rawBytes)
	if !ok {
		return errCopy
	}
	// One that has shrunk, or ends within a sector, is readAt's to judge.
	if info, err := raw.Stat(); err != nil || off+n > info.Size() {
		return errCopy
	}
	for n > 0 {
		hole, k := raw.Hole(off, n)
		e := nbd.Extent{Len: k}
		if !hole {
			i.retain()
			e = nbd.Extent{Len: k, File: raw.File, At: off, Hold: i}
		}
		if err := visit(e); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// Release implements nbd.Holder.
func (b *blob) Release() error { return b.release() }

// Release implements nbd.Holder.
func (i *imageFile) Release() error { return i.release() }

// maxExtents limits the pieces of a read that is not copied.
const maxExtents = 8

// addExtent appends e to x, or makes the last extent longer. It returns errCopy when
// there are too many.
func addExtent(x *nbd.Extents, e nbd.Extent) error {
	if k := len(*x) - 1; k >= 0 {
		if last := &(*x)[k]; last.File == e.File && (e.File == nil || last.At+last.Len == e.At) {
			last.Len += e.Len
			if e.Hold != nil {
				return e.Hold.Release() // the last one holds the file, too
			}
			return nil
		}
	}
	*x = append(*x, e)
	if len(*x) > maxExtents {
		return errCopy
	}
	return nil
}

// guestExtents is guestRead for a client that can be sent pieces of files. The caller
// must release x. A range that is not in a few files is returned as p instead.
func (d *Disk) guestExtents(ctx context.Context, off, n int64) (x nbd.Extents, p []byte, err error) {
	add := func(e nbd.Extent) error { return addExtent(&x, e) }
	err = d.faults.Run(ctx, fault.Request{Op: fault.Read, Off: off, N: n, Guest: true}, func(e fault.Deed) error {
		d.mu.RLock()
		defer d.mu.RUnlock()
		if err := d.powered(); err != nil {
			return err
		}
		if e.Effect == "" {
			err := d.cache.extents(off, n, add, func(off, n int64) error { return extentsOf(d.medium, off, n, add) })
			if err == nil {
				return nil
			}
			x.Release()
			x = nil
			if err != errCopy {
				return d.report(err)
			}
		}
		p = make([]byte, n)
		return d.read(e, p, off)
	})
	if err != nil {
		x.Release()
		return nil, nil, err
	}
	return x, p, nil
}

package nbd

import (
	"context"
	"errors"
	"os"
)

// extent is a piece of what a guest reads: a part of a file, or zeroes.
type extent struct {
	n    int64    // bytes
	file *os.File // nil: zeroes
	at   int64    // in it
	hold holder   // keeps the file open until it is released; nil for zeroes
}

type holder interface{ release() error }

// filed are contents that know in which files they are.
type filed interface {
	// extents calls visit for a range, piece by piece and in order, until it fails.
	// What an extent holds is then visit's to release. The error is errCopy when
	// the range has to be read.
	extents(off, n int64, visit func(extent) error) error
}

// errCopy is a range that is not in a few files.
var errCopy = errors.New("to be read")

func extentsOf(c contents, off, n int64, visit func(extent) error) error {
	if f, ok := c.(filed); ok {
		return f.extents(off, n, visit)
	}
	return errCopy
}

// extents has below tell of what the layer does not have.
func (l *layer) extents(off, n int64, visit func(extent) error, below func(off, n int64) error) error {
	return l.each(off, n, func(p place, off, n int64) error {
		switch p {
		case zeroed:
			return visit(extent{n: n})
		case absent:
			return below(off, n)
		}
		b := l.file(p)
		if b.slots != nil {
			return errCopy
		}
		return visit(extent{n, b.f, off, b.retain()})
	})
}

func (s *stack) extents(off, n int64, visit func(extent) error) error {
	return s.over.extents(off, n, visit, func(off, n int64) error {
		if s.base == nil {
			return visit(extent{n: n})
		}
		return extentsOf(s.base, off, n, visit)
	})
}

func (i *imageFile) extents(off, n int64, visit func(extent) error) error {
	raw, ok := i.imageBytes.(rawBytes)
	if !ok {
		return errCopy
	}
	// One that has shrunk, or ends within a sector, is readAt's to judge.
	if info, err := raw.Stat(); err != nil || off+n > info.Size() {
		return errCopy
	}
	for n > 0 {
		hole, k := raw.hole(off, n)
		e := extent{n: k}
		if !hole {
			i.retain()
			e = extent{k, raw.File, off, i}
		}
		if err := visit(e); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// extents of a read, in order.
type extents []extent

// mostExtents is in how many pieces a read is not copied.
const mostExtents = 8

func (x *extents) add(e extent) error {
	if k := len(*x) - 1; k >= 0 {
		if last := &(*x)[k]; last.file == e.file && (e.file == nil || last.at+last.n == e.at) {
			last.n += e.n
			if e.hold != nil {
				return e.hold.release() // the other one holds the file, too
			}
			return nil
		}
	}
	*x = append(*x, e)
	if len(*x) > mostExtents {
		return errCopy
	}
	return nil
}

func (x *extents) release() {
	for _, e := range *x {
		if e.hold != nil {
			_ = e.hold.release() // it was only read
		}
	}
	*x = nil
}

// guestExtents is guestRead for a client that can be sent pieces of files: x is to be
// released. What has to be read nevertheless is in p.
func (d *Disk) guestExtents(ctx context.Context, off, n int64) (x extents, p []byte, err error) {
	err = d.faults.run(ctx, request{opRead, off, n, true}, func(e deed) error {
		d.mu.RLock()
		defer d.mu.RUnlock()
		if d.closed {
			return ErrClosed
		}
		if e.effect == "" {
			err := d.cache.extents(off, n, x.add, func(off, n int64) error { return extentsOf(d.medium, off, n, x.add) })
			if err == nil {
				return nil
			}
			x.release()
			if err != errCopy {
				return d.report(err)
			}
		}
		p = make([]byte, n)
		return d.read(e, p, off)
	})
	if err != nil {
		x.release()
	}
	return x, p, err
}

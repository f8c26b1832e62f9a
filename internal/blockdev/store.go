package blockdev

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// store is the contents of a disk as they are on the medium. Offsets and lengths are in
// bytes and lie within the disk; those of zero are whole sectors. Reads may run at once;
// all other calls must be alone.
type store interface {
	contents
	writeAt(p []byte, off int64) error
	zero(off, n int64) error
	// flush returns when other users of an image see what was written.
	flush() error
	// resize makes the contents longer by zeroes; size is in whole sectors.
	resize(size int64) error
	// seal returns the present contents as ones that do not change, without copying
	// them.
	seal() *stack
	close() error
}

// contents are a store that is only read.
type contents interface {
	readAt(p []byte, off int64) error
	// hole reports whether off is known to read as zeroes, and for how many bytes
	// of at most limit the answer holds.
	hole(off, limit int64) (bool, int64)
}

// source is contents that do not change and may be shared; it counts its references.
type source interface {
	contents
	retain()
	release() error
}

// stack is a layer over contents that do not change: a private copy of base.
type stack struct {
	over *layer
	base source // nil: zeroes
}

func (s *stack) below(p []byte, off int64) error {
	if s.base == nil {
		return zeroes(p, off)
	}
	return s.base.readAt(p, off)
}

func (s *stack) readAt(p []byte, off int64) error { return s.over.read(p, off, s.below) }

func (s *stack) writeAt(p []byte, off int64) error {
	// A sector that is covered in part keeps the rest.
	first, end := off/SectorSize*SectorSize, (off+int64(len(p))+SectorSize-1)/SectorSize*SectorSize
	if first == off && end == off+int64(len(p)) {
		return s.over.write(p, off)
	}
	whole := make([]byte, end-first)
	if err := s.readAt(whole, first); err != nil {
		return err
	}
	copy(whole[off-first:], p)
	return s.over.write(whole, first)
}

func (s *stack) zero(off, n int64) error {
	s.over.zero(off, n)
	return nil
}

func (s *stack) hole(off, limit int64) (bool, int64) {
	p, n := s.over.table.run(off/SectorSize, limit/SectorSize)
	switch {
	case p != absent:
		return p == zeroed, n * SectorSize
	case s.base == nil:
		return true, n * SectorSize
	}
	return s.base.hole(off, n*SectorSize)
}

func (s *stack) flush() error { return nil }

// resize only sets the size: sectors that no layer has are zeroes, also behind the end of
// the base.
func (s *stack) resize(size int64) error {
	s.over.size = size
	return nil
}

func (s *stack) seal() *stack {
	if s.base != nil {
		s.base.retain()
	}
	return &stack{s.over.seal(), s.base}
}

func (s *stack) close() error {
	err := s.over.close()
	if s.base != nil {
		err = errors.Join(err, s.base.release())
	}
	return err
}

// inPlace is an image that is written to. Before a write it copies for each view, that
// is a snapshot, what the view does not have yet.
type inPlace struct {
	*imageFile
	dir string // for the copies

	mu    sync.RWMutex // reads of views against writes
	views []*view
}

// view is a snapshot of an image.
type view struct {
	of   *inPlace
	refs atomic.Int32
	kept layer // guarded by of.mu
	gone bool  // the image is closed: everything is kept
}

func (s *inPlace) writeAt(p []byte, off int64) error {
	return s.change(off, int64(len(p)), func() error {
		_, err := s.WriteAt(p, off)
		return err
	})
}

func (s *inPlace) zero(off, n int64) error {
	return s.change(off, n, func() error { return s.imageFile.zero(off, n) })
}

// resize makes the image longer. Views end where they did.
func (s *inPlace) resize(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.imageFile.resize(size); err != nil {
		return err
	}
	s.length.Store(size)
	return nil
}

func (s *inPlace) change(off, n int64, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.views {
		if err := v.keep(off, n); err != nil {
			return fmt.Errorf("copy for a snapshot: %w", err)
		}
	}
	return do()
}

func (s *inPlace) seal() *stack {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := wholeSectors(s.length.Load())
	v := &view{of: s, kept: layer{dir: s.dir, size: size}}
	v.refs.Store(1)
	s.views = append(s.views, v)
	return &stack{&layer{dir: s.dir, size: size}, v}
}

// close releases the image. Views of it get a copy of what they do not have.
func (s *inPlace) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, v := range s.views {
		if err := v.keep(0, v.kept.size); err != nil {
			errs = append(errs, fmt.Errorf("copy for a snapshot: %w", err))
		}
		v.gone = true
	}
	s.views = nil
	return errors.Join(append(errs, s.release())...)
}

// keep copies what a range of the image has and the view has not. The caller must hold v.of.mu.
func (v *view) keep(off, n int64) error {
	first, end := off/SectorSize*SectorSize, (off+n+SectorSize-1)/SectorSize*SectorSize
	buf := make([]byte, min(end-first, chunkBytes))
	return v.kept.each(first, end-first, func(p place, off, n int64) error {
		for n > 0 && p == absent {
			hole, k := v.of.hole(off, n)
			// A sector that is a hole in part only is copied.
			if whole := k / SectorSize * SectorSize; hole && whole > 0 {
				k = whole
			} else {
				hole, k = false, (k+SectorSize-1)/SectorSize*SectorSize
			}
			if hole {
				v.kept.zero(off, k)
			} else {
				k = min(k, n, int64(len(buf)))
				if err := v.of.readAt(buf[:k], off); err != nil {
					return err
				}
				if err := v.kept.write(buf[:k], off); err != nil {
					return err
				}
			}
			off, n = off+k, n-k
		}
		return nil
	})
}

func (v *view) readAt(p []byte, off int64) error {
	v.of.mu.RLock()
	defer v.of.mu.RUnlock()
	return v.kept.read(p, off, func(p []byte, off int64) error {
		if v.gone {
			return errors.New("the image was closed")
		}
		return v.of.readAt(p, off)
	})
}

func (v *view) hole(off, limit int64) (bool, int64) {
	v.of.mu.RLock()
	defer v.of.mu.RUnlock()
	p, n := v.kept.table.run(off/SectorSize, limit/SectorSize)
	if p != absent || v.gone {
		return p == zeroed, n * SectorSize
	}
	return v.of.hole(off, n*SectorSize)
}

func (v *view) retain() { v.refs.Add(1) }

func (v *view) release() error {
	if v.refs.Add(-1) > 0 {
		return nil
	}
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.of.views = slices.DeleteFunc(v.of.views, func(o *view) bool { return o == v })
	return v.kept.close()
}

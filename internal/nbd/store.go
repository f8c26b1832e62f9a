package nbd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// store is the contents of a disk as they are on the medium. Offsets and lengths
// are in bytes and lie within the disk; those of zero are whole sectors. It is
// not safe for concurrent use, except that reads may overlap.
type store interface {
	contents
	writeAt(p []byte, off int64) error
	zero(off, n int64) error
	// seal gives the present contents as something that does not change any more,
	// without copying them.
	seal() *stack
	close() error
}

// contents are a store that is only read.
type contents interface {
	readAt(p []byte, off int64) error
	// hole tells whether off is known to read as zeroes, and for how many bytes
	// of at most limit the answer holds.
	hole(off, limit int64) (bool, int64)
}

// source is contents that do not change, and that others may refer to as well. A
// read that begins or ends within a sector is one of an image.
type source interface {
	contents
	retain()
	release() error
}

// stack is a layer over contents that do not change. As a store it is a private
// copy of base.
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
	// Sectors that are covered in part keep the rest of what they had.
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

// imageFile is a raw image. As a source it must not be written to.
type imageFile struct {
	f      *os.File
	length int64 // of the file when it was opened; up to a sector less than the disk
	refs   atomic.Int32
}

// openImage opens a raw image. A writer has it for itself.
func openImage(path string, write bool) (*imageFile, error) {
	flags, lock := os.O_RDONLY, unix.LOCK_SH
	if write {
		flags, lock = os.O_RDWR, unix.LOCK_EX
	}
	info, err := os.Stat(path) // a FIFO would block in open
	switch {
	case err != nil:
		return nil, fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	case info.IsDir():
		return nil, fmt.Errorf("image `%s` is a directory", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("image `%s` is no regular file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("image `%s` is empty", path)
	}
	f, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	}
	if err := unix.Flock(int(f.Fd()), lock|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, fmt.Errorf("image `%s` is in use by another disk", path)
		}
		return nil, fmt.Errorf("image `%s` lock: %w", path, err)
	}
	i := &imageFile{f: f, length: info.Size()}
	i.refs.Store(1)
	return i, nil
}

func (i *imageFile) readAt(p []byte, off int64) error {
	n, err := i.f.ReadAt(p, off)
	if err == io.EOF {
		// The last sector may be a part in the file; anything else that is
		// missing was cut off while we use it.
		if off+int64(n) < i.length {
			return fmt.Errorf("the image has shrunk to %d bytes", off+int64(n))
		}
		clear(p[n:])
		err = nil
	}
	return err
}

func (i *imageFile) hole(off, limit int64) (bool, int64) {
	data, err := unix.Seek(int(i.f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return true, limit
	}
	if err != nil {
		return false, limit
	}
	if data > off {
		return true, min(limit, data-off)
	}
	end, err := unix.Seek(int(i.f.Fd()), off, unix.SEEK_HOLE)
	if err != nil || end <= off {
		return false, limit
	}
	return false, min(limit, end-off)
}

func (i *imageFile) retain() { i.refs.Add(1) }

func (i *imageFile) release() error {
	if i.refs.Add(-1) > 0 {
		return nil
	}
	return i.f.Close()
}

// inPlace is an image whose bytes are the disk's. What was sealed is kept for
// those who have it before it is written over.
type inPlace struct {
	*imageFile
	dir string // for what is kept

	mu    sync.RWMutex // reads of views against writes
	views []*view
}

// view is what an image was at one moment.
type view struct {
	of   *inPlace
	refs atomic.Int32
	kept layer // guarded by of.mu
	gone bool  // the image is closed: everything is kept
}

func (s *inPlace) writeAt(p []byte, off int64) error {
	return s.change(off, int64(len(p)), func() error {
		_, err := s.f.WriteAt(p, off)
		return err
	})
}

func (s *inPlace) zero(off, n int64) error {
	return s.change(off, n, func() error {
		err := unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if err != unix.EOPNOTSUPP {
			return err
		}
		blank := make([]byte, min(n, 1<<20))
		for n > 0 {
			k := min(n, int64(len(blank)))
			if _, err := s.f.WriteAt(blank[:k], off); err != nil {
				return err
			}
			off, n = off+k, n-k
		}
		return nil
	})
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
	size := wholeSectors(s.length)
	v := &view{of: s, kept: layer{dir: s.dir, size: size}}
	v.refs.Store(1)
	s.views = append(s.views, v)
	return &stack{&layer{dir: s.dir, size: size}, v}
}

// close gives the image back; who has a view of it gets a copy of the rest.
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

// keep copies what a range of the image has and the view has not. Held: v.of.mu.
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

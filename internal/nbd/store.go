package nbd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// store is the contents of a disk as they are on the medium. Offsets and lengths
// are in bytes and lie within the disk; those of zero are whole sectors. It is
// not safe for concurrent use, except that reads may overlap.
type store interface {
	contents
	writeAt(p []byte, off int64) error
	zero(off, n int64) error
}

// contents are a store that is only read. A read that begins or ends within a
// sector is one of an image.
type contents interface {
	readAt(p []byte, off int64) error
	// hole tells whether off is known to read as zeroes, and for how many bytes
	// of at most limit the answer holds.
	hole(off, limit int64) (bool, int64)
	close() error
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

// fileStore is a file whose bytes are the disk's.
type fileStore struct {
	f      *os.File
	length int64 // of the file when it was opened; up to a sector less than the disk
}

// openImage opens a raw image. A writer has it for itself.
func openImage(path string, write bool) (*fileStore, error) {
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
	return &fileStore{f: f, length: info.Size()}, nil
}

func (s *fileStore) readAt(p []byte, off int64) error {
	n, err := s.f.ReadAt(p, off)
	if err == io.EOF {
		// The last sector may be a part in the file; anything else that is
		// missing was cut off while we use it.
		if off+int64(n) < s.length {
			return fmt.Errorf("the image has shrunk to %d bytes", off+int64(n))
		}
		clear(p[n:])
		err = nil
	}
	return err
}

func (s *fileStore) writeAt(p []byte, off int64) error {
	_, err := s.f.WriteAt(p, off)
	return err
}

func (s *fileStore) zero(off, n int64) error {
	err := unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err != unix.EOPNOTSUPP {
		return err
	}
	blank := make([]byte, min(n, 1<<20))
	for n > 0 {
		k := min(n, int64(len(blank)))
		if err := s.writeAt(blank[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

func (s *fileStore) hole(off, limit int64) (bool, int64) {
	data, err := unix.Seek(int(s.f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return true, limit
	}
	if err != nil {
		return false, limit
	}
	if data > off {
		return true, min(limit, data-off)
	}
	end, err := unix.Seek(int(s.f.Fd()), off, unix.SEEK_HOLE)
	if err != nil || end <= off {
		return false, limit
	}
	return false, min(limit, end-off)
}

func (s *fileStore) close() error { return s.f.Close() }

// layer holds some sectors in a file of its own.
type layer struct {
	f   *os.File
	has sectorMap
}

// cowStore is a private copy of base: what is written goes to over.
type cowStore struct {
	base contents
	over layer
}

// each splits a range into runs of one kind.
func (l *layer) each(off, n int64, visit func(h holding, off, n int64) error) error {
	for n > 0 {
		h, sectors := l.has.run(off/SectorSize, (off%SectorSize+n+SectorSize-1)/SectorSize)
		k := min(n, sectors*SectorSize-off%SectorSize)
		if err := visit(h, off, k); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// read reads what is held from the layer, and the rest with below.
func (l *layer) read(p []byte, off int64, below func(p []byte, off int64) error) error {
	return l.each(off, int64(len(p)), func(h holding, at, n int64) error {
		part := p[at-off : at-off+n]
		switch h {
		case written:
			_, err := l.f.ReadAt(part, at)
			return err
		case zeroed:
			clear(part)
			return nil
		}
		return below(part, at)
	})
}

// write takes whole sectors.
func (l *layer) write(p []byte, off int64) error {
	if _, err := l.f.WriteAt(p, off); err != nil {
		return err
	}
	l.has.set(off/SectorSize, int64(len(p))/SectorSize, written)
	return nil
}

func (s *cowStore) readAt(p []byte, off int64) error { return s.over.read(p, off, s.base.readAt) }

func (s *cowStore) writeAt(p []byte, off int64) error {
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

func (s *cowStore) zero(off, n int64) error {
	s.over.has.set(off/SectorSize, n/SectorSize, zeroed)
	// Only to give space back.
	_ = unix.Fallocate(int(s.over.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	return nil
}

func (s *cowStore) hole(off, limit int64) (bool, int64) {
	h, n := s.over.has.run(off/SectorSize, limit/SectorSize)
	if h == absent {
		return s.base.hole(off, n*SectorSize)
	}
	return h == zeroed, n * SectorSize
}

func (s *cowStore) close() error { return errors.Join(s.over.f.Close(), s.base.close()) }

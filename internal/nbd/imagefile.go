package nbd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// imageBytes are where the contents of an image are: its file, or a program that
// knows its format.
type imageBytes interface {
	io.ReaderAt
	io.WriterAt
	zero(off, n int64) error
	hole(off, limit int64) (bool, int64)
	flush() error // has what was written in the image's file
	resize(size int64) error
	Close() error
}

// imageFile is an image. As a source it must not be written to.
type imageFile struct {
	imageBytes
	lock   *os.File     // the image's file, locked
	length atomic.Int64 // that the contents are to have; up to a sector less than the disk
	refs   atomic.Int32
}

// openImage opens an image. A writer has it for itself. A raw one is its file; the
// contents of any other are behind conn.
func openImage(path string, write bool, conn net.Conn) (*imageFile, error) {
	f, err := lockImage(path, write, conn != nil)
	if err != nil {
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
		return nil, err
	}
	i := &imageFile{imageBytes: rawBytes{f}, lock: f}
	i.refs.Store(1)
	if conn == nil {
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
		}
		i.length.Store(info.Size())
		return i, nil
	}
	c, err := newClient(conn)
	if err == nil && (c.size <= 0 || c.size > maxImage) {
		err = errors.Join(fmt.Errorf("has %d bytes", c.size), c.Close())
	}
	if err != nil {
		f.Close()
		if errors.Is(err, ErrInUse) {
			return nil, fmt.Errorf("image `%s` %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("image `%s`: %w", path, err)
	}
	i.imageBytes = c
	i.length.Store(c.size)
	return i, nil
}

// maxImage is how large an image can be that is not raw, in bytes.
const maxImage = 1 << 50

// readAt fills p. Where an image has become shorter than it was there is no content.
func (i *imageFile) readAt(p []byte, off int64) error {
	n, err := i.ReadAt(p, off)
	if err == io.EOF {
		// The last sector may be a part in the file; anything else that is
		// missing was cut off while we use it.
		if length := i.length.Load(); off+int64(n) < length && n < len(p) {
			return fmt.Errorf("the image has shrunk to %d bytes", off+int64(n))
		}
		clear(p[n:])
		err = nil
	}
	return err
}

func (i *imageFile) retain() { i.refs.Add(1) }

func (i *imageFile) release() error {
	if i.refs.Add(-1) > 0 {
		return nil
	}
	err := i.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if lockErr := i.lock.Close(); !errors.Is(lockErr, os.ErrClosed) {
		err = errors.Join(err, lockErr)
	}
	return err
}

// rawBytes are a raw image.
type rawBytes struct{ *os.File }

func (f rawBytes) zero(off, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err != unix.EOPNOTSUPP {
		return err
	}
	blank := make([]byte, min(n, 1<<20))
	for n > 0 {
		k := min(n, int64(len(blank)))
		if _, err := f.WriteAt(blank[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

func (f rawBytes) hole(off, limit int64) (bool, int64) {
	data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return true, limit
	}
	if err != nil {
		return false, limit
	}
	if data > off {
		return true, min(limit, data-off)
	}
	end, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
	if err != nil || end <= off {
		return false, limit
	}
	return false, min(limit, end-off)
}

func (f rawBytes) flush() error { return nil } // who reads the file sees it

func (f rawBytes) resize(size int64) error { return f.Truncate(size) }

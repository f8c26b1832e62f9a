package blockdev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"provium/internal/nbd"
)

// imageBytes are the contents of an image: its file, or a program that knows its
// format.
type imageBytes interface {
	io.ReaderAt
	io.WriterAt
	Zero(off, n int64) error
	Hole(off, limit int64) (bool, int64)
	Flush() error // returns when the image's file has what was written
	resize(size int64) error
	Close() error
}

// imageFile is an open image. As a source it must not be written to.
type imageFile struct {
	imageBytes
	lock   *os.File     // the image's file, locked
	length atomic.Int64 // expected, of the contents; up to a sector less than the disk
	refs   atomic.Int32
}

// openImage opens an image, for writing exclusively. Without conn it is raw; else conn
// serves its contents.
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
	c, err := nbd.NewClient(conn)
	if err == nil && (c.Size() <= 0 || c.Size() > maxImage) {
		err = errors.Join(fmt.Errorf("has %d bytes", c.Size()), c.Close())
	}
	if err != nil {
		f.Close()
		if errors.Is(err, ErrInUse) {
			return nil, fmt.Errorf("image `%s` %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("image `%s`: %w", path, err)
	}
	i.imageBytes = served{c}
	i.length.Store(c.Size())
	return i, nil
}

// maxImage is the largest image that is not raw, in bytes.
const maxImage = 1 << 50

// readAt fills p. It fails where an image has become shorter.
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

// zero, hole and flush are those of the contents.
func (i *imageFile) zero(off, n int64) error             { return i.Zero(off, n) }
func (i *imageFile) hole(off, limit int64) (bool, int64) { return i.Hole(off, limit) }
func (i *imageFile) flush() error                        { return i.Flush() }

// served are the contents of an image that another program serves.
type served struct{ *nbd.Client }

func (served) resize(int64) error {
	return errors.New("an image that is used in place can be resized if it is raw, and this one is not")
}

// rawBytes are the contents of a raw image.
type rawBytes struct{ *os.File }

func (f rawBytes) Zero(off, n int64) error {
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

func (f rawBytes) Hole(off, limit int64) (bool, int64) {
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

func (f rawBytes) Flush() error { return nil } // every reader of the file sees it

func (f rawBytes) resize(size int64) error { return f.Truncate(size) }

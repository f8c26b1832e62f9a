package userland

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// Contents are the contents of an image. It is safe for concurrent use.
type Contents struct {
	x *index

	mu   sync.Mutex
	open map[int64]*opened // by number of the source
}

// opened is a file of the host that is being read, or was lately.
type opened struct {
	source
	f    *os.File
	uses int
}

// maxOpen is how many files of the host are kept open.
const maxOpen = 64

// Open opens the image that an index describes.
func Open(path string) (*Contents, error) {
	x, err := openIndex(path)
	if err != nil {
		return nil, err
	}
	return &Contents{x: x, open: map[int64]*opened{}}, nil
}

// Size returns the size of the image in bytes.
func (c *Contents) Size() int64 { return c.x.Image }

// File is the index: two files with the same contents describe the same image.
func (c *Contents) File() *os.File { return c.x.f }

// Close closes the index and all files of the host. No read may be going on.
func (c *Contents) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := []error{c.x.f.Close()}
	for _, o := range c.open {
		errs = append(errs, o.f.Close())
	}
	clear(c.open)
	return errors.Join(errs...)
}

// ReadAt implements io.ReaderAt.
func (c *Contents) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d", off)
	}
	var end error
	if rest := max(c.x.Image-off, 0); int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	n := 0
	if off < c.x.Meta {
		k := int(min(int64(len(p)), c.x.Meta-off))
		if _, err := c.x.f.ReadAt(p[:k], erofs.BlockSize+off); err != nil {
			return 0, fmt.Errorf("userland index: %w", reason(err))
		}
		n = k
	}
	if n < len(p) {
		if err := c.readFiles(p[n:], off+int64(n)); err != nil {
			return n, err
		}
	}
	return len(p), end
}

// readFiles fills p with what lies behind the metadata.
func (c *Contents) readFiles(p []byte, off int64) error {
	clear(p)
	i, err := c.x.find(off)
	for ; err == nil && i < c.x.Extents; i++ {
		var e extent
		if e, err = c.x.extent(i); err != nil || e.at >= off+int64(len(p)) {
			break
		}
		from, to := max(e.at, off), min(e.at+e.size, off+int64(len(p)))
		err = c.readSource(e.source, p[from-off:to-off], e.offset+from-e.at)
	}
	return err
}

// readSource fills p from a file of the host.
func (c *Contents) readSource(i int64, p []byte, off int64) error {
	o, err := c.take(i)
	if err != nil {
		return err
	}
	defer c.put(i, o)
	_, err = o.f.ReadAt(p, off)
	// A change while it was read shows afterwards.
	if same := o.check(); same != nil || err != nil {
		return fmt.Errorf("userland: %w", errors.Join(same, err))
	}
	return nil
}

// check returns an error if the file has changed since it was looked at.
func (o *opened) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(o.f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", o.path, err)
	}
	if !o.isUnchanged(&st) {
		return fmt.Errorf("%s has changed since the run began", o.path)
	}
	return nil
}

// take opens a file of the host, or returns the one that is open.
func (c *Contents) take(i int64) (*opened, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.open[i]; o != nil {
		o.uses++
		return o, nil
	}
	s, err := c.x.source(i)
	if err != nil {
		return nil, fmt.Errorf("userland index: %w", err)
	}
	fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("userland: %s: %w", s.path, err)
	}
	o := &opened{s, os.NewFile(uintptr(fd), s.path), 1}
	if err := o.check(); err != nil {
		o.f.Close()
		return nil, fmt.Errorf("userland: %w", err)
	}
	c.open[i] = o
	return o, nil
}

// put ends a use of a file, and closes one that nobody uses where too many are open.
func (c *Contents) put(i int64, o *opened) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.uses--
	if len(c.open) <= maxOpen {
		return
	}
	for k, other := range c.open {
		if other.uses == 0 {
			_ = other.f.Close() // it was only read
			delete(c.open, k)
			return
		}
	}
}

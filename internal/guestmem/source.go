package guestmem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// PageSize is the size of the smallest page, in bytes.
const PageSize = 4096

// Source is the physical memory of a guest.
type Source interface {
	io.ReaderAt // at physical addresses
	// Scan calls visit for runs of whole pages that may hold something, at their physical
	// addresses. p is valid during the call. It returns the first error of visit.
	Scan(ctx context.Context, visit func(at int64, p []byte) error) error
}

// errHole is returned for addresses at which the guest has no memory.
var errHole = errors.New("no memory at this address")

// HighAt is the physical address at which the memory goes on that does not fit below the
// devices.
const HighAt = 4 << 30

// Layout says where memory of Size bytes lies: Low bytes from address Base on, the rest from
// HighAt on.
type Layout struct{ Base, Low, Size int64 }

// Offset returns where in the memory the byte of a physical address is, and how many bytes
// follow it without a gap.
func (l Layout) Offset(address int64) (offset, run int64, ok bool) {
	switch low := min(l.Low, l.Size); {
	case address < l.Base:
		return 0, 0, false
	case address-l.Base < low:
		return address - l.Base, low - (address - l.Base), true
	case address >= HighAt && address-HighAt < l.Size-low:
		offset = address - HighAt + low
		return offset, l.Size - offset, true
	}
	return 0, 0, false
}

// Address is the inverse of Offset, for offsets within the memory.
func (l Layout) Address(offset int64) int64 {
	if low := min(l.Low, l.Size); offset >= low {
		return offset - low + HighAt
	}
	return l.Base + offset
}

// ReadAt reads p from the physical address by read, which reads at offsets. It fails at the
// first byte that is not in the memory.
func (l Layout) ReadAt(p []byte, address int64, read func(p []byte, offset int64) (int, error)) (n int, err error) {
	for n < len(p) {
		offset, run, ok := l.Offset(address + int64(n))
		if !ok {
			return n, fmt.Errorf("%#x: %w", address+int64(n), errHole)
		}
		m, err := read(p[n:n+int(min(run, int64(len(p)-n)))], offset)
		n += m
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.ErrUnexpectedEOF
		}
	}
	return n, nil
}

// File is a Source in a file, such as the memory of a guest that nothing else has mapped
// privately. The parts of the file that were never written are not scanned.
type File struct {
	F      *os.File
	Layout Layout
}

// ReadAt implements Source.
func (f *File) ReadAt(p []byte, address int64) (int, error) {
	return f.Layout.ReadAt(p, address, f.F.ReadAt)
}

// scanChunk is how much is read at once, in bytes.
const scanChunk = 1 << 20

// Scan implements Source.
func (f *File) Scan(ctx context.Context, visit func(at int64, p []byte) error) error {
	buf := make([]byte, scanChunk)
	return f.extents(func(from, to int64) error {
		for at := from; at < to; {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			n := min(scanChunk, to-at)
			if low := f.Layout.Low; at < low {
				n = min(n, low-at)
			}
			if _, err := f.F.ReadAt(buf[:n], at); err != nil {
				return err
			}
			if err := visit(f.Layout.Address(at), buf[:n]); err != nil {
				return err
			}
			at += n
		}
		return nil
	})
}

// extents calls visit for the parts of the file that hold data, in whole pages.
func (f *File) extents(visit func(from, to int64) error) error {
	for at := int64(0); at < f.Layout.Size; {
		from, err := f.seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		to, err := f.seek(from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		from, to = from/PageSize*PageSize, min(to, f.Layout.Size)/PageSize*PageSize
		if from >= f.Layout.Size || to <= at {
			return nil
		}
		if err := visit(from, to); err != nil {
			return err
		}
		at = to
	}
	return nil
}

func (f *File) seek(at int64, whence int) (int64, error) {
	for {
		n, err := unix.Seek(int(f.F.Fd()), at, whence)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

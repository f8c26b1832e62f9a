package nbd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Backend is a disk, as one client uses it. Ranges are in bytes, consist of whole
// blocks and lie within Size. Serve may call its methods from several goroutines.
//
// Errors that wrap ErrReadOnly, ErrClosed or syscall.ENOSPC reach the client as
// EPERM, ESHUTDOWN and ENOSPC, all others as EIO.
type Backend interface {
	Size() int64
	ReadOnly() bool
	// Delays reports whether requests may be held back on purpose, so that each of
	// them needs a goroutine of its own.
	Delays() bool
	Read(ctx context.Context, p []byte, off int64) error
	// Write writes p; with fua it returns once p is permanent.
	Write(ctx context.Context, p []byte, off int64, fua bool) error
	// Zero writes zeroes, and is also called for a discard.
	Zero(ctx context.Context, off, n int64, fua bool) error
	Flush(ctx context.Context) error
	// Hole reports whether off is known to read as zeroes, and for how many of at
	// most limit bytes the answer holds.
	Hole(off, limit int64) (bool, int64)
}

// DirectBackend is a Backend that can take data from the client's socket and send
// data from files, without a buffer between. Serve uses it on unix sockets.
type DirectBackend interface {
	Backend
	// Takes reports whether Receive should be called for a write, instead of Write.
	Takes(off, n int64) bool
	// Receive is Write with data that the client is still sending. It may return
	// before it took all of them.
	Receive(ctx context.Context, in *Incoming, off, n int64, fua bool) error
	// Extents is Read for a reply that is sent piece by piece. The caller releases
	// the extents. If the range is not in a few files, it returns its data as p
	// instead.
	Extents(ctx context.Context, off, n int64) (x Extents, p []byte, err error)
}

// Errors of a Backend that have a number of their own in the protocol.
var (
	ErrReadOnly = errors.New("disk is read-only")
	ErrClosed   = errors.New("disk is closed")
)

// ErrGone is returned by Incoming.Receive when the client has hung up in the middle
// of its data.
var ErrGone = errors.New("the client is gone")

// Incoming is the data of a write that the client is still sending.
type Incoming struct {
	sock *socket
	left int
}

// Receive fills p with the next bytes, and returns how many were stored. p may be
// memory that cannot be accessed: the error is unix.EFAULT then, and what was not
// stored can be received again.
func (in *Incoming) Receive(p []byte) (int, error) {
	n, err := in.sock.receive(p)
	in.left -= n
	if err != nil && err != unix.EFAULT {
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	return n, err
}

// Left returns how many bytes were not received yet.
func (in *Incoming) Left() int { return in.left }

// skip receives and drops what is left.
func (in *Incoming) skip() error {
	if in.left == 0 {
		return nil
	}
	_, err := in.Receive(make([]byte, in.left))
	return err
}

// Extent is a piece of the data of a read: a part of a file, or zeroes.
type Extent struct {
	Len  int64
	File *os.File // nil for zeroes
	At   int64    // offset in File
	Hold Holder   // keeps File open; nil for zeroes
}

// Holder is what keeps the file of an Extent open until Release is called.
type Holder interface{ Release() error }

// Extents are the pieces of a read, in order.
type Extents []Extent

// Release releases the files of all extents.
func (x Extents) Release() {
	for _, e := range x {
		if e.Hold != nil {
			_ = e.Hold.Release() // it was only read
		}
	}
}

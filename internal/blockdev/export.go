package blockdev

import (
	"context"
	"net"

	"provium/internal/blockdev/fault"
	"provium/internal/nbd"
)

// export is a disk as one client uses it. It implements nbd.DirectBackend.
type export struct {
	*Disk
	epoch int64 // of the disk when the client connected, see Retire
}

var _ nbd.DirectBackend = (*export)(nil)

// Serve serves the disk to one client. It returns when the client is gone or breaks
// the protocol, or when ctx ends. It closes conn. Several clients may be served at
// once.
func (d *Disk) Serve(ctx context.Context, conn net.Conn) error {
	return nbd.Serve(ctx, conn, d.export())
}

// Resume is Serve for a client that has made the handshake on another connection to an equal disk.
func (d *Disk) Resume(ctx context.Context, conn net.Conn) error {
	return nbd.Resume(ctx, conn, d.export())
}

// export returns the disk for a client that connects now.
func (d *Disk) export() *export { return &export{d, d.epoch.Load()} }

// current reports whether the client's requests count as the guest's.
func (e *export) current() bool { return e.epoch >= e.valid.Load() }

// counted counts a request, and returns an error if CountRequests lets it fail.
func (e *export) counted(op fault.Op, off, n int64) error {
	if !e.current() {
		return nil
	}
	return e.noteRequest(op, off, n)
}

// Delays reports whether a fault delays requests.
func (e *export) Delays() bool { return e.faults.Delays() }

// Read reads what the guest sees.
func (e *export) Read(ctx context.Context, p []byte, off int64) error {
	if err := e.counted(fault.Read, off, int64(len(p))); err != nil {
		return err
	}
	return e.guestRead(ctx, p, off)
}

// Extents is Read for a client that can be sent pieces of files.
func (e *export) Extents(ctx context.Context, off, n int64) (nbd.Extents, []byte, error) {
	if err := e.counted(fault.Read, off, n); err != nil {
		return nil, nil, err
	}
	return e.guestExtents(ctx, off, n)
}

// Write writes to the cache, and with fua to the medium.
func (e *export) Write(ctx context.Context, p []byte, off int64, fua bool) error {
	if err := e.counted(fault.Write, off, int64(len(p))); err != nil {
		return err
	}
	return e.guestWrite(ctx, p, off, fua)
}

// Takes reports whether Receive is faster than Write.
func (e *export) Takes(off, n int64) bool { return e.takes(off, n) }

// Receive is Write for data that the client is still sending.
func (e *export) Receive(ctx context.Context, in *nbd.Incoming, off, n int64, fua bool) error {
	if err := e.counted(fault.Write, off, n); err != nil {
		return err
	}
	return e.guestReceive(ctx, in, off, n, fua)
}

// Zero writes zeroes to the cache, and with fua to the medium.
func (e *export) Zero(ctx context.Context, off, n int64, fua bool) error {
	if err := e.counted(fault.Discard, off, n); err != nil {
		return err
	}
	return e.guestZero(ctx, off, n, fua)
}

// Flush writes the cache to the medium, if it is the guest who asks.
func (e *export) Flush(ctx context.Context) error {
	if !e.current() {
		return nil
	}
	if err := e.counted(fault.Flush, 0, 0); err != nil {
		return err
	}
	return e.guestFlush(ctx)
}

// Hole reports whether the guest sees zeroes at off.
func (e *export) Hole(off, limit int64) (bool, int64) { return e.hole(off, limit) }

package nbd

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// directBytes is from where on the data of a read are worth a way of their own.
const directBytes = 64 << 10

// incoming are the data of a write that the client is still sending; left is how
// many bytes nobody has taken.
type incoming struct {
	sock *socket
	left int
}

// errGone is a client that went in the middle of its data: nobody's trouble.
var errGone = errors.New("the client is gone")

// receive takes the next len(p) bytes, see socket.
func (in *incoming) receive(p []byte) (int, error) {
	n, err := in.sock.receive(p)
	in.left -= n
	if err != nil && err != unix.EFAULT {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	return n, err
}

// skip takes what is left.
func (in *incoming) skip() error {
	if in.left == 0 {
		return nil
	}
	_, err := in.receive(make([]byte, in.left))
	return err
}

// takes tells whether guestReceive is the way for a write.
func (d *Disk) takes(off, n int64) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return n >= pageBytes && d.cache.own != 0 && d.cache.file(d.cache.own).has(off, n)
}

// guestReceive is guestWrite for data that are to go from the client right into
// the cache's file. The disk waits for the rest of them: the client is in the
// middle of sending, and nothing that it could wait for meanwhile waits for the
// disk. What it leaves of the data after an error is the caller's to skip.
func (d *Disk) guestReceive(ctx context.Context, in *incoming, off, n int64, fua bool) error {
	fua = fua && !d.faults.liesAboutFlush()
	return d.change(ctx, request{opWrite, off, n, true}, fua, func(e deed, r request) error {
		if e.effect == "" {
			if mem := d.cache.memory(off, n); mem != nil {
				return d.take(in, mem, off, fua)
			}
		}
		p := make([]byte, n)
		if _, err := in.receive(p); err != nil {
			return err
		}
		return d.put(p[:r.n], e, r.off, fua)
	})
}

// take writes to the cache what the client sends; mem is where. Held: d.mu.
func (d *Disk) take(in *incoming, mem []byte, off int64, fua bool) error {
	n := int64(len(mem))
	if err := d.unflushed.note(d.cache, d.cfg.TempDir, off, n, fua); err != nil {
		return err
	}
	k, err := in.receive(mem)
	if err == unix.EFAULT { // a page that cannot be had: a write tells why
		rest := make([]byte, in.left)
		if _, err = in.receive(rest); err == nil {
			err = d.cache.store(rest, off+int64(k))
		}
	}
	if err != nil {
		d.unflushed.dropLast()
		return err
	}
	d.spent += n
	d.cache.table.set(off/SectorSize, n/SectorSize, d.cache.own)
	if d.recording != nil {
		d.recording.write(off/SectorSize, n/SectorSize, fileSource(d.cache.file(d.cache.own), off), fua)
	}
	return nil
}

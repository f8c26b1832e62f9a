package blockdev

import (
	"context"

	"golang.org/x/sys/unix"

	"provium/internal/blockdev/fault"
	"provium/internal/nbd"
)

// takes reports whether a write should go through guestReceive: the cache's file has
// all its pages already.
func (d *Disk) takes(off, n int64) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return n >= pageBytes && d.cache.own != 0 && d.cache.file(d.cache.own).has(off, n)
}

// guestReceive is guestWrite for data that go from the client's socket into the
// mapped pages of the cache's file. The disk stays locked until all data came: the
// client is in the middle of sending, and waits for nothing that needs the disk.
// After an error the caller skips the rest of the data.
func (d *Disk) guestReceive(ctx context.Context, in *nbd.Incoming, off, n int64, fua bool) error {
	fua = fua && !d.faults.LosesFUA()
	return d.change(ctx, fault.Request{Op: fault.Write, Off: off, N: n, Guest: true}, fua,
		func(e fault.Deed, r fault.Request) error {
			if e.Effect == "" {
				if mem := d.cache.memory(off, n); mem != nil {
					return d.take(in, mem, off, fua)
				}
			}
			p := make([]byte, n)
			if _, err := in.Receive(p); err != nil {
				return err
			}
			return d.put(p[:r.N], e, r.Off, fua)
		})
}

// take receives data into mem, which is the memory of the cache's file for off. The
// caller must hold d.mu.
func (d *Disk) take(in *nbd.Incoming, mem []byte, off int64, fua bool) error {
	n := int64(len(mem))
	if err := d.unflushed.note(d.cache, d.cfg.TempDir, off, n, fua); err != nil {
		return err
	}
	k, err := in.Receive(mem)
	if err == unix.EFAULT { // the page cannot be allocated: a write returns the reason
		rest := make([]byte, in.Left())
		if _, err = in.Receive(rest); err == nil {
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

package disk

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"provium/internal/blockdev"
	"provium/internal/qemu"
)

// Drives are the disks of a machine that is about to be restored. They must be
// closed, or given to a Shelf.
type Drives []*drive

type drive struct {
	saved  *planned
	data   *blockdev.Disk
	server *server
	warn   *lateWarn
}

// lateWarn passes errors on to the VM that has the disk, once there is one.
type lateWarn struct {
	mu sync.Mutex
	to func(error)
}

func (t *lateWarn) call(err error) {
	t.mu.Lock()
	to := t.to
	t.mu.Unlock()
	if to != nil {
		to(err)
	}
}

func (t *lateWarn) set(to func(error)) {
	t.mu.Lock()
	t.to = to
	t.mu.Unlock()
}

// OpenDrives makes private copies of the disks of a plan, with sockets in dir.
func (e *Env) OpenDrives(plan Plan, dir string) (drives Drives, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, drives.Close())
			drives = nil
		}
	}()
	for i := range plan {
		p := &plan[i]
		d := &drive{saved: p, warn: &lateWarn{}}
		d.data, err = blockdev.Open(blockdev.Config{From: p.image, ReadOnly: p.spec.ReadOnly, TempDir: e.TempDir, OnError: d.warn.call})
		if err != nil {
			return drives, fmt.Errorf("disk `%s`: %w", p.spec.ID, err)
		}
		drives = append(drives, d)
		d.server, err = serve(d.data, fmt.Sprintf("%s/drive%d", dir, e.NextSocket()), d.warn.call)
		if err != nil {
			return drives, fmt.Errorf("disk `%s`: %w", p.spec.ID, err)
		}
	}
	return drives, nil
}

// Close closes the copies, of which nobody has seen anything.
func (drives Drives) Close() error {
	var errs []error
	for _, d := range drives {
		if d.server != nil {
			d.server.close()
		}
		errs = append(errs, d.data.Close())
	}
	return errors.Join(errs...)
}

// arm installs the faults of the saved disks.
func (drives Drives) arm() {
	for _, d := range drives {
		d.data.Arm(d.saved.state)
	}
}

// Connect completes the description of a machine's disks with its drives.
func (drives Drives) Connect(cfg *qemu.Config) {
	cfg.Disks = slices.Clone(cfg.Disks)
	for i, d := range drives {
		cfg.Disks[i].Socket = d.server.socket
	}
	// Faults are for the guest, which goes on after that.
	check := cfg.Restore.Check
	restore := *cfg.Restore
	restore.Check = func(version string) error {
		if check != nil {
			if err := check(version); err != nil {
				return err
			}
		}
		drives.arm()
		return nil
	}
	cfg.Restore = &restore
}

// HoldFlushes is that of a Shelf.
func (drives Drives) HoldFlushes() {
	for _, d := range drives {
		d.data.HoldFlushes()
	}
}

// IgnoreFlushes is that of a Shelf.
func (drives Drives) IgnoreFlushes() {
	for _, d := range drives {
		d.data.IgnoreFlushes()
	}
}

// ObeyFlushes is that of a Shelf. It stops at the first error.
func (drives Drives) ObeyFlushes() error {
	for _, d := range drives {
		if err := d.data.ObeyFlushes(); err != nil {
			return err
		}
	}
	return nil
}

// Take makes the disks of a restored machine the VM's, in place of those it had. The
// handle of a disk with the same id stays valid. declared are the specs that a later
// boot declares again.
func (s *Shelf) Take(drives Drives, declared []Spec) error {
	s.mu.Lock()
	before := s.list
	s.list = nil
	var errs []error
	for _, d := range drives {
		var disk *Disk
		if i := slices.IndexFunc(before, func(o *Disk) bool { return o.id == d.saved.spec.ID }); i >= 0 {
			disk = before[i]
			before = slices.Delete(slices.Clone(before), i, i+1)
		} else {
			disk = &Disk{env: s.env, owner: s.owner, id: d.saved.spec.ID}
		}
		errs = append(errs, disk.become(d))
		s.list = append(s.list, disk)
	}
	for _, spec := range declared {
		s.declared[spec.ID] = spec
	}
	for _, d := range s.list {
		s.declared[d.spec.ID] = d.spec
	}
	s.mu.Unlock()
	for _, d := range before {
		errs = append(errs, d.Close(false))
	}
	return errors.Join(errs...)
}

// become replaces what the disk is made of by a restored drive.
func (d *Disk) become(from *drive) error {
	d.mu.Lock()
	server, data, recordings := d.server, d.data, d.recordings
	d.spec, d.slot, d.node, d.data, d.server, d.recordings = from.saved.spec, from.saved.slot, 0, from.data, from.server, nil
	d.mu.Unlock()
	from.warn.set(d.warn)
	return closeParts(d.spec.ID, server, data, recordings, false)
}

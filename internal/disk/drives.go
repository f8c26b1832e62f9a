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
func (e *Env) OpenDrives(plan Plan, dir string) (Drives, error) {
	var drives Drives
	for i := range plan {
		d, err := e.openDrive(&plan[i], dir)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("disk `%s`: %w", plan[i].spec.ID, err), drives.Close())
		}
		drives = append(drives, d)
	}
	return drives, nil
}

func (e *Env) openDrive(p *planned, dir string) (*drive, error) {
	d := &drive{saved: p, warn: &lateWarn{}}
	var err error
	d.data, err = blockdev.Open(blockdev.Config{From: p.image, ReadOnly: p.spec.ReadOnly,
		TempDir: e.TempDir, OnError: d.warn.call})
	if err != nil {
		return nil, err
	}
	d.server, err = serve(d.data, fmt.Sprintf("%s/drive%d", dir, e.NextSocket()), d.warn.call)
	if err != nil {
		return nil, errors.Join(err, d.data.Close())
	}
	return d, nil
}

// Close closes copies that no Shelf has taken.
func (drives Drives) Close() error {
	var errs []error
	for _, d := range drives {
		d.server.close()
		errs = append(errs, d.data.Close())
	}
	return errors.Join(errs...)
}

// Connect completes the description of a machine whose disks are Plan.Devices: it sets
// their sockets. It also has the faults of the disks installed when the state is loaded:
// QEMU has opened the disks by then, and no fault must meet those reads.
func (drives Drives) Connect(cfg *qemu.Config) {
	cfg.Disks = slices.Clone(cfg.Disks)
	for i, d := range drives {
		cfg.Disks[i].Socket, cfg.Disks[i].Resume = d.server.socket, d.server.resume
	}
	restore := *cfg.Restore
	restore.Loaded = func() {
		for _, d := range drives {
			d.data.Arm(d.saved.state)
		}
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
	s.opening.Lock()
	defer s.opening.Unlock()
	before := s.All()
	var list []*Disk
	var errs []error
	for _, from := range drives {
		from.data.BeforeFlush(s.flushes)
		i := slices.IndexFunc(before, func(o *Disk) bool { return o.id == from.saved.spec.ID })
		if i < 0 {
			list = append(list, from.disk(s))
			continue
		}
		list = append(list, before[i])
		errs = append(errs, before[i].become(from))
		before = slices.Delete(before, i, i+1)
	}
	s.mu.Lock()
	s.list = list
	for _, spec := range declared {
		s.declared[spec.ID] = spec
	}
	for _, from := range drives {
		s.declared[from.saved.spec.ID] = from.saved.spec
	}
	s.mu.Unlock()
	for _, d := range before {
		errs = append(errs, d.Close(false))
	}
	return errors.Join(errs...)
}

// disk returns a new disk of the shelf's VM that is made of the drive.
func (from *drive) disk(s *Shelf) *Disk {
	d := &Disk{env: s.env, owner: s.owner, id: from.saved.spec.ID,
		spec: from.saved.spec, slot: from.saved.slot, data: from.data, server: from.server}
	from.warn.set(d.warn)
	d.env.watch(d, from.data)
	return d
}

// become replaces what the disk is made of by a restored drive.
func (d *Disk) become(from *drive) error {
	d.mu.Lock()
	server, data, recordings := d.server, d.data, d.recordings
	d.spec, d.slot, d.node = from.saved.spec, from.saved.slot, 0
	d.data, d.server, d.recordings = from.data, from.server, nil
	d.mu.Unlock()
	from.warn.set(d.warn)
	d.env.watch(d, from.data)
	return closeParts(d.id, server, data, recordings, false)
}

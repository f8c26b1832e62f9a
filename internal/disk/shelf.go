package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"provium/internal/qemu"
)

// Shelf holds the disks of a VM. They outlive its guests. It is safe for concurrent
// use.
type Shelf struct {
	env   *Env
	owner Owner

	opening sync.Mutex // held while the list changes, which may take long; taken before mu

	mu       sync.Mutex
	list     []*Disk         // in the order they were attached
	declared map[string]Spec // by id: opened already, perhaps detached since

	beforeFlush atomic.Pointer[func()]
}

// NewShelf creates the empty shelf of a VM.
func NewShelf(env *Env, owner Owner) *Shelf {
	return &Shelf{env: env, owner: owner, declared: map[string]Spec{}}
}

// All returns the disks in the order they were attached.
func (s *Shelf) All() []*Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// Find returns the disk of an id, or an error that lists the ids there are.
func (s *Shelf) Find(id string) (*Disk, error) {
	all := s.All()
	ids := make([]string, len(all))
	for i, d := range all {
		if d.id == id {
			return d, nil
		}
		ids[i] = d.id
	}
	known := "it has none; vm:attach_disk() attaches one"
	if len(ids) > 0 {
		known = "attached: " + strings.Join(ids, ", ")
	}
	return nil, fmt.Errorf("no disk `%s` attached to vm `%s` (%s)", id, s.owner.Name(), known)
}

// fits returns an error if no disk of that id can be added.
func (s *Shelf) fits(id string) error {
	list := s.All()
	if len(list) == qemu.DiskSlots {
		return fmt.Errorf("vm `%s` has %d disks, more are not possible", s.owner.Name(), len(list))
	}
	for _, d := range list {
		switch {
		case d.id == id:
			return fmt.Errorf("vm `%s` has a disk `%s` already", s.owner.Name(), id)
		case Serial(d.id) == Serial(id):
			return fmt.Errorf("disk `%s` and disk `%s` of vm `%s` are alike in the first %d bytes, "+
				"which is all that the guest sees", id, d.id, s.owner.Name(), SerialSize)
		}
	}
	return nil
}

// Add opens a disk and puts it on the shelf.
func (s *Shelf) Add(ctx context.Context, spec Spec) (*Disk, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	return s.add(ctx, spec)
}

// add is Add. The caller must hold s.opening.
func (s *Shelf) add(ctx context.Context, spec Spec) (*Disk, error) {
	if err := s.fits(spec.ID); err != nil {
		return nil, err
	}
	d, err := open(ctx, s.env, s.owner, spec)
	if err != nil {
		return nil, err
	}
	d.data.BeforeFlush(s.flushes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, d)
	return d, nil
}

// Remove takes a disk from the shelf. The caller closes it.
func (s *Shelf) Remove(d *Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(o *Disk) bool { return o == d })
}

// Declare opens the disks of specs that were not opened yet. A disk is declared once:
// repeating it, with the opts of another boot, means the same disk.
func (s *Shelf) Declare(ctx context.Context, specs []Spec) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	for _, spec := range specs {
		s.mu.Lock()
		known, seen := s.declared[spec.ID]
		s.mu.Unlock()
		if seen && (known == spec || spec.Userland != "") {
			continue // a guest keeps its userland
		}
		if _, err := s.add(ctx, spec); err != nil {
			return err
		}
		s.mu.Lock()
		s.declared[spec.ID] = spec
		s.mu.Unlock()
	}
	return nil
}

// Devices powers the disks on and describes them to a machine that is about to
// start. Their sockets go to dir.
func (s *Shelf) Devices(dir string) ([]qemu.Disk, error) {
	var out []qemu.Disk
	for i, d := range s.All() {
		device, err := d.Device(dir, i+1)
		if err != nil {
			return nil, err
		}
		d.contents().PowerOn()
		if err := d.contents().ObeyFlushes(); err != nil {
			return nil, fmt.Errorf("disk `%s`: %w", d.id, err)
		}
		out = append(out, device)
	}
	return out, nil
}

// FreeSlot returns the slot behind those in use, so that names follow the order of
// attaching, or else the first free one. The slot of except counts as free.
func (s *Shelf) FreeSlot(except *Disk) int {
	used := map[int]bool{}
	last := 0
	for _, d := range s.All() {
		if d != except {
			slot := d.Slot()
			used[slot] = true
			last = max(last, slot)
		}
	}
	if last < qemu.DiskSlots {
		return last + 1
	}
	for slot := 1; ; slot++ {
		if !used[slot] {
			return slot
		}
	}
}

// BeforeFlush has f called before each flush of a disk, in place of what was set before.
func (s *Shelf) BeforeFlush(f func()) { s.beforeFlush.Store(&f) }

func (s *Shelf) flushes() {
	if f := s.beforeFlush.Load(); f != nil {
		(*f)()
	}
}

// HoldFlushes makes flushes wait: the machine is about to stop, and QEMU flushes its
// disks then. IgnoreFlushes or ObeyFlushes must follow.
func (s *Shelf) HoldFlushes() {
	for _, d := range s.All() {
		d.contents().HoldFlushes()
	}
}

// IgnoreFlushes acknowledges flushes without an effect: the machine stands still, and
// they are not its guest's.
func (s *Shelf) IgnoreFlushes() {
	for _, d := range s.All() {
		d.IgnoreFlushes()
	}
}

// IgnoreFlushes acknowledges flushes of the disk without an effect, as those of a
// machine that stands still.
func (d *Disk) IgnoreFlushes() { d.contents().IgnoreFlushes() }

// ObeyFlushes ends HoldFlushes and IgnoreFlushes.
func (s *Shelf) ObeyFlushes() error {
	var errs []error
	for _, d := range s.All() {
		errs = append(errs, d.contents().ObeyFlushes())
	}
	return errors.Join(errs...)
}

// PowerOn makes the disks work again after a power cut: the machine was reset.
func (s *Shelf) PowerOn() {
	for _, d := range s.All() {
		d.contents().PowerOn()
	}
}

// Close closes all disks. What was not flushed is lost. The shelf can be used again.
func (s *Shelf) Close() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	list := s.list
	s.list, s.declared = nil, map[string]Spec{}
	s.mu.Unlock()
	var errs []error
	for _, d := range list {
		errs = append(errs, d.Close(false))
	}
	return errors.Join(errs...)
}

// Images returns the files of the host that the contents of the present disks came
// from. An image that the guest may write to is not among them.
func (s *Shelf) Images() []string {
	var out []string
	for _, d := range s.All() {
		spec := d.Spec()
		if path, writable := spec.image(); path != "" && !writable {
			out = append(out, path)
		}
	}
	return out
}

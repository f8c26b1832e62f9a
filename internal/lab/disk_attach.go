package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"provium/internal/guest"
	"provium/internal/qemu"
)

// plugTimeout is how long a guest may take to notice a disk, or to let one go.
const plugTimeout = 60 * time.Second

var errPlugTimeout = fmt.Errorf("the guest did not react within %v", plugTimeout)

// diskShelf holds the disks of a VM. They outlive its guests. Its zero value is
// empty.
type diskShelf struct {
	mu       sync.Mutex
	list     []*Disk             // in the order they were attached
	declared map[string]DiskSpec // by id: opened already, perhaps detached since

	declaring sync.Mutex // held while declared disks are opened
}

func (s *diskShelf) all() []*Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// ids are the ids of the disks, in order.
func (s *diskShelf) ids() []string {
	var out []string
	for _, d := range s.all() {
		out = append(out, d.id)
	}
	return out
}

// fits checks that a disk can stand beside the others. Held: s.mu.
func (s *diskShelf) fits(v *VM, id string) error {
	if len(s.list) == qemu.DiskSlots {
		return fmt.Errorf("vm `%s` has %d disks, more are not possible", v.name, len(s.list))
	}
	for _, d := range s.list {
		switch {
		case d.id == id:
			return fmt.Errorf("vm `%s` has a disk `%s` already", v.name, id)
		case serialOf(d.id) == serialOf(id):
			return fmt.Errorf("disk `%s` and disk `%s` of vm `%s` are alike in the first %d bytes, which is all that the guest sees",
				id, d.id, v.name, serialSize)
		}
	}
	return nil
}

// add opens a disk and puts it on the shelf.
func (s *diskShelf) add(ctx context.Context, v *VM, spec DiskSpec) (*Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fits(v, spec.ID); err != nil {
		return nil, err
	}
	d, err := newDisk(ctx, v, spec)
	if err != nil {
		return nil, err
	}
	s.list = append(s.list, d)
	return d, nil
}

func (s *diskShelf) remove(d *Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(o *Disk) bool { return o == d })
}

// declaredDisks are the disks of the profile and of boot opts, with their ids.
func (v *VM) declaredDisks(opts *BootOpts) []DiskSpec {
	specs := slices.Clone(v.profile.Disks)
	if opts != nil {
		for i, spec := range opts.Disks {
			if spec.ID == "" {
				spec.ID = fmt.Sprintf("boot%d", i)
			}
			specs = append(specs, spec)
		}
	}
	return specs
}

// declareDisks opens the disks of the profile and of boot opts that were not opened
// yet. A disk is declared once: repeating it, with the opts of another boot, means
// the same disk.
func (v *VM) declareDisks(ctx context.Context, opts *BootOpts) error {
	specs := v.declaredDisks(opts)
	s := &v.disks
	s.declaring.Lock()
	defer s.declaring.Unlock()
	for _, spec := range specs {
		s.mu.Lock()
		known, seen := s.declared[spec.ID]
		s.mu.Unlock()
		if seen && known == spec {
			continue
		}
		if _, err := s.add(ctx, v, spec); err != nil {
			return err
		}
		s.mu.Lock()
		if s.declared == nil {
			s.declared = map[string]DiskSpec{}
		}
		s.declared[spec.ID] = spec
		s.mu.Unlock()
	}
	return nil
}

// diskDevices are the disks of a machine that is about to start.
func (v *VM) diskDevices() ([]qemu.Disk, error) {
	var out []qemu.Disk
	for i, d := range v.disks.all() {
		device, err := d.device(i + 1)
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

// closeDisks ends all disks with their VM.
func (v *VM) closeDisks() error {
	var errs []error
	for _, d := range v.disks.all() {
		errs = append(errs, d.close(false))
		v.disks.remove(d)
	}
	v.disks.mu.Lock()
	v.disks.declared = nil
	v.disks.mu.Unlock()
	return errors.Join(errs...)
}

// Disk finds a disk by its id.
func (v *VM) Disk(ctx context.Context, id string) (*Disk, error) {
	v.mu.Lock()
	state := v.state
	v.mu.Unlock()
	if state == Created {
		// Disks are there before the boot, and a test may prepare them.
		if err := v.declareDisks(ctx, v.opts); err != nil {
			return nil, err
		}
	}
	for _, d := range v.disks.all() {
		if d.id == id {
			return d, nil
		}
	}
	known := "it has none; vm:attach_disk() attaches one"
	if ids := v.disks.ids(); len(ids) > 0 {
		known = "attached: " + strings.Join(ids, ", ")
	}
	return nil, fmt.Errorf("no disk `%s` attached to vm `%s` (%s)", id, v.name, known)
}

// AttachDisk gives the VM one more disk: from its next boot on or, when it has a
// guest, at once. It returns when a guest that runs has it.
func (v *VM) AttachDisk(ctx context.Context, spec DiskSpec) (*Disk, error) {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	v.mu.Lock()
	state, inst := v.state, v.inst
	if state == Dead {
		defer v.mu.Unlock()
		return nil, v.stateErrorLocked("attach_disk", Booted)
	}
	v.mu.Unlock()
	if state == Created {
		if err := v.declareDisks(ctx, v.opts); err != nil {
			return nil, err
		}
	}
	d, err := v.disks.add(ctx, v, spec)
	if err != nil || inst == nil {
		return d, err
	}
	if err := v.plug(ctx, inst, d, state == Booted); err != nil {
		v.disks.remove(d)
		return nil, errors.Join(err, d.close(false))
	}
	return d, nil
}

func (v *VM) plug(ctx context.Context, inst *instance, d *Disk, runs bool) error {
	device, err := d.device(v.freeSlot(d))
	if err != nil {
		return err
	}
	if !runs {
		d.contents().IgnoreFlushes()
	}
	if err := inst.machine.PlugDisk(ctx, device); err != nil {
		return fmt.Errorf("disk `%s`: %w", d.id, err)
	}
	if !runs {
		return nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, plugTimeout, errPlugTimeout)
	defer cancel()
	err = v.guestOp(limited, "attach_disk", func(c *guest.Client) error { return c.AwaitDisk(limited, device.Serial, false) })
	if err != nil {
		// Its slot stays taken in this guest, as far as anybody knows.
		return fmt.Errorf("disk `%s`: %w", d.id, err)
	}
	return nil
}

// freeSlot is the slot behind those in use, so that names follow the order of
// attaching, or else the first free one.
func (v *VM) freeSlot(but *Disk) int {
	used := map[int]bool{}
	last := 0
	for _, d := range v.disks.all() {
		if d != but {
			d.mu.Lock()
			used[d.slot] = true
			last = max(last, d.slot)
			d.mu.Unlock()
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

// Detach takes the disk from its VM: a guest that runs is asked to let it go.
// Repeating it does nothing.
func (d *Disk) Detach(ctx context.Context) error {
	v := d.vm
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	if d.IsDetached() {
		return nil
	}
	v.mu.Lock()
	state, inst := v.state, v.inst
	if state == Paused {
		defer v.mu.Unlock()
		return v.stateErrorLocked("detach", Booted)
	}
	v.mu.Unlock()
	if state == Booted && inst != nil {
		if err := d.unplug(ctx, inst); err != nil {
			return fmt.Errorf("disk `%s`: %w", d.id, err)
		}
	}
	v.disks.remove(d)
	return d.close(true)
}

func (d *Disk) unplug(ctx context.Context, inst *instance) error {
	d.mu.Lock()
	device := qemu.Disk{Slot: d.slot, Node: d.node}
	d.mu.Unlock()
	limited, cancel := context.WithTimeoutCause(ctx, plugTimeout, errPlugTimeout)
	defer cancel()
	if err := inst.machine.UnplugDisk(limited, device); err != nil {
		return err
	}
	return d.vm.guestOp(limited, "detach", func(c *guest.Client) error { return c.AwaitDisk(limited, serialOf(d.id), true) })
}

// stopMachine stops the vCPUs. QEMU flushes its disks then, which must not make
// permanent what the guest has not flushed.
func (i *instance) stopMachine(ctx context.Context) error {
	disks := i.vm.disks.all()
	for _, d := range disks {
		d.contents().HoldFlushes()
	}
	if err := i.machine.Stop(ctx); err != nil {
		return errors.Join(err, obeyFlushes(disks))
	}
	for _, d := range disks {
		d.contents().IgnoreFlushes()
	}
	return nil
}

// contMachine has the vCPUs go on.
func (i *instance) contMachine(ctx context.Context) error {
	if err := obeyFlushes(i.vm.disks.all()); err != nil {
		return err
	}
	return i.machine.Cont(ctx)
}

func obeyFlushes(disks []*Disk) error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.contents().ObeyFlushes())
	}
	return errors.Join(errs...)
}

// powerDisksOn has disks work again after a power cut: the machine was reset.
func (v *VM) powerDisksOn() {
	for _, d := range v.disks.all() {
		d.contents().PowerOn()
	}
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"provium/internal/disk"
	"provium/internal/guest"
	"provium/internal/image"
	"provium/internal/topology"
)

// plugTimeout is how long a guest may take to notice a disk, or to release one.
const plugTimeout = 60 * time.Second

// VMOf returns the VM that a disk belongs, or belonged, to.
func VMOf(d *disk.Disk) *VM { return d.Owner().(*VM) }

// diskEnv returns what the disks of all VMs of the host share.
func (h *Host) diskEnv() *disk.Env {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.disks == nil {
		h.disks = &disk.Env{TempDir: h.TempDir, Starter: h.Starter, Seed: h.Seed, Warn: h.warn,
			NextSocket: h.nextSocket,
			Fault:      func(d *disk.Disk, met disk.Fault) { VMOf(d).news.Fault(d.ID(), met) },
			Digest:     func(names ...string) [32]byte { return digest(append([]string{h.File}, names...)...) }}
	}
	return h.disks
}

// declaredDisks returns the disks of the profile and of boot opts, with their ids.
func (v *VM) declaredDisks(opts *topology.BootOpts) []disk.Spec {
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
// yet.
func (v *VM) declareDisks(ctx context.Context, opts *topology.BootOpts) error {
	specs, img := v.declaredDisks(opts), (*image.Image)(nil)
	if v.profile.Image.HasUserland() && !v.host.Local {
		var err error
		if img, err = v.host.image(ctx, v.profile, ""); err != nil {
			return err
		}
		specs = append(specs, disk.Spec{ID: image.UserlandDisk, Userland: img.Userland.Index, ReadOnly: true})
	}
	return v.disks.Declare(ctx, specs)
}

// Disks returns the attached disks in the order of attaching.
func (v *VM) Disks() []*disk.Disk { return v.disks.All() }

// Disk returns the disk of an id.
func (v *VM) Disk(ctx context.Context, id string) (*disk.Disk, error) {
	if v.State() == topology.Created {
		// Disks are there before the boot, and a test may prepare them.
		if err := v.declareDisks(ctx, v.opts); err != nil {
			return nil, err
		}
	}
	return v.disks.Find(id)
}

// AttachDisk adds a disk to the VM: at once when it has a guest, else from its next boot
// on. A running guest has noticed the disk when AttachDisk returns.
func (v *VM) AttachDisk(ctx context.Context, spec disk.Spec) (*disk.Disk, error) {
	return v.AttachFilled(ctx, spec, func(*disk.Disk) error { return nil })
}

// AttachFilled is AttachDisk of a disk that fill writes to before the guest has it.
func (v *VM) AttachFilled(ctx context.Context, spec disk.Spec, fill disk.Content) (*disk.Disk, error) {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	state, inst, err := v.inState("attach_disk", topology.Booted,
		topology.Created, topology.Booted, topology.Paused, topology.Shutdown)
	if err != nil {
		return nil, err
	}
	if state == topology.Created {
		if err := v.declareDisks(ctx, v.opts); err != nil {
			return nil, err
		}
	}
	d, err := v.disks.Add(ctx, spec)
	if err != nil {
		return nil, err
	}
	err = fill(d)
	if err == nil && inst != nil {
		err = v.plug(ctx, inst, d, state == topology.Booted)
	}
	if err != nil {
		v.disks.Remove(d)
		return nil, errors.Join(err, d.Close(false))
	}
	return d, nil
}

// plug adds a disk to the machine and, when the guest is running, waits until that has
// noticed.
func (v *VM) plug(ctx context.Context, inst *guestRun, d *disk.Disk, runs bool) error {
	device, err := d.Device(v.dir, v.disks.FreeSlot(d))
	if err != nil {
		return err
	}
	if !runs {
		d.IgnoreFlushes()
	}
	if err := inst.machine.PlugDisk(ctx, device); err != nil {
		return fmt.Errorf("disk `%s`: %w", d.ID(), err)
	}
	if !runs {
		return nil
	}
	limited, cancel := inst.Limited(ctx, plugTimeout, "the guest's reaction")
	defer cancel()
	err = v.guestOp(limited, "attach_disk",
		func(c *guest.Client) error { return c.AwaitDisk(limited, device.Serial, device.Bus(), false) })
	if err != nil {
		// Its slot is free for another disk, unless the guest keeps it.
		_ = inst.machine.UnplugDisk(limited, device)
		return fmt.Errorf("disk `%s`: %w", d.ID(), err)
	}
	return nil
}

// DetachDisk removes a disk from the VM. A running guest is asked to release it. Only the
// first call has an effect.
func (v *VM) DetachDisk(ctx context.Context, d *disk.Disk) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	if d.IsDetached() {
		return nil
	}
	state, inst, err := v.inState("detach", topology.Booted,
		topology.Created, topology.Booted, topology.Shutdown, topology.Dead)
	if err != nil {
		return err
	}
	if state == topology.Booted && inst != nil {
		if err := v.unplug(ctx, inst, d); err != nil {
			return fmt.Errorf("disk `%s`: %w", d.ID(), err)
		}
	}
	v.disks.Remove(d)
	return d.Close(true)
}

func (v *VM) unplug(ctx context.Context, inst *guestRun, d *disk.Disk) error {
	limited, cancel := inst.Limited(ctx, plugTimeout, "the guest's reaction")
	defer cancel()
	device := d.Plugged()
	if err := inst.machine.UnplugDisk(limited, device); err != nil {
		return err
	}
	return v.guestOp(limited, "detach", func(c *guest.Client) error {
		return c.AwaitDisk(limited, disk.Serial(d.ID()), "", true)
	})
}

// ResizeDisk makes a disk longer, by zeroes. A running guest notices. What it has not
// flushed stays unflushed.
func (v *VM) ResizeDisk(ctx context.Context, d *disk.Disk, size int64) error {
	release, err := v.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := d.Plugged().CheckResize(); err != nil {
		return err
	}
	v.mu.Lock()
	inst := v.inst
	v.mu.Unlock()
	if err := inst.may("resize"); err != nil {
		return err
	}
	if grown, err := d.Grow(size); err != nil || !grown {
		return err
	}
	device := d.Plugged()
	if inst == nil || device.Slot == 0 {
		return nil // the next machine asks for the size
	}
	return inst.machine.ResizeDisk(ctx, device, size, d.Reconnected)
}

// DiskImages returns the files of the host that the contents of the VM's present disks
// come from, without images that the guest may write to.
func (v *VM) DiskImages() []string { return v.disks.Images() }

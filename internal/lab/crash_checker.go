package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"provium/internal/disk"
	"provium/internal/guest"
)

// Checker is a guest in which contents of a disk are looked at, one after the
// other: a VM of its own with a disk like the one that they are of, and the same
// id. It is made for one caller at a time.
type Checker struct {
	lab  *Lab
	of   *disk.Disk
	vm   *VM
	disk *disk.Disk
	// Reuse has the guest go on from one content to the next. Else each has a guest
	// that was restored from a snapshot.
	Reuse bool

	snapshot string // path
	device   string // in the guest: vda
	number   string // its major:minor
}

// NewChecker declares a checker's VM, which has what the disk's has, other disks
// and networks excepted.
func (l *Lab) NewChecker(of *disk.Disk, reuse bool) (*Checker, error) {
	v := VMOf(of)
	v.mu.Lock()
	opts := v.opts
	if v.inst != nil {
		opts = v.inst.plan.opts
	}
	v.mu.Unlock()
	if v.host.Local {
		return nil, errNoGuest
	}
	own := opts.Merge(nil)
	own.Disks = nil
	profile := *v.profile
	profile.Disks = nil
	vm, err := l.declareNumbered(v.name, "-crash", &profile, own)
	if err != nil {
		return nil, err
	}
	vm.expendable = true
	return &Checker{lab: l, of: of, vm: vm, Reuse: reuse}, nil
}

// VM is the checker's, Disk the one in it.
func (c *Checker) VM() *VM { return c.vm }

// Disk is the disk whose contents are to be checked; nil before Boot or From.
func (c *Checker) Disk() *disk.Disk { return c.disk }

// Boot boots the guest and gives it the disk. What the caller does to it before
// Freeze is there with each content.
func (c *Checker) Boot(ctx context.Context, content disk.Content) error {
	if err := c.vm.Boot(ctx, nil); err != nil {
		return err
	}
	return c.plug(ctx, content)
}

// Freeze makes the guest, as it is with the disk unmounted, the one that looks at
// each content.
func (c *Checker) Freeze(ctx context.Context) error {
	if err := c.release(ctx); err != nil {
		return fmt.Errorf("vm `%s` uses disk `%s` still: %w", c.vm.name, c.of.ID(), err)
	}
	s, err := c.vm.Snapshot(ctx, "")
	if err != nil {
		return err
	}
	c.snapshot = s.Path()
	return nil
}

// From has the guest begin as that of another checker, which was frozen.
func (c *Checker) From(o *Checker) { c.snapshot, c.device, c.number = o.snapshot, o.device, o.number }

// plug gives the running guest the disk.
func (c *Checker) plug(ctx context.Context, content disk.Content) error {
	release, err := c.vm.lifecycle(ctx)
	if err != nil {
		return err
	}
	defer release()
	inst, err := c.vm.running("attach_disk", Booted)
	if err != nil {
		return err
	}
	d, err := c.vm.disks.Add(ctx, c.of.Blank())
	if err != nil {
		return err
	}
	if err = content(d); err == nil {
		err = c.vm.plug(ctx, inst, d, true)
	}
	if err != nil {
		c.vm.disks.Remove(d)
		return errors.Join(err, d.Close(false))
	}
	c.disk = d
	return c.find(ctx)
}

// find finds the disk's device in the guest.
func (c *Checker) find(ctx context.Context) error {
	entries, err := c.vm.ListDir(ctx, "/sys/block")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, "vd") {
			continue
		}
		serial, err := c.vm.ReadFile(ctx, "/sys/block/"+e.Name+"/serial")
		if err != nil || strings.TrimSpace(string(serial)) != disk.Serial(c.of.ID()) {
			continue
		}
		number, err := c.vm.ReadFile(ctx, "/sys/block/"+e.Name+"/dev")
		if err != nil {
			return err
		}
		c.device, c.number = e.Name, strings.TrimSpace(string(number))
		return nil
	}
	return fmt.Errorf("vm `%s` has no device for disk `%s`", c.vm.name, c.of.ID())
}

// Load gives the guest, a fresh one unless the checker reuses it, a content.
// spoiled says that the guest is not to be reused.
func (c *Checker) Load(ctx context.Context, content disk.Content, spoiled bool) error {
	if c.Reuse && !spoiled && c.disk != nil && c.vm.State() == Booted {
		done, err := c.swap(ctx, content)
		if done || ctx.Err() != nil {
			return err
		}
	}
	if err := c.vm.Shutdown(ctx); err != nil {
		return err
	}
	err := c.vm.Restore(ctx, c.snapshot)
	if err != nil {
		return err
	}
	if c.disk, err = c.vm.Disk(ctx, c.of.ID()); err != nil {
		return err
	}
	_, err = c.swap(ctx, content)
	return err
}

// swap has the guest go on with another content under the same device, if it has
// let go of the one before.
func (c *Checker) swap(ctx context.Context, content disk.Content) (done bool, err error) {
	if err := c.release(ctx); err != nil {
		return false, err
	}
	fd, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	// What is still to be written belongs to the content before.
	if _, err := c.call(ctx, syscall.SYS_IOCTL, nil, uint64(fd), ioctlFlushBuffers); err != nil {
		return false, err
	}
	if err := c.disk.ClearFaults(); err != nil {
		return true, err
	}
	if err := content(c.disk); err != nil {
		return true, err
	}
	if _, err := c.call(ctx, syscall.SYS_IOCTL, nil, uint64(fd), ioctlFlushBuffers); err != nil {
		return false, err
	}
	// It is refused where partitions are not possible.
	_, _ = c.call(ctx, syscall.SYS_IOCTL, nil, uint64(fd), ioctlReadPartitions)
	_, err = c.call(ctx, syscall.SYS_CLOSE, nil, uint64(fd))
	return err == nil, err
}

const (
	ioctlFlushBuffers   = 0x1261 // BLKFLSBUF
	ioctlReadPartitions = 0x125f // BLKRRPART
)

// release unmounts what the guest has mounted of the disk.
func (c *Checker) release(ctx context.Context) error {
	if c.disk == nil {
		return nil
	}
	table, err := c.vm.ReadFile(ctx, "/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(table), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // what lies on top comes later
		fields := strings.Fields(lines[i])
		if len(fields) < 5 || !c.isPart(fields[2]) {
			continue
		}
		path := unescape(fields[4])
		if _, err := c.call(ctx, syscall.SYS_UMOUNT2, &path); err != nil {
			return fmt.Errorf("unmount `%s`: %w", path, err)
		}
	}
	return nil
}

// isPart tells whether a device number is that of the disk, or of a partition.
func (c *Checker) isPart(number string) bool {
	var major, minor, ourMajor, ourMinor int
	if n, _ := fmt.Sscanf(number, "%d:%d", &major, &minor); n != 2 {
		return false
	}
	if n, _ := fmt.Sscanf(c.number, "%d:%d", &ourMajor, &ourMinor); n != 2 {
		return false
	}
	const minors = 16 // of a virtio disk
	return major == ourMajor && minor >= ourMinor && minor < ourMinor+minors
}

// unescape undoes what the kernel does to spaces and the like in its tables.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// open opens the device, unless somebody uses it.
func (c *Checker) open(ctx context.Context) (fd int64, err error) {
	path := "/dev/" + c.device
	return c.call(ctx, syscall.SYS_OPEN, &path, syscall.O_RDONLY|syscall.O_EXCL)
}

// call makes a system call in the guest; text becomes its first argument.
func (c *Checker) call(ctx context.Context, nr int64, text *string, args ...uint64) (int64, error) {
	s := guest.Syscall{Nr: nr}
	at := 0
	if text != nil {
		s.Bufs, s.Slots, at = [][]byte{append([]byte(*text), 0)}, []int{0}, 1
	}
	for i, a := range args {
		s.Args[at+i] = int64(a)
	}
	r, err := c.vm.AsActor().Syscall(ctx, "syscall", s)
	switch {
	case err != nil:
		return 0, err
	case r.Ret < 0:
		return 0, syscall.Errno(r.Errno)
	}
	return r.Ret, nil
}

// Close ends the checker and its VM.
func (c *Checker) Close(ctx context.Context) error {
	return errors.Join(c.vm.Close(ctx), c.lab.forget(c.vm))
}

// forget ends a VM's membership for good: it was closed.
func (l *Lab) forget(v *VM) error {
	err := l.Remove(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ownedVMs = slices.DeleteFunc(l.ownedVMs, func(o *VM) bool { return o == v })
	return err
}

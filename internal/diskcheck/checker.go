package diskcheck

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"provium/internal/disk"
	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/topology"
)

// Checker is a VM that checks contents of another VM's disk, one after the other. It
// has a disk of the same kind and id. It must be used by one caller at a time.
type Checker struct {
	lab  *lab.Lab
	of   *disk.Disk
	vm   *lab.VM
	disk *disk.Disk
	// Reuse keeps the guest from one content to the next. Without it, each content but the
	// first has a guest that was restored from a snapshot.
	Reuse bool

	frozen   bool   // the guest is as Freeze has saved it
	snapshot string // path
	device   string // in the guest: vda
	number   string // its major:minor
}

// New declares a checker's VM in scope. It is like the VM of the disk, without its
// other disks and networks. With reuse the guest is kept from one content to the next.
func New(scope *lab.Lab, of *disk.Disk, reuse bool) (*Checker, error) {
	vm, err := scope.DeclareExpendable(lab.VMOf(of), "-crash")
	if err != nil {
		return nil, err
	}
	return &Checker{lab: scope, of: of, vm: vm, Reuse: reuse}, nil
}

// VM returns the checker's VM.
func (c *Checker) VM() *lab.VM { return c.vm }

// Disk returns the checker's disk, nil before Boot or Load.
func (c *Checker) Disk() *disk.Disk { return c.disk }

// Boot boots the guest and attaches the disk. What the caller does in the guest before
// Freeze is done for every content.
func (c *Checker) Boot(ctx context.Context, content disk.Content) error {
	if err := c.vm.Boot(ctx, nil); err != nil {
		return err
	}
	return c.plug(ctx, content)
}

// Freeze unmounts the disk and saves the guest, with which Load starts.
func (c *Checker) Freeze(ctx context.Context) error {
	if err := c.release(ctx); err != nil {
		return fmt.Errorf("vm `%s` uses disk `%s` still: %w", c.vm.Name(), c.of.ID(), err)
	}
	s, err := c.vm.Snapshot(ctx, "")
	if err != nil {
		return err
	}
	c.snapshot, c.frozen = s.Path(), true
	return nil
}

// From makes c start with the saved guest of o, which must be frozen.
func (c *Checker) From(o *Checker) { c.snapshot, c.device, c.number = o.snapshot, o.device, o.number }

// plug attaches the disk to the running guest.
func (c *Checker) plug(ctx context.Context, content disk.Content) error {
	d, err := c.vm.AttachFilled(ctx, c.of.Blank(), content)
	if err != nil {
		return err
	}
	c.disk = d
	return c.find(ctx)
}

// find looks up the disk's device in the guest.
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
	return fmt.Errorf("vm `%s` has no device for disk `%s`", c.vm.Name(), c.of.ID())
}

// Load puts a content on the disk of a restored guest, or of the present one when that is as
// Freeze has saved it, or when the checker reuses guests and this one is not spoiled.
func (c *Checker) Load(ctx context.Context, content disk.Content, spoiled bool) error {
	frozen := c.frozen
	c.frozen = false
	if (frozen || c.Reuse && !spoiled) && c.disk != nil && c.vm.State() == topology.Booted {
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

// swap replaces the content under the running guest. done is false when the guest still
// uses the content before, and another guest is needed.
func (c *Checker) swap(ctx context.Context, content disk.Content) (done bool, err error) {
	if err := c.release(ctx); err != nil {
		return false, err
	}
	fd, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	// Unwritten data belong to the content before.
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
	// The kernel refuses it for a disk that cannot have partitions.
	_, _ = c.call(ctx, syscall.SYS_IOCTL, nil, uint64(fd), ioctlReadPartitions)
	_, err = c.call(ctx, syscall.SYS_CLOSE, nil, uint64(fd))
	return err == nil, err
}

const (
	ioctlFlushBuffers   = 0x1261 // BLKFLSBUF
	ioctlReadPartitions = 0x125f // BLKRRPART
)

// release unmounts the file systems of the disk.
func (c *Checker) release(ctx context.Context) error {
	if c.disk == nil {
		return nil
	}
	table, err := c.vm.ReadFile(ctx, "/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(table), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // a mount on top of another comes later
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

// isPart reports whether a device number is that of the disk or of one of its
// partitions.
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

// unescape decodes the characters that the kernel escapes in its tables.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// open opens the device. It fails while the device is in use.
func (c *Checker) open(ctx context.Context) (fd int64, err error) {
	path := "/dev/" + c.device
	return c.call(ctx, syscall.SYS_OPEN, &path, syscall.O_RDONLY|syscall.O_EXCL)
}

// call makes a system call in the guest. The address of text, unless that is nil, is the
// first argument.
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

// Close closes the checker's VM.
func (c *Checker) Close(ctx context.Context) error {
	return errors.Join(c.vm.Close(ctx), c.lab.Forget(c.vm))
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"provium/internal/guest"
	"provium/internal/nbd"
	"provium/internal/qemu"
)

// DiskSpec says what a disk is made of: exactly one of Path, Template and Scratch.
type DiskSpec struct {
	ID       string // name within the VM, see CheckDiskID; "" is a default
	Path     string // raw image, used in place
	Template string // raw image of which the disk is a private copy
	Scratch  int64  // size of a blank disk in bytes
	ReadOnly bool
}

// Disk is a virtio block device of a VM. It is safe for concurrent use.
type Disk struct {
	vm   *VM
	spec DiskSpec

	data   *nbd.Disk // nil where there are no guests
	serve  context.Context
	cancel context.CancelFunc
	served sync.WaitGroup // the listener and its connections

	mu       sync.Mutex
	listener net.Listener // nil before the first machine has it
	socket   string
	slot     int  // in the present machine, 0 while there is none
	detached bool // from its VM, or closed with it

	recordings []*nbd.Recording // all that there were
	recording  *Recording       // the latest one that a caller has
}

// serialSize is what the guest sees of an id, in bytes.
const serialSize = guest.MaxDiskSerial

func serialOf(id string) string { return id[:min(len(id), serialSize)] }

// CheckDiskID tells what is wrong with the id of a disk.
func CheckDiskID(id string) error {
	for _, c := range id {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("_-.", c):
		default:
			return fmt.Errorf("id `%s` is not valid (letters, digits, `_`, `-` and `.`)", id)
		}
	}
	if id == "" || id == "." || id == ".." || len(id) > 255 {
		return fmt.Errorf("id `%s` is not valid (1 to 255 letters, digits, `_`, `-` and `.`, and not `.` or `..`)", id)
	}
	return nil
}

func newDisk(v *VM, spec DiskSpec) (*Disk, error) {
	if err := CheckDiskID(spec.ID); err != nil {
		return nil, err
	}
	d := &Disk{vm: v, spec: spec}
	d.serve, d.cancel = context.WithCancel(context.Background())
	if v.host.NoGuests {
		return d, nil
	}
	var err error
	d.data, err = nbd.Open(nbd.Config{Image: spec.Path, Template: spec.Template, Size: spec.Scratch, ReadOnly: spec.ReadOnly,
		TempDir: v.host.TempDir, OnError: func(err error) { v.host.warn("vm `%s` disk `%s`: %v", v.name, spec.ID, err) }})
	if err != nil {
		return nil, fmt.Errorf("disk `%s`: %w", spec.ID, err)
	}
	return d, nil
}

// listen opens the socket through which machines use the disk, in the VM's
// directory, and returns its path.
func (d *Disk) listen(slot int) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener == nil {
		path := filepath.Join(d.vm.dir, fmt.Sprintf("disk%d", d.vm.disks.nextSocket()))
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return "", fmt.Errorf("disk `%s` socket: %w", d.spec.ID, err)
		}
		d.listener, d.socket = l, path
		d.served.Add(1)
		go func() {
			defer d.served.Done()
			d.accept(l)
		}()
	}
	d.slot = slot
	return d.socket, nil
}

func (d *Disk) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		d.served.Add(1)
		go func() {
			defer d.served.Done()
			if err := d.data.Serve(d.serve, conn); err != nil {
				d.vm.host.warn("vm `%s` disk `%s`: %v", d.vm.name, d.spec.ID, err)
			}
		}()
	}
}

// device describes the disk to a machine.
func (d *Disk) device(slot int) (qemu.Disk, error) {
	socket, err := d.listen(slot)
	return qemu.Disk{Slot: slot, Socket: socket, Serial: serialOf(d.spec.ID), ReadOnly: d.spec.ReadOnly}, err
}

// close ends the disk. What the guest did not flush is lost, unless destage.
func (d *Disk) close(destage bool) error {
	d.mu.Lock()
	again := d.detached
	d.detached = true
	listener, recordings := d.listener, d.recordings
	d.recordings = nil
	d.mu.Unlock()
	if again {
		return nil
	}
	if listener != nil {
		listener.Close()
	}
	d.cancel()
	d.served.Wait()
	if d.data == nil {
		return nil
	}
	var err error
	if destage {
		err = d.data.Flush()
	}
	err = errors.Join(err, d.data.Close())
	for _, r := range recordings {
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		return fmt.Errorf("disk `%s` close: %w", d.spec.ID, err)
	}
	return nil
}

// VM is the VM the disk belongs, or belonged, to.
func (d *Disk) VM() *VM { return d.vm }

// ID is the name within the VM.
func (d *Disk) ID() string { return d.spec.ID }

// Size is the capacity in bytes; of an image that is used in place the file's
// present length.
func (d *Disk) Size() int64 {
	if d.data == nil {
		return d.spec.Scratch
	}
	return d.data.FileSize()
}

// IsDetached tells whether the VM has let go of the disk.
func (d *Disk) IsDetached() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detached
}

var errDetached = errors.New("disk is detached")

// backend gives the contents for an operation of the test's.
func (d *Disk) backend() (*nbd.Disk, error) {
	switch {
	case d.IsDetached():
		return nil, errDetached
	case d.data == nil:
		return nil, errNoGuest
	}
	return d.data, nil
}

// ReadSectors returns n sectors from sector first on as they are on the medium,
// or with pending as the guest sees them.
func (d *Disk) ReadSectors(ctx context.Context, first, n int64, pending bool) ([]byte, error) {
	data, err := d.backend()
	if err != nil {
		return nil, err
	}
	return data.ReadSectors(ctx, first, n, pending)
}

// WriteSectors writes p from sector first on. The guest sees it at once.
func (d *Disk) WriteSectors(ctx context.Context, first int64, p []byte) error {
	data, err := d.backend()
	if err != nil {
		return err
	}
	return data.WriteSectors(ctx, first, p)
}

const (
	// SectorSize is what positions on disks are counted in, in bytes.
	SectorSize = nbd.SectorSize
	// MaxDiskSize is how large a disk can be, in bytes.
	MaxDiskSize = 1 << 43
)

package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"provium/internal/blockdev"
	"provium/internal/guest"
	"provium/internal/qemu"
)

// DiskSpec says what a disk is made of: exactly one of Path, Template and Scratch.
type DiskSpec struct {
	ID       string `json:"id"`                 // name within the VM, see CheckDiskID; "" is a default
	Path     string `json:"path,omitempty"`     // image, used in place
	Template string `json:"template,omitempty"` // image of which the disk is a private copy
	Scratch  int64  `json:"scratch,omitempty"`  // size of a blank disk in bytes
	ReadOnly bool   `json:"readonly,omitempty"`
	Format   string `json:"format,omitempty"` // of Path or Template, see DiskFormats; "" is found by content
	DiskModel
}

// DiskModel is how a disk presents itself to the guest.
type DiskModel = qemu.DiskModel

// Disk is a virtio block device of a VM. It is safe for concurrent use.
type Disk struct {
	vm *VM
	id string

	mu       sync.Mutex
	spec     DiskSpec
	data     *blockdev.Disk // nil where there are no guests
	server   *diskServer    // nil before the first machine has it
	slot     int            // in the present machine, 0 while there is none
	node     int            // which of the connections of the present machine is in use, see qemu.Disk
	detached bool           // from its VM, or closed with it

	recordings []*blockdev.Recording // all that there were
	recording  *Recording            // the latest one that a caller has
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

func newDisk(ctx context.Context, v *VM, spec DiskSpec) (*Disk, error) {
	if err := CheckDiskID(spec.ID); err != nil {
		return nil, err
	}
	d := &Disk{vm: v, id: spec.ID, spec: spec}
	if err := spec.DiskModel.Check(); err != nil {
		return nil, fmt.Errorf("disk `%s`: %w", spec.ID, err)
	}
	var err error
	d.data, err = v.host.openImage(ctx, &spec, d.warn)
	if err != nil {
		return nil, fmt.Errorf("disk `%s`: %w", spec.ID, err)
	}
	if logical, _ := spec.Blocks(); d.data.Size()%int64(logical) != 0 {
		return nil, errors.Join(fmt.Errorf("disk `%s`: %d bytes are no multiple of its logical_block_size %d", spec.ID, d.data.Size(), logical), d.data.Close())
	}
	return d, nil
}

// warn tells of trouble that the guest sees as EIO, if at all.
func (d *Disk) warn(err error) { d.vm.host.warn("vm `%s` disk `%s`: %v", d.vm.name, d.id, err) }

// listen opens the socket through which machines use the disk, in the VM's
// directory, and returns its path.
func (d *Disk) listen(slot int) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server == nil {
		path := filepath.Join(d.vm.dir, fmt.Sprintf("disk%d", d.vm.host.nextSocket()))
		var err error
		if d.server, err = serveDisk(d.data, path, d.warn); err != nil {
			return "", fmt.Errorf("disk `%s`: %w", d.id, err)
		}
	}
	d.slot, d.node = slot, 0
	return d.server.socket, nil
}

// device describes the disk to a machine.
func (d *Disk) device(slot int) (qemu.Disk, error) {
	socket, err := d.listen(slot)
	return qemu.Disk{Slot: slot, Socket: socket, Serial: serialOf(d.id), ReadOnly: d.spec.ReadOnly, Model: d.spec.DiskModel}, err
}

// close ends the disk. What the guest did not flush is lost, unless destage.
func (d *Disk) close(destage bool) error {
	d.mu.Lock()
	again := d.detached
	d.detached = true
	server, data, recordings := d.server, d.data, d.recordings
	d.recordings = nil
	d.mu.Unlock()
	if again {
		return nil
	}
	return endDisk(d.id, server, data, recordings, destage)
}

// endDisk closes what a disk, or a disk as it was, is made of.
func endDisk(id string, server *diskServer, data *blockdev.Disk, recordings []*blockdev.Recording, destage bool) error {
	if server != nil {
		server.close()
	}
	if data == nil {
		return nil
	}
	var err error
	if destage {
		err = data.Flush()
	}
	err = errors.Join(err, data.Close())
	for _, r := range recordings {
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		return fmt.Errorf("disk `%s` close: %w", id, err)
	}
	return nil
}

// VM is the VM the disk belongs, or belonged, to.
func (d *Disk) VM() *VM { return d.vm }

// ID is the name within the VM.
func (d *Disk) ID() string { return d.id }

// Size is the capacity in bytes; of an image that is used in place the file's
// present length.
func (d *Disk) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
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

// contents gives what the disk has now, for the life cycle.
func (d *Disk) contents() *blockdev.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.data
}

// backend gives the contents for an operation of the test's.
func (d *Disk) backend() (*blockdev.Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return nil, errDetached
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
	SectorSize = blockdev.SectorSize
	// MaxDiskSize is how large a disk can be, in bytes.
	MaxDiskSize = 1 << 43
)

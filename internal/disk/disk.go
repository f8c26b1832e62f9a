package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"provium/internal/blockdev"
	"provium/internal/qemu"
)

// Owner is the VM that has a disk.
type Owner interface {
	Name() string
	// DetachDisk takes the disk from the VM and, if it runs, from its guest.
	DetachDisk(ctx context.Context, d *Disk) error
	// ResizeDisk makes the disk longer and tells a guest that runs.
	ResizeDisk(ctx context.Context, d *Disk, size int64) error
}

// Disk is a virtio block device of a VM. It is safe for concurrent use.
type Disk struct {
	env   *Env
	owner Owner
	id    string

	mu       sync.Mutex
	spec     Spec
	data     *blockdev.Disk // replaced by a restore
	server   *server        // nil before the first machine has the disk
	slot     int            // in the present machine, 0 without one
	node     int            // which connection of the present machine is in use, see qemu.Disk
	detached bool           // from its VM, or closed with it

	recordings []*blockdev.Recording // all that are open, closed together with data
	recording  *Recording            // the latest one that a caller has
}

// open opens the disk that spec describes.
func open(ctx context.Context, env *Env, owner Owner, spec Spec) (*Disk, error) {
	if err := CheckID(spec.ID); err != nil {
		return nil, err
	}
	d := &Disk{env: env, owner: owner, id: spec.ID, spec: spec}
	if err := spec.DiskModel.Check(); err != nil {
		return nil, fmt.Errorf("disk `%s`: %w", spec.ID, err)
	}
	var err error
	if d.data, err = env.openImage(ctx, &spec, d.warn); err != nil {
		return nil, fmt.Errorf("disk `%s`: %w", spec.ID, err)
	}
	env.watch(d, d.data)
	if logical, _ := spec.Blocks(); d.data.Size()%int64(logical) != 0 {
		return nil, errors.Join(fmt.Errorf("disk `%s`: %d bytes are no multiple of its logical_block_size %d",
			spec.ID, d.data.Size(), logical), d.data.Close())
	}
	return d, nil
}

// warn reports a failure that the guest sees as EIO, if at all.
func (d *Disk) warn(err error) {
	d.env.warn("vm `%s` disk `%s`: %v", d.owner.Name(), d.id, err)
}

// listen opens the socket in dir through which machines use the disk, and returns
// its path.
func (d *Disk) listen(dir string, slot int) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server == nil {
		path := filepath.Join(dir, fmt.Sprintf("disk%d", d.env.NextSocket()))
		var err error
		if d.server, err = serve(d.data, path, d.warn); err != nil {
			return "", fmt.Errorf("disk `%s`: %w", d.id, err)
		}
	}
	d.slot, d.node = slot, 0
	return d.server.socket, nil
}

// Device puts the disk into a slot of the present machine and describes it. dir is
// where its socket goes.
func (d *Disk) Device(dir string, slot int) (qemu.Disk, error) {
	socket, err := d.listen(dir, slot)
	spec := d.Spec()
	device := spec.device(slot)
	device.Socket = socket
	if err == nil {
		device.Resume = d.contentServer().resume
	}
	return device, err
}

func (d *Disk) contentServer() *server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.server
}

// Plugged describes the disk in the present machine to the commands that change it
// there. Its Slot is 0 while no machine has the disk.
func (d *Disk) Plugged() qemu.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	device := qemu.Disk{Slot: d.slot, Node: d.node, ReadOnly: d.spec.ReadOnly, Model: d.spec.DiskModel}
	if d.server != nil {
		device.Socket, device.Resume = d.server.socket, d.server.resume
	}
	return device
}

// Reconnected is called when QEMU has left the present connection to the disk for
// a new one.
func (d *Disk) Reconnected() {
	d.mu.Lock()
	data := d.data
	d.node++
	d.mu.Unlock()
	data.Retire()
}

// Close ends the disk. What the guest did not flush is lost, unless flush is set.
// Repeating it does nothing.
func (d *Disk) Close(flush bool) error {
	d.mu.Lock()
	again := d.detached
	d.detached = true
	server, data, recordings := d.server, d.data, d.recordings
	d.recordings = nil
	d.mu.Unlock()
	if again {
		return nil
	}
	return closeParts(d.id, server, data, recordings, flush)
}

// closeParts closes what a disk, or a disk before a restore, is made of. data is nil for
// a disk that a restore has brought.
func closeParts(id string, s *server, data *blockdev.Disk, recordings []*blockdev.Recording, flush bool) error {
	if s != nil {
		s.close()
	}
	var err error
	if flush {
		err = data.Flush()
	}
	if data != nil {
		err = errors.Join(err, data.Close())
	}
	for _, r := range recordings {
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		return fmt.Errorf("disk `%s` close: %w", id, err)
	}
	return nil
}

// Owner returns the VM that the disk belongs, or belonged, to.
func (d *Disk) Owner() Owner { return d.owner }

// ID returns the name within the VM.
func (d *Disk) ID() string { return d.id }

// Spec returns what the disk is made of.
func (d *Disk) Spec() Spec {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spec
}

// Slot returns the place in the present machine, 0 without one.
func (d *Disk) Slot() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slot
}

// Size returns the capacity in bytes; of an image that is used in place the file's
// present length.
func (d *Disk) Size() int64 { return d.contents().FileSize() }

// Blank returns the spec of a blank disk with the id, the capacity and the model of
// this one.
func (d *Disk) Blank() Spec {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Spec{ID: d.id, Scratch: d.data.Size(), ReadOnly: d.spec.ReadOnly, DiskModel: d.spec.DiskModel}
}

// IsDetached reports whether the VM has released the disk.
func (d *Disk) IsDetached() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detached
}

// Detach takes the disk from its VM: a guest that runs is asked to release it.
// Repeating it does nothing.
func (d *Disk) Detach(ctx context.Context) error { return d.owner.DetachDisk(ctx, d) }

// Resize makes the disk longer, by zeroes. A guest that runs is told; what it had not
// flushed stays un-flushed.
func (d *Disk) Resize(ctx context.Context, size int64) error { return d.owner.ResizeDisk(ctx, d, size) }

var errDetached = errors.New("disk is detached")

// contents returns what the disk has now, also when it is detached.
func (d *Disk) contents() *blockdev.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.data
}

// backend returns what the disk has now, or an error if it is detached.
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

// seed returns the seed of a rule without one: it is the same in every run with the
// same seed and names.
func (d *Disk) seed() uint64 {
	id := d.env.Digest(d.owner.Name(), "disk", d.id)
	return binary.BigEndian.Uint64(id[:]) ^ d.env.Seed*0x9e3779b97f4a7c15
}

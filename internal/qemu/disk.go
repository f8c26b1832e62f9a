package qemu

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// Disk is a virtio block device whose contents an NBD server has.
type Disk struct {
	Slot     int    // on the bus for devices that come and go, 1 to DiskSlots; also in its names
	Socket   string // of the NBD server
	Serial   string // what the guest sees, at most 20 bytes
	ReadOnly bool
	Model    DiskModel
	Node     int // how often the connection was replaced, see ResizeDisk
	// Resume returns the client's end of a connection to the server for a copy of a machine that has made the
	// handshake. Nil: it has no copies.
	Resume func() (*os.File, error) `json:"-"`
}

// DiskModel is how a disk presents itself to the guest. Its zero value has blocks of
// 512 bytes, takes discards and says that it has a volatile write cache.
type DiskModel struct {
	LogicalBlock  int  `json:"logical_block,omitempty"`  // bytes, 512 or 4096; 0 is 512
	PhysicalBlock int  `json:"physical_block,omitempty"` // bytes, 512 or 4096; 0 is LogicalBlock
	NoDiscard     bool `json:"no_discard,omitempty"`
	NoWriteCache  bool `json:"no_write_cache,omitempty"` // every write is permanent when it is acknowledged

	Bus string `json:"bus,omitempty"` // of Buses; "" is the first
}

// Buses returns the ways in which a disk can be connected.
func Buses() []string { return []string{VirtioBlk, VirtioSCSI, NVMe} }

// The buses of disks.
const (
	VirtioBlk  = "virtio-blk"
	VirtioSCSI = "virtio-scsi"
	NVMe       = "nvme"
)

// errNVMe is returned for what QEMU cannot do with an NVMe disk.
var errNVMe = errors.New("QEMU cannot save the state of an NVMe disk: use bus `virtio-blk` or `virtio-scsi`")

func (d Disk) place() int { return d.Slot }

// Bus returns how the disk is connected.
func (d Disk) Bus() string { return cmp.Or(d.Model.Bus, VirtioBlk) }

// saveable returns an error when the machine has a disk whose state cannot be saved: QEMU would end at the attempt.
func (m *Machine) saveable() error { return Saveable(m.disks.all()) }

// WritesDisks reports whether the machine has disks that its guest can write to.
func (c *Config) WritesDisks() bool {
	return slices.ContainsFunc(c.Disks, func(d Disk) bool { return !d.ReadOnly })
}

// Saveable returns an error when the machine has a disk whose state cannot be saved.
func Saveable(disks []Disk) error {
	for i := range disks {
		if disks[i].Model.Bus == NVMe {
			return errNVMe
		}
	}
	return nil
}

// smallestBlock is the size of a block unless told otherwise, in bytes.
const smallestBlock = 512

// Blocks are the logical and the physical block size in bytes.
func (m DiskModel) Blocks() (logical, physical int) {
	logical, physical = max(m.LogicalBlock, smallestBlock), m.PhysicalBlock
	if physical == 0 {
		physical = logical
	}
	return logical, physical
}

// Check tells what is wrong with the model.
func (m DiskModel) Check() error {
	logical, physical := m.Blocks()
	for _, b := range []struct {
		name string
		size int
	}{{"logical_block_size", logical}, {"physical_block_size", physical}} {
		if b.size != smallestBlock && b.size != 4096 {
			return fmt.Errorf("%s must be 512 or 4096, got %d", b.name, b.size)
		}
	}
	if physical < logical {
		return fmt.Errorf("physical_block_size %d is less than logical_block_size %d", physical, logical)
	}
	switch {
	case m.Bus != "" && !slices.Contains(Buses(), m.Bus):
		return fmt.Errorf("bus must be one of %s, got `%s`", strings.Join(Buses(), ", "), m.Bus)
	case m.NoDiscard && m.Bus != "" && m.Bus != VirtioBlk:
		return fmt.Errorf("discard = false needs bus `%s`, not `%s`", VirtioBlk, m.Bus)
	}
	return nil
}

const (
	// DiskSlots is how many disks a machine can have.
	DiskSlots = 31

	// plugBus is a bridge with slots for devices that are plugged in and out. One
	// bridge costs what one root port does, and has all the slots.
	plugBus = "plug"
)

// plugBridge is the device that makes the plugBus on this type of machine; nil is
// a machine without one.
func (c *Config) plugBridge() *bridgeDevice {
	switch c.rootBus() {
	case "pci.0":
		return &bridgeDevice{Driver: "pci-bridge", ID: plugBus, Chassis: 1, Addr: c.fixedDevice(plugBridgeAt)}
	case "pcie.0":
		return &bridgeDevice{Driver: "pcie-pci-bridge", ID: plugBus, Addr: c.fixedDevice(plugBridgeAt)}
	}
	return nil
}

func (d *Disk) node() string {
	if d.Node > 0 {
		return fmt.Sprintf("disk%d-data%d", d.Slot, d.Node)
	}
	return fmt.Sprintf("disk%d-data", d.Slot)
}

func (d *Disk) device() string { return fmt.Sprintf("disk%d", d.Slot) }

// backend is the description of the contents. export is the name by which the server knows how to serve them.
func (d *Disk) backend(export string) blockBackend {
	return blockBackend{Driver: "nbd", Node: d.node(), Server: unixAddress{"unix", d.Socket}, ReadOnly: d.ReadOnly,
		Discard: "unmap", Export: export}
}

// frontend is the description of the device. An error is the guest's to see: the
// default would stop the machine when the host's disk is full.
func (d *Disk) frontend() diskDevice {
	out := diskDevice{Driver: "virtio-blk-pci", ID: d.device(), Bus: plugBus, Addr: slot(d.Slot), Drive: d.node(),
		Serial: d.Serial, WriteError: "report", ReadError: "report",
		// A request is sent to the server by the thread that makes it; with an
		// eventfd it wakes another one to do that.
		IOEventFD: new(bool),
	}
	model := d.Model
	model.Bus = ""
	if model != (DiskModel{}) {
		out.LogicalBlock, out.PhysicalBlock = d.Model.Blocks()
		discard := !d.Model.NoDiscard
		out.Discard, out.WriteCache = &discard, on
		if d.Model.NoWriteCache {
			out.WriteCache = off
		}
	}
	switch d.Model.Bus {
	case VirtioSCSI:
		out.Driver, out.Bus, out.Addr, out.IOEventFD, out.Discard = "scsi-hd", d.controller()+".0", "", nil, nil
	case NVMe:
		out.Driver, out.IOEventFD, out.Discard, out.WriteError, out.ReadError = "nvme", nil, nil, "", ""
	}
	return out
}

// controller is the name of a SCSI disk's controller.
func (d *Disk) controller() string { return fmt.Sprintf("scsi%d", d.Slot) }

// before is the description of what has to be there before the device, nil for nothing.
func (d *Disk) before() any {
	if d.Model.Bus != VirtioSCSI {
		return nil
	}
	return scsiController{Driver: "virtio-scsi-pci", ID: d.controller(), Bus: plugBus, Addr: slot(d.Slot)}
}

// PlugDisk plugs a disk into the running or stopped machine. It returns when QEMU
// has it; a guest that runs needs a moment more.
func (m *Machine) PlugDisk(ctx context.Context, d Disk) error {
	if err := m.monitor().blockdevAdd(ctx, d.backend("")); err != nil {
		return fmt.Errorf("qemu disk plug: %w", err)
	}
	var err error
	if before := d.before(); before != nil {
		err = m.monitor().deviceAdd(ctx, before)
	}
	if err == nil {
		err = m.monitor().deviceAdd(ctx, d.frontend())
	}
	if err != nil {
		if d.before() != nil {
			_ = m.monitor().deviceDel(ctx, d.controller())
		}
		_ = m.monitor().blockdevDel(ctx, d.node())
		return fmt.Errorf("qemu disk plug: %w", err)
	}
	m.disks.add(d)
	return nil
}

// CheckResize returns an error for a disk whose guest cannot learn of another size.
func (d Disk) CheckResize() error {
	if d.Slot != 0 && d.Model.Bus == NVMe {
		return errors.New("resize: an NVMe disk of a guest that runs keeps its size")
	}
	return nil
}

// ResizeDisk has the machine, and its guest, learn that the disk has another size. A
// client of NBD knows the size that there was when it connected, so the connection is
// replaced; d is the present one, and the next one has a higher Node. replaced is
// called when nothing uses the old one any more, and before it is closed.
func (m *Machine) ResizeDisk(ctx context.Context, d Disk, size int64, replaced func()) error {
	next := d
	next.Node++
	if err := m.monitor().blockdevAdd(ctx, next.backend("")); err != nil {
		return fmt.Errorf("qemu disk resize: %w", err)
	}
	err := m.monitor().setDrive(ctx, d.device(), next.node())
	if err != nil {
		_ = m.monitor().blockdevDel(ctx, next.node())
		return fmt.Errorf("qemu disk resize: %w", err)
	}
	replaced()
	m.disks.remove(d)
	m.disks.add(next)
	err = m.monitor().blockdevDel(ctx, d.node())
	if err == nil {
		err = m.monitor().blockResize(ctx, next.node(), size)
	}
	if err != nil {
		return fmt.Errorf("qemu disk resize: %w", err)
	}
	return nil
}

// UnplugDisk asks the guest to release a disk, waits until it has, and closes the
// connection to the server. Only a guest that runs can release one.
func (m *Machine) UnplugDisk(ctx context.Context, d Disk) error {
	if a := m.cfg.arch(); !a.HotPlug {
		return fmt.Errorf("qemu disk unplug: a guest of %s cannot release a disk while it runs; shut it down first", a)
	}
	device := d.device()
	if d.before() != nil {
		// The disk goes with it. Linux 6.1 warns (virtscsi_remove) where a driver is removed
		// that still handles the end of its disk.
		device = d.controller()
	}
	if err := m.unplug(ctx, device); err != nil {
		return fmt.Errorf("qemu disk unplug: %w", err)
	}
	m.disks.remove(d)
	if err := m.monitor().blockdevDel(ctx, d.node()); err != nil {
		return fmt.Errorf("qemu disk unplug: %w", err)
	}
	return nil
}

// unplug asks the guest to release a device, and waits until it has.
func (m *Machine) unplug(ctx context.Context, device string) error {
	gone := m.deleted.expect(device)
	defer m.deleted.forget(device)
	if err := m.monitor().deviceDel(ctx, device); err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-m.qmp.Done():
		return errors.New("qemu ended")
	case <-ctx.Done():
		return fmt.Errorf("the guest did not release the disk: %w", context.Cause(ctx))
	}
}

// deletionWatch catches QEMU's reports on devices that guests have released.
type deletionWatch struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
}

func (w *deletionWatch) expect(device string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[string]chan struct{}{}
	}
	gone := make(chan struct{})
	w.waiting[device] = gone
	return gone
}

func (w *deletionWatch) forget(device string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, device)
}

func (w *deletionWatch) onEvent(e Event) {
	if e.Name != "DEVICE_DELETED" {
		return
	}
	var d struct{ Device string }
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone := w.waiting[d.Device]; gone != nil {
		close(gone)
		delete(w.waiting, d.Device)
	}
}

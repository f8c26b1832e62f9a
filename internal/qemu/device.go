package qemu

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
)

// The descriptions of what a machine consists of. One description makes both the
// option of the command line, in its JSON form, and the arguments of the monitor
// command that adds the same while the machine runs. QEMU 10 takes only values of the
// types that its properties have, so that each field has that type: bool, number,
// string, or onOff where QEMU's type is OnOffAuto.

// onOff is a value of QEMU's type OnOffAuto.
type onOff string

const (
	on  onOff = "on"
	off onOff = "off"
)

// slot is the place of a device on its bus, as `addr` takes it.
func slot(n int) string { return fmt.Sprintf("%#x", n) }

// plainDevice is a device without options of its own.
type plainDevice struct {
	Driver string `json:"driver"`
}

// bridgeDevice is a bridge to a further PCI bus.
type bridgeDevice struct {
	Driver  string `json:"driver"` // pcie-pci-bridge, or pci-bridge
	ID      string `json:"id"`     // of the bus, too
	Chassis int    `json:"chassis_nr,omitempty"`
	Addr    string `json:"addr,omitempty"`
}

// serialBus is the controller of virtio-serial ports.
type serialBus struct {
	Driver    string `json:"driver"` // virtio-serial-pci
	ID        string `json:"id"`
	IOEventFD bool   `json:"ioeventfd"`
	MaxPorts  int    `json:"max_ports"`
	Vectors   int    `json:"vectors"`
	Addr      string `json:"addr,omitempty"`
}

// serialPort is one of its ports.
type serialPort struct {
	Driver  string `json:"driver"` // virtserialport, or virtconsole
	ID      string `json:"id,omitempty"`
	Bus     string `json:"bus"`
	Number  int    `json:"nr"`
	Chardev string `json:"chardev"`
	Name    string `json:"name,omitempty"`
}

// rngDevice gives the guest random numbers of an object.
type rngDevice struct {
	Driver    string `json:"driver"` // virtio-rng-pci
	RNG       string `json:"rng"`
	IOEventFD bool   `json:"ioeventfd"`
	Addr      string `json:"addr,omitempty"`
}

// vsockDevice is the guest's end of vsock.
type vsockDevice struct {
	Driver string `json:"driver"` // vhost-vsock-pci
	CID    uint32 `json:"guest-cid"`
	VHost  string `json:"vhostfd,omitempty"` // number of the host's device
	Addr   string `json:"addr,omitempty"`
}

// netDevice is a virtio network interface.
type netDevice struct {
	Driver        string `json:"driver"` // virtio-net-pci
	ID            string `json:"id"`
	Netdev        string `json:"netdev"`
	Bus           string `json:"bus"`
	Addr          string `json:"addr"`
	DisableLegacy onOff  `json:"disable-legacy"`
	GuestAnnounce bool   `json:"guest_announce"`
	ROMFile       string `json:"romfile"`
	MAC           string `json:"mac,omitempty"`

	// Of a deterministic guest, which sends when a timer of its own time says so.
	Transmit      string `json:"tx,omitempty"` // timer
	TransmitTimer int    `json:"x-txtimer,omitempty"`
	IOEventFD     *bool  `json:"ioeventfd,omitempty"`
}

// diskDevice is a disk.
type diskDevice struct {
	Driver     string `json:"driver"` // virtio-blk-pci, scsi-hd or nvme
	ID         string `json:"id"`
	Bus        string `json:"bus"`
	Addr       string `json:"addr,omitempty"`
	Drive      string `json:"drive"`
	Serial     string `json:"serial"`
	WriteError string `json:"werror,omitempty"`
	ReadError  string `json:"rerror,omitempty"`
	IOEventFD  *bool  `json:"ioeventfd,omitempty"`

	LogicalBlock  int   `json:"logical_block_size,omitempty"`
	PhysicalBlock int   `json:"physical_block_size,omitempty"`
	Discard       *bool `json:"discard,omitempty"`
	WriteCache    onOff `json:"write-cache,omitempty"`
	BootIndex     int   `json:"bootindex,omitempty"` // the firmware looks at the lowest first
}

// scsiController is the controller of one SCSI disk.
type scsiController struct {
	Driver    string `json:"driver"` // virtio-scsi-pci
	ID        string `json:"id"`
	Bus       string `json:"bus"`
	Addr      string `json:"addr"`
	IOEventFD bool   `json:"ioeventfd"`
}

// memoryObject is a file that is the guest's RAM.
type memoryObject struct {
	Type  string `json:"qom-type"` // memory-backend-file
	ID    string `json:"id"`
	Size  int64  `json:"size"`
	Path  string `json:"mem-path"`
	Share bool   `json:"share"`
}

// rngObject is a source of random numbers.
type rngObject struct {
	Type    string `json:"qom-type"` // rng-egd, or rng-random
	ID      string `json:"id"`
	Chardev string `json:"chardev,omitempty"`
	File    string `json:"filename,omitempty"`
}

// unixAddress is the address of a unix socket.
type unixAddress struct {
	Type string `json:"type"` // unix
	Path string `json:"path"`
}

// netBackend connects a network interface to a socket.
type netBackend struct {
	Type   string `json:"type"` // stream
	ID     string `json:"id"`
	Server bool   `json:"server"`
	Addr   any    `json:"addr"` // unixAddress or fdAddress
}

// fdAddress is a socket that the process has.
type fdAddress struct {
	Type   string `json:"type"` // fd
	Number string `json:"str"`
}

// blockBackend connects a disk to an NBD server.
type blockBackend struct {
	Driver   string      `json:"driver"` // nbd
	Node     string      `json:"node-name"`
	Server   unixAddress `json:"server"`
	ReadOnly bool        `json:"read-only"`
	Discard  string      `json:"discard"`
	Export   string      `json:"export,omitempty"`
}

// option is an option of the command line with the JSON form of its value.
func option(name string, description any) []string {
	text, _ := json.Marshal(description) // strings, numbers and booleans cannot fail
	return []string{name, string(text)}
}

// present are the devices of a kind that a machine has now. It is safe for concurrent use.
type present[T interface{ place() int }] struct {
	mu   sync.Mutex
	list []T
}

func (p *present[T]) add(d ...T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, d...)
}

func (p *present[T]) remove(d T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(o T) bool { return o.place() == d.place() })
}

func (p *present[T]) all() []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

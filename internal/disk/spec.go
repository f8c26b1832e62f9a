package disk

import (
	"fmt"
	"strings"

	"provium/internal/blockdev"
	"provium/internal/qemu"
)

// Spec says what a disk is made of: exactly one of Path, Template, Scratch and Userland.
type Spec struct {
	ID       string `json:"id"`                 // name within the VM, see CheckID; "" is a default
	Path     string `json:"path,omitempty"`     // image, used in place
	Template string `json:"template,omitempty"` // image of which the disk is a private copy
	Scratch  int64  `json:"scratch,omitempty"`  // size of a blank disk in bytes
	Userland string `json:"userland,omitempty"` // index of a root file system, see userland.Open
	ReadOnly bool   `json:"readonly,omitempty"`
	Format   string `json:"format,omitempty"` // of Path or Template, see Formats; "" is found by content
	qemu.DiskModel
}

const (
	// SectorSize is the unit of positions on disks, in bytes.
	SectorSize = blockdev.SectorSize
	// MaxSize is the largest capacity of a disk, in bytes.
	MaxSize = 1 << 43
	// SerialSize is how much of an id a guest sees, in bytes: VIRTIO_BLK_ID_BYTES of
	// the virtio specification.
	SerialSize = 20
)

// Formats returns the formats that an image can have.
func Formats() []string { return blockdev.Formats() }

// Serial returns what the guest sees of an id.
func Serial(id string) string { return id[:min(len(id), SerialSize)] }

// CheckID returns an error that says what is wrong with the id of a disk.
func CheckID(id string) error {
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

// image returns the image that the disk is made of, "" for a blank disk, and whether
// the guest can write to it.
func (s *Spec) image() (path string, writable bool) {
	if s.Path != "" {
		return s.Path, !s.ReadOnly
	}
	return s.Template, false
}

// device describes a disk to QEMU, as far as it makes a difference to a saved state.
func (s *Spec) device(slot int) qemu.Disk {
	return qemu.Disk{Slot: slot, Serial: Serial(s.ID), ReadOnly: s.ReadOnly, Model: s.DiskModel}
}

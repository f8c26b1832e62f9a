// Package snapshot reads and writes the file of one stopped virtual machine: its memory
// as a sparse image that can be mapped, the state of its devices, its console log, the
// contents of its disks, and a manifest that describes the machine. It also keeps
// directories of such files within a size. docs/snapshots.md describes the format.
//
// It starts and stops no machine, and does not know what sections and manifest mean.
//
// Start reading at the layout in format.go, then Open in reader.go and Create in
// writer.go.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"provium/internal/jsonerror"
	"provium/internal/machine"
)

// Version is the version of the format.
const Version = 3

// Sizes, in bytes.
const (
	// PageSize is the granularity of memory.
	PageSize = 4096
	// blockSize is how much memory one checksum covers.
	blockSize = 64 << 10

	maxRAM      = 1 << 44 // 16 TiB
	maxData     = 1 << 44 // of one section with a table of checksums
	maxManifest = 1 << 20
	maxSections = 64
	maxSection  = 256 << 20

	trailerSize = 64
)

// The names of sections that this package itself writes. Others are the caller's.
const (
	sectionBlocks  = "blocks"
	sectionChanged = "changed" // of a diff
)

var magic = [8]byte{'P', 'R', 'O', 'V', 'S', 'N', 'A', 'P'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNotSnapshot is returned for a file that is not a snapshot.
var ErrNotSnapshot = errors.New("is no snapshot")

// VersionError is returned for a snapshot in another version of the format, or whose manifest has fields
// that this program does not know.
type VersionError struct {
	Version uint32
	Unknown error // what of the manifest is not known
}

func (e *VersionError) Error() string {
	if e.Unknown != nil {
		return fmt.Sprintf("was written by another version of Provium: %v", e.Unknown)
	}
	return fmt.Sprintf("is in version %d of the snapshot format; this program reads version %d", e.Version, Version)
}

// DamagedError is returned for a snapshot that was changed or cut.
type DamagedError struct{ What string }

func (e *DamagedError) Error() string { return "is damaged: " + e.What }

func damaged(format string, args ...any) error {
	return &DamagedError{fmt.Sprintf(format, args...)}
}

// Machine is the hardware that was saved. A snapshot fits only an equal one.
type Machine struct {
	QEMU    string   `json:"qemu"`    // version
	Type    string   `json:"type"`    // QEMU machine type
	CPU     string   `json:"cpu"`     // model
	Accel   string   `json:"accel"`   //
	Memory  int64    `json:"memory"`  // bytes
	CPUs    int      `json:"cpus"`    //
	Devices []string `json:"devices"` // in the order in which they are made
}

// Differences lists how other, the present machine, differs from the saved one.
func (m *Machine) Differences(other *Machine) []string {
	var out []string
	differ := func(what, saved, here string) {
		if saved != here {
			out = append(out, fmt.Sprintf("%s: the snapshot has %s, here is %s", what, saved, here))
		}
	}
	differ("QEMU version", m.QEMU, other.QEMU)
	differ("machine type", m.Type, other.Type)
	differ("CPU model", m.CPU, other.CPU)
	differ("accelerator", m.Accel, other.Accel)
	differ("memory", fmt.Sprint(m.Memory), fmt.Sprint(other.Memory))
	differ("cpus", fmt.Sprint(m.CPUs), fmt.Sprint(other.CPUs))
	saved, here := onlyIn(m.Devices, other.Devices), onlyIn(other.Devices, m.Devices)
	if len(saved) == 0 && len(here) == 0 { // another order, if anything
		saved, here = m.Devices, other.Devices
	}
	differ("devices", deviceList(saved), deviceList(here))
	return out
}

// onlyIn returns what of list is not in other.
func onlyIn(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(d string) bool { return slices.Contains(other, d) })
}

func deviceList(list []string) string {
	if len(list) == 0 {
		return "none of them"
	}
	return strings.Join(list, ", ")
}

// Guest is what ran on the machine.
type Guest struct {
	Profile     string     `json:"profile"`
	Image       string     `json:"image"` // digest over the content of what was booted
	Cmdline     string     `json:"cmdline"`
	RNGSeed     *uint64    `json:"rng_seed,omitempty"`
	InitialTime *time.Time `json:"initial_time,omitempty"`
	// ConsoleSearch is the position in the console log behind the last match.
	ConsoleSearch int64 `json:"console_search"`
	// BootID is where in the memory the kernel keeps its boot id, in an entry of the boot
	// cache; 0 is unknown.
	BootID int64 `json:"boot_id,omitempty"`
	// Kernel is the release of the kernel in an entry of the boot cache, as the guest says.
	Kernel string `json:"kernel,omitempty"`
	// MachineID says that the guest of an entry of the boot cache has a machine id, in any of wire.MachineIDs.
	MachineID bool `json:"machine_id,omitempty"`
	// Shape is what the machine was made of.
	Shape machine.Shape `json:"shape,omitzero"`
}

// Manifest describes a snapshot.
type Manifest struct {
	Created  time.Time          `json:"created"`
	Machine  Machine            `json:"machine"`
	Guest    Guest              `json:"guest"`
	RAM      int64              `json:"ram"` // bytes at the start of the file
	Sections map[string]Section `json:"sections"`
	// Key is set in an entry of a Cache.
	Key string `json:"key,omitempty"`
	// Base is set in a diff, whose memory is the base's except for the parts that its
	// section "changed" lists.
	Base *Base `json:"parent,omitempty"`
}

// Form names how this program writes snapshots: two programs of the same form read each other's. Keys
// of caches contain it, so that programs of other forms have entries of their own.
func Form() string {
	h := sha256.New()
	describe(h, reflect.TypeFor[Manifest]())
	return fmt.Sprintf("%d-%x", Version, h.Sum(nil)[:4])
}

// describe writes the fields of a type and of the types in it.
func describe(w io.Writer, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		fmt.Fprint(w, t.Kind(), " ")
		describe(w, t.Elem())
	case reflect.Struct:
		fmt.Fprint(w, t.Name(), "{")
		for f := range t.Fields() {
			if f.IsExported() {
				fmt.Fprintf(w, "%q ", f.Tag.Get("json"))
				describe(w, f.Type)
			}
		}
		fmt.Fprint(w, "}")
	default:
		fmt.Fprint(w, t.Kind(), " ")
	}
}

// Section is a range of the file.
type Section struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
	// Either its checksum, or the name of the section that has a CRC-32C of each
	// 64 KiB of it.
	SHA256 string `json:"sha256,omitempty"`
	Sums   string `json:"sums,omitempty"`
}

// trailer ends the file.
type trailer struct {
	manifestAt  int64
	manifestLen uint32
	sum         [sha256.Size]byte // of the manifest
}

// Layout: magic 8, version 4, manifest length 4, manifest offset 8, SHA-256 of
// the manifest 32, zero 4, CRC-32C of the 60 bytes before 4. Little endian.
func (t *trailer) encode() []byte {
	b := make([]byte, 0, trailerSize)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, Version)
	b = binary.LittleEndian.AppendUint32(b, t.manifestLen)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.manifestAt))
	b = append(b, t.sum[:]...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeTrailer verifies the last bytes of a file of that size.
func decodeTrailer(b []byte, fileSize int64) (t trailer, err error) {
	if len(b) != trailerSize || !bytes.Equal(b[:8], magic[:]) {
		return t, ErrNotSnapshot
	}
	// Another version may cover its trailer in another way.
	if v := binary.LittleEndian.Uint32(b[8:]); v != Version {
		return t, &VersionError{Version: v}
	}
	if crc32.Checksum(b[:trailerSize-4], castagnoli) != binary.LittleEndian.Uint32(b[trailerSize-4:]) {
		return t, damaged("the trailer's checksum does not match")
	}
	t.manifestLen = binary.LittleEndian.Uint32(b[12:])
	t.manifestAt = int64(binary.LittleEndian.Uint64(b[16:]))
	copy(t.sum[:], b[24:])
	if t.manifestLen > maxManifest || t.manifestAt < 0 || t.manifestAt != fileSize-trailerSize-int64(t.manifestLen) {
		return t, damaged("the manifest is %d bytes at %d of a file of %d", t.manifestLen, t.manifestAt, fileSize)
	}
	return t, nil
}

// decodeManifest verifies a manifest: sections must fill the file from the end
// of the RAM to the manifest without gap or overlap, so that no byte of the file
// is without a checksum.
func decodeManifest(b []byte, t trailer) (*Manifest, error) {
	if sha256.Sum256(b) != t.sum {
		return nil, damaged("the manifest's checksum does not match")
	}
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, damaged("the manifest cannot be read: %v", jsonerror.Plain(err))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&Manifest{}); err != nil {
		return nil, &VersionError{Version: Version, Unknown: err}
	}
	if m.RAM <= 0 || m.RAM > maxRAM || m.RAM%PageSize != 0 {
		return nil, damaged("%d bytes of RAM", m.RAM)
	}
	if len(m.Sections) > maxSections {
		return nil, damaged("%d sections", len(m.Sections))
	}
	at := map[int64]Section{}
	for name, s := range m.Sections {
		limit := int64(maxSection)
		if s.Sums != "" {
			limit = maxData
			if sums, ok := m.Sections[s.Sums]; !ok || sums.Sums != "" || sums.Length != blockCount(s.Length)*4 {
				return nil, damaged("section %q has no checksums", name)
			}
		}
		if s.Length < 0 || s.Length > limit {
			return nil, damaged("section %q has %d bytes", name, s.Length)
		}
		if s.Length == 0 {
			continue
		}
		if _, twice := at[s.Offset]; twice {
			return nil, damaged("two sections begin at %d", s.Offset)
		}
		at[s.Offset] = s
	}
	next := m.RAM
	for range at {
		s, ok := at[next]
		if !ok {
			return nil, damaged("nothing begins at %d", next)
		}
		next += s.Length
	}
	if next != t.manifestAt {
		return nil, damaged("the sections end at %d, the manifest begins at %d", next, t.manifestAt)
	}
	blocks, ok := m.Sections[sectionBlocks]
	if want := blockCount(m.RAM) * 4; !ok || blocks.Length != want {
		return nil, damaged("checksums of the RAM take %d bytes, not %d", blocks.Length, want)
	}
	if _, ok := m.Sections[sectionChanged]; ok != (m.Base != nil) {
		return nil, damaged("a parent and what changed since do not go together")
	}
	return m, nil
}

func blockCount(ram int64) int64 { return (ram + blockSize - 1) / blockSize }

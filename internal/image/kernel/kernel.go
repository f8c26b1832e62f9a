// Package kernel reads Linux kernel files: the setup header of a bzImage, the
// compressed vmlinux inside it, the header of an Image, and what an uncompressed kernel
// tells about itself (version, PVH entry point, built-in drivers).
//
// It does not choose a kernel, keeps nothing on disk and knows no modules.
package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"provium/internal/arch"
	"provium/internal/image/decompress"
)

// Limits on what is read and extracted, in bytes.
const (
	// MaxVmlinux is the largest kernel that is read or extracted.
	MaxVmlinux = 2 << 30
	maxVersion = 256
	maxNotes   = 1 << 20
)

// Kind is the format of a kernel file.
type Kind string

// The formats that QEMU can boot.
const (
	BzImage Kind = "bzImage"
	ELF     Kind = "vmlinux"
	Image   Kind = "Image" // of arm64 and riscv64, uncompressed
)

// ErrFormat means that a file is no kernel of a known format and architecture.
var ErrFormat = errors.New("not a Linux kernel that can be booted: no bzImage or ELF vmlinux of x86-64, and " +
	"no Image of arm64 or riscv64")

// Header is what the start of a kernel file tells.
type Header struct {
	Kind Kind
	Arch *arch.Arch
	// Version is the release, as `uname -r` prints it, e.g. "6.1.0-9-amd64".
	// It is empty for a vmlinux (see Inspect) and where the header has none.
	Version string

	payload, payloadLen int64
	end                 int64             // of the memory that a bzImage starts in; 0 is unknown
	compression         decompress.Format // known after Extract
}

// The setup header, from the kernel's Documentation/arch/x86/boot.rst.
const (
	offSetupSects    = 0x1f1
	offSysSize       = 0x1f4
	offBootFlag      = 0x1fe
	offMagic         = 0x202
	offProtocol      = 0x206
	offKernelVersion = 0x20e
	offXLoadFlags    = 0x236
	offPayload       = 0x248
	offPayloadLength = 0x24c
	offPrefAddress   = 0x258
	offInitSize      = 0x260
	setupHeaderLen   = 0x264
	sector           = 512
)

// ReadHeader reads the start of the kernel file r of the given size.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	if size > MaxVmlinux {
		return nil, fmt.Errorf("file of %d bytes is too large for a kernel", size)
	}
	var h [setupHeaderLen]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("the file is empty")
	}
	if n >= 20 && string(h[:4]) == elf.ELFMAG {
		machine := elf.Machine(binary.LittleEndian.Uint16(h[18:]))
		switch a := arch.OfELF(machine); {
		case elf.Class(h[elf.EI_CLASS]) != elf.ELFCLASS64 || a == nil:
			return nil, fmt.Errorf("ELF file for another machine: %w", ErrFormat)
		case a != arch.AMD64:
			return nil, fmt.Errorf("QEMU cannot start an ELF file of %s: give the Image of the same build (%w)", a,
				ErrFormat)
		}
		return &Header{Kind: ELF, Arch: arch.AMD64}, nil
	}
	if n >= imageHeaderLen {
		if a := arch.OfImage(string(h[offImageMagic : offImageMagic+4])); a != nil {
			return imageHeader(a, h[:], size)
		}
	}
	if n < len(h) || binary.LittleEndian.Uint16(h[offBootFlag:]) != 0xaa55 || string(h[offMagic:offMagic+4]) != "HdrS" {
		return nil, ErrFormat
	}
	out := &Header{Kind: BzImage, Arch: arch.AMD64}
	protocol := binary.LittleEndian.Uint16(h[offProtocol:])
	sects := int64(h[offSetupSects])
	if sects == 0 {
		sects = 4
	}
	setup := (sects + 1) * sector
	// XLF_KERNEL_64: the agent is a 64-bit program.
	if protocol >= 0x20c && h[offXLoadFlags]&1 == 0 {
		return nil, fmt.Errorf("bzImage of a 32-bit kernel: %w", ErrFormat)
	}
	if at := int64(binary.LittleEndian.Uint16(h[offKernelVersion:])); at != 0 && at < sects*sector {
		var v [maxVersion]byte
		n, err := r.ReadAt(v[:], at+sector)
		if err != nil && err != io.EOF {
			return nil, err
		}
		out.Version = firstWord(v[:n])
	}
	if protocol >= 0x208 {
		out.payload = setup + int64(binary.LittleEndian.Uint32(h[offPayload:]))
		out.payloadLen = int64(binary.LittleEndian.Uint32(h[offPayloadLength:]))
	}
	if protocol >= 0x20a {
		// A relocatable kernel, too, unpacks itself at its preferred address or above.
		end := binary.LittleEndian.Uint64(h[offPrefAddress:]) + uint64(binary.LittleEndian.Uint32(h[offInitSize:]))
		if end <= MaxVmlinux {
			out.end = int64(end)
		}
	}
	end := out.payload + out.payloadLen
	if protocol >= 0x204 {
		// In units of 16 bytes, the last of which need not be full, and with a checksum.
		end = max(end, setup+16*int64(binary.LittleEndian.Uint32(h[offSysSize:]))-20)
	}
	if end > size {
		return nil, fmt.Errorf("bzImage is cut short: %d bytes of %d; make or copy it again", size, end)
	}
	return out, nil
}

// The header of an Image, from the kernel's Documentation/arch/arm64/booting.rst and
// Documentation/arch/riscv/boot-image-header.rst.
const (
	offImageLoad   = 0x08
	offImageSize   = 0x10
	offImageMagic  = 0x38
	imageHeaderLen = 0x40
)

// imageHeader reads the header of an Image of the given size.
func imageHeader(a *arch.Arch, h []byte, size int64) (*Header, error) {
	load, room := binary.LittleEndian.Uint64(h[offImageLoad:]), binary.LittleEndian.Uint64(h[offImageSize:])
	out := &Header{Kind: Image, Arch: a}
	if load <= MaxVmlinux && room <= MaxVmlinux {
		out.end = int64(load + room)
	}
	// The size in the header counts memory that the kernel clears, too: what is missing of the
	// file is seen only where less than the program is there.
	if int64(room) > 0 && size < int64(room)/2 {
		return nil, fmt.Errorf("the kernel is cut short: %d bytes, for a kernel of %d in memory; make or copy it again",
			size, room)
	}
	return out, nil
}

// End returns where the memory ends that the kernel r of the given size starts in: its
// code and data, and the space in which a bzImage unpacks itself.
func End(r io.ReaderAt, size int64) (int64, error) {
	h, err := ReadHeader(r, size)
	if err != nil {
		return 0, err
	}
	if h.Kind != ELF {
		return max(h.end, size), nil
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return 0, ErrFormat
	}
	defer f.Close()
	end := int64(0)
	for _, p := range f.Progs {
		// What lies above is not memory that a kernel is loaded to.
		if p.Type == elf.PT_LOAD && p.Paddr <= MaxVmlinux && p.Memsz <= MaxVmlinux {
			end = max(end, int64(p.Paddr+p.Memsz))
		}
	}
	return end, nil
}

// firstWord returns the printable text before the first blank or NUL, or nothing.
func firstWord(b []byte) string {
	end := bytes.IndexAny(b, " \x00")
	if end < 0 {
		return ""
	}
	for _, c := range b[:end] {
		if c <= ' ' || c >= 0x7f || c == '/' {
			return ""
		}
	}
	return string(b[:end])
}

// Extract writes the vmlinux inside the bzImage r to w. An error means that the
// kernel can only be booted as the bzImage it is.
//
// It notes the compression, for [Header.SlowToUnpack].
func (h *Header) Extract(w io.Writer, r io.ReaderAt) error {
	if h.Kind != BzImage || h.payloadLen < 8 {
		return errors.New("extract vmlinux: the bzImage has no known payload")
	}
	// The last four bytes are the length of the content.
	src := decompress.NewSource(io.NewSectionReader(r, h.payload, h.payloadLen-4))
	prefix, err := src.Peek(decompress.MagicLen)
	if len(prefix) == 0 {
		return fmt.Errorf("extract vmlinux: %w", err)
	}
	if bytes.HasPrefix(prefix, []byte(elf.ELFMAG)) {
		_, err := io.Copy(w, io.NewSectionReader(r, h.payload, h.payloadLen))
		return err
	}
	f := decompress.Detect(prefix)
	h.compression = f
	if f == decompress.None {
		return fmt.Errorf("extract vmlinux: unknown compression (payload begins with % x)", prefix)
	}
	z, err := decompress.NewReader(f, src)
	if err != nil {
		return fmt.Errorf("extract vmlinux: %w", err)
	}
	defer z.Close()
	n, err := io.Copy(w, io.LimitReader(z, MaxVmlinux+1))
	if err != nil {
		return fmt.Errorf("extract vmlinux: %w", err)
	}
	if n > MaxVmlinux {
		return fmt.Errorf("extract vmlinux: content exceeds %d bytes", int64(MaxVmlinux))
	}
	return nil
}

// SlowToUnpack tells, after Extract, whether a guest takes long to unpack the
// kernel itself: LZ4 is made to be quick, 0.2 s for 50 MiB when emulated, where
// xz takes seconds.
func (h *Header) SlowToUnpack() bool {
	return h.compression != decompress.None && h.compression != decompress.LZ4
}

// Vmlinux is what an uncompressed kernel tells about itself.
type Vmlinux struct {
	// Version is the release, empty if the kernel has no banner.
	Version string `json:"version"`
	// PVH tells that the kernel has a PVH entry point, so that QEMU can start it
	// without decompression.
	PVH bool `json:"pvh"`
	// VirtioConsole tells that the virtio console driver is built in.
	VirtioConsole bool `json:"virtio_console"`
}

const (
	banner = "Linux version "
	// consoleMark is the name of the device class that only the virtio console
	// driver makes; it is in the kernel's data if the driver is built in.
	consoleMark = "virtio-ports\x00"
	// notePVH is XEN_ELFNOTE_PHYS32_ENTRY.
	notePVH = 18
)

// Inspect reads the vmlinux r of the given size.
func Inspect(r io.ReaderAt, size int64) (*Vmlinux, error) {
	if size > MaxVmlinux {
		return nil, fmt.Errorf("inspect vmlinux: %d bytes are too many", size)
	}
	h, err := ReadHeader(r, size)
	if err != nil || h.Kind == BzImage {
		return nil, fmt.Errorf("inspect vmlinux: %w", ErrFormat)
	}
	if h.Kind == Image {
		v := new(Vmlinux)
		return v, v.scan(io.NewSectionReader(r, 0, size))
	}
	f, err := elf.NewFile(r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("vmlinux is cut short: %d bytes; make or copy it again", size)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect vmlinux: %w", err)
	}
	defer f.Close()
	v := new(Vmlinux)
	for _, p := range f.Progs {
		if p.Off+p.Filesz > uint64(size) {
			return nil, fmt.Errorf("vmlinux is cut short: %d bytes of %d; make or copy it again", size, p.Off+p.Filesz)
		}
		if p.Type != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		notes := make([]byte, p.Filesz)
		if n, _ := p.ReadAt(notes, 0); hasNote(notes[:n], "Xen\x00", notePVH) {
			v.PVH = true
		}
	}
	return v, v.scan(io.NewSectionReader(r, 0, size))
}

// hasNote looks for an ELF note of the given owner and type.
func hasNote(b []byte, owner string, typ uint32) bool {
	for len(b) >= 12 {
		name := uint64(binary.LittleEndian.Uint32(b))
		desc := uint64(binary.LittleEndian.Uint32(b[4:]))
		t := binary.LittleEndian.Uint32(b[8:])
		b = b[12:]
		nameEnd := (name + 3) &^ 3
		end := nameEnd + (desc+3)&^3
		if end > uint64(len(b)) {
			return false
		}
		if t == typ && string(b[:name]) == owner {
			return true
		}
		b = b[end:]
	}
	return false
}

// scan searches the file for the banner and the driver's mark in one pass.
func (v *Vmlinux) scan(r io.Reader) error {
	const overlap = len(banner) + maxVersion
	buf := make([]byte, 1<<20)
	have := 0
	for {
		n, err := io.ReadFull(r, buf[have:])
		b := buf[:have+n]
		if !v.VirtioConsole {
			v.VirtioConsole = bytes.Contains(b, []byte(consoleMark))
		}
		if v.Version == "" {
			v.Version = findVersion(b)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF || v.VirtioConsole && v.Version != "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("inspect vmlinux: %w", err)
		}
		have = copy(buf, b[len(b)-overlap:])
	}
}

// findVersion returns the release of the first banner that has one: the kernel
// also holds the text as a format, "Linux version %s".
func findVersion(b []byte) string {
	for {
		i := bytes.Index(b, []byte(banner))
		if i < 0 {
			return ""
		}
		b = b[i+len(banner):]
		if v := firstWord(b[:min(len(b), maxVersion)]); v != "" && strings.IndexByte("0123456789", v[0]) >= 0 {
			return v
		}
	}
}

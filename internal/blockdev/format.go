package blockdev

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
)

// Formats of images. All but FormatRaw are read and written by a program that knows
// them, see Config.Image.
const (
	FormatRaw   = "raw"
	FormatQCOW2 = "qcow2"
	FormatVHD   = "vhd"
	FormatVHDX  = "vhdx"
	FormatVMDK  = "vmdk"
)

// Formats lists them.
func Formats() []string {
	return []string{FormatRaw, FormatQCOW2, FormatVHD, FormatVHDX, FormatVMDK}
}

// DetectFormat tells the format of an image by its content; what is in none of the
// others is raw, and so is what cannot be read.
func DetectFormat(path string) string {
	info, err := os.Stat(path) // a FIFO would block in open
	if err != nil || !info.Mode().IsRegular() {
		return FormatRaw
	}
	f, err := os.Open(path)
	if err != nil {
		return FormatRaw
	}
	defer f.Close()
	return formatOf(f, info.Size())
}

// formatOf looks at the marks that the formats have at their beginning and, of a VHD
// of fixed size, at the end.
func formatOf(r io.ReaderAt, size int64) string {
	var head [SectorSize]byte
	n, _ := r.ReadAt(head[:], 0)
	begins := func(mark string) bool { return bytes.HasPrefix(head[:n], []byte(mark)) }
	switch {
	case begins("QFI\xfb") && n >= 8 && binary.BigEndian.Uint32(head[4:]) >= 2:
		return FormatQCOW2
	case begins("vhdxfile"):
		return FormatVHDX
	case begins("KDMV"), begins("COWD"), begins("# Disk DescriptorFile"):
		return FormatVMDK
	case begins(vhdMark):
		return FormatVHD
	}
	var foot [SectorSize]byte
	if size <= SectorSize {
		return FormatRaw
	}
	// The version of the format stands behind the mark and four bytes of features.
	if n, _ := r.ReadAt(foot[:], size-SectorSize); n == len(foot) && bytes.HasPrefix(foot[:], []byte(vhdMark)) &&
		binary.BigEndian.Uint32(foot[12:]) == 0x00010000 {
		return FormatVHD
	}
	return FormatRaw
}

const vhdMark = "conectix"

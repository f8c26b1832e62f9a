package blockdev

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
)

// Formats of images. All but FormatRaw need a program that serves their contents, see
// Config.Server.
const (
	FormatRaw   = "raw"
	FormatQCOW2 = "qcow2"
	FormatVHD   = "vhd"
	FormatVHDX  = "vhdx"
	FormatVMDK  = "vmdk"
)

// Formats lists the formats.
func Formats() []string {
	return []string{FormatRaw, FormatQCOW2, FormatVHD, FormatVHDX, FormatVMDK}
}

// DetectFormat returns the format of an image by its content. An image in no other
// format is raw, and so is one that cannot be read.
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

// formatOf looks at the marks of the formats at the beginning of a file and, for a VHD of
// fixed size, at its end.
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

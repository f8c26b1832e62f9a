package userland

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// volume is a file system in an image of a disk.
type volume struct {
	at, size   int64 // bytes
	filesystem string
	partition  int // its number, 0 for the whole image
}

const (
	sector = 512

	// Limits for tables of partitions that are damaged or forged. Real ones have 128 entries of 128 bytes.
	maxPartitions    = 1024
	maxPartitionSize = 4096

	superblocks = 68 << 10 // bytes in which the file systems below say what they are
)

// rootTypes are the partition types of root file systems, as the firmware of their architecture looks for them.
var rootTypes = map[string]string{
	"\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09": "x86-64",
	"\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae": "arm64",
	"\xa6\x70\xec\x72\x74\xcf\xe6\x40\xbd\x49\x4b\xda\x08\xe8\xf2\x24": "riscv64",
	"\x40\x95\x47\x44\x97\xf2\xb2\x41\x9a\xf7\xd1\x31\xd5\xf0\x45\x8a": "x86",
	"\xee\x4c\xdb\x69\x72\x76\x0e\x4a\x98\xf2\xed\x53\x9a\xac\x04\xa5": "arm",
}

// looksLikeDisk reports whether a file that begins like this is an image of a disk, and not an archive.
func looksLikeDisk(head []byte) bool {
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return false
	}
	kind, _ := filesystemOf(head)
	return kind != "" || isQcow2(head) || hasGPT(head) || hasMBR(head)
}

func isQcow2(head []byte) bool { return bytes.HasPrefix(head, []byte("QFI\xfb")) }

func hasGPT(head []byte) bool {
	return len(head) >= sector+8 && string(head[sector:sector+8]) == "EFI PART"
}

func hasMBR(head []byte) bool { return len(head) >= sector && head[510] == 0x55 && head[511] == 0xaa }

// isProtective reports whether the first partition of an MBR stands for a GPT.
func isProtective(head []byte) bool { return hasMBR(head) && head[450] == 0xee }

// findVolume returns the root file system of an image of size bytes: the image itself, or a partition of it.
func findVolume(r io.ReaderAt, size int64) (volume, error) {
	head, err := readHead(r, 0, size)
	if err != nil {
		return volume{}, err
	}
	v, err := volumeAt(r, 0, size)
	switch {
	case err != nil || v.filesystem != "":
		return v, err
	case hasGPT(head):
		return partitioned(r, head[sector:2*sector], size)
	case isProtective(head):
		return v, errors.New("its partition table (GPT) is damaged: it has no header")
	case hasMBR(head):
		return v, errors.New("it has a partition table of the old kind (MBR); only GPT is understood")
	}
	return v, errors.New("it has neither a partition table (GPT) nor a file system (ext4, xfs, btrfs, squashfs, erofs)")
}

// readHead returns what the file system at that place says about itself.
func readHead(r io.ReaderAt, at, size int64) ([]byte, error) {
	head := make([]byte, max(min(size, superblocks), 0))
	if n, err := r.ReadAt(head, at); err != nil && (err != io.EOF || n < len(head)) {
		return nil, reason(err)
	}
	return append(head, make([]byte, superblocks-len(head))...), nil
}

// volumeAt returns what of an image has a file system; the field is "" for none.
func volumeAt(r io.ReaderAt, at, size int64) (volume, error) {
	head, err := readHead(r, at, size)
	if err != nil {
		return volume{}, err
	}
	size -= size % sector
	kind, used := filesystemOf(head)
	if kind != "" && (used <= 0 || used > size) {
		return volume{}, fmt.Errorf("its file system (%s) has %d bytes, and there are %d: it is damaged or cut short",
			kind, used, size)
	}
	return volume{at: at, size: size, filesystem: kind}, nil
}

// filesystemOf returns the file system that begins like this, and its size in bytes; "" for an unknown one.
func filesystemOf(head []byte) (kind string, size int64) {
	head = append(bytes.Clone(head), make([]byte, max(superblocks-len(head), 0))...)
	be := binary.BigEndian
	shifted := func(n uint64, by uint32) int64 {
		if by > 16 || n > 1<<46 {
			return -1
		}
		return int64(n << by)
	}
	ext, erofs, btrfs := head[1024:2048], head[1024:2048], head[64<<10:]
	switch {
	case le.Uint16(ext[0x38:]) == 0xef53:
		blocks := uint64(le.Uint32(ext[4:]))
		if le.Uint32(ext[0x60:])&0x80 != 0 { // 64 bit
			blocks |= uint64(le.Uint32(ext[0x150:])) << 32
		}
		return "ext4", shifted(blocks, 10+min(le.Uint32(ext[0x18:]), 32))
	case string(head[:4]) == "XFSB":
		if size := be.Uint32(head[4:]); size > 1<<16 || be.Uint64(head[8:]) > 1<<46 {
			return "xfs", -1
		}
		return "xfs", int64(be.Uint32(head[4:])) * int64(be.Uint64(head[8:]))
	case string(btrfs[0x40:0x48]) == "_BHRfS_M":
		return "btrfs", shifted(le.Uint64(btrfs[0x70:]), 0)
	case string(head[:4]) == "hsqs":
		return "squashfs", shifted(le.Uint64(head[40:]), 0)
	case le.Uint32(erofs) == 0xe0f5e1e2:
		return "erofs", shifted(uint64(le.Uint32(erofs[36:])), uint32(erofs[12]))
	}
	return "", 0
}

// partitioned returns the root file system of an image with a GPT: that of the partition with the type of one, else
// the largest.
func partitioned(r io.ReaderAt, header []byte, size int64) (best volume, err error) {
	entries, each, err := readGPT(r, header)
	if err != nil {
		return best, fmt.Errorf("its partition table (GPT) is damaged: %w", err)
	}
	var zero [16]byte
	foreign := ""
	for i := 0; i*each < len(entries); i++ {
		e := entries[i*each : (i+1)*each]
		if bytes.Equal(e[:16], zero[:]) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first > last || last >= uint64(size/sector) {
			return best, fmt.Errorf("its partition %d reaches from sector %d to %d, and there are %d sectors: the "+
				"partition table (GPT) is damaged or the image cut short", i+1, first, last, size/sector)
		}
		v, err := volumeAt(r, int64(first)*sector, int64(last-first+1)*sector)
		v.partition = i + 1
		root := rootTypes[string(e[:16])]
		switch {
		case err != nil:
			return best, fmt.Errorf("partition %d: %w", i+1, err)
		case root == "x86-64" && v.filesystem == "":
			return best, fmt.Errorf("its partition %d has the type of a root file system, and no file system that is "+
				"known (ext4, xfs, btrfs, squashfs, erofs)", i+1)
		case root == "x86-64":
			return v, nil
		case root != "":
			foreign = fmt.Sprintf("its partition %d is the root file system of another architecture: %s", i+1, root)
		case v.filesystem != "" && v.size > best.size:
			best = v
		}
	}
	switch {
	case foreign != "":
		return best, errors.New(foreign)
	case best.filesystem == "":
		return best, errors.New("none of its partitions has a file system that is known (ext4, xfs, btrfs, squashfs, " +
			"erofs)")
	}
	return best, nil
}

// readGPT returns the entries of a table, each of so many bytes.
func readGPT(r io.ReaderAt, header []byte) (entries []byte, each int, err error) {
	length := le.Uint32(header[12:])
	if length < 92 || length > sector {
		return nil, 0, errors.New("the length of its header")
	}
	checked := bytes.Clone(header[:length])
	clear(checked[16:20])
	if crc32.ChecksumIEEE(checked) != le.Uint32(header[16:]) {
		return nil, 0, errors.New("the checksum of its header is wrong")
	}
	at, n, size := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if n > maxPartitions || size < 128 || size > maxPartitionSize || at > 1<<40 {
		return nil, 0, errors.New("the place of its entries")
	}
	entries = make([]byte, int(n)*int(size))
	if _, err := r.ReadAt(entries, int64(at)*sector); err != nil {
		return nil, 0, errors.New("its entries are missing")
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, 0, errors.New("the checksum of its entries is wrong")
	}
	return entries, int(size), nil
}

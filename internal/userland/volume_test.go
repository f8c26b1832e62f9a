package userland

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	linuxType = "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"
	rootType  = "\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09"
	arm64Type = "\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae"
)

// putExt4 writes what an ext4 of so many blocks of 1 KiB says about itself.
func putExt4(image []byte, blocks uint32) {
	le.PutUint32(image[1024+4:], blocks)
	le.PutUint16(image[1024+0x38:], 0xef53)
}

type partition struct {
	kind        string
	first, last uint64
}

// gpt returns an image of 1 MiB with a table of partitions.
func gpt(partitions ...partition) []byte {
	image := make([]byte, 1<<20)
	image[450], image[510], image[511] = 0xee, 0x55, 0xaa
	entries := image[2*sector : 2*sector+8*128]
	for i, p := range partitions {
		copy(entries[i*128:], p.kind)
		le.PutUint64(entries[i*128+32:], p.first)
		le.PutUint64(entries[i*128+40:], p.last)
	}
	h := image[sector : 2*sector]
	copy(h, "EFI PART")
	for at, v := range map[int]uint32{12: 92, 72: 2, 80: 8, 84: 128, 88: crc32.ChecksumIEEE(entries)} {
		le.PutUint32(h[at:], v)
	}
	seal(image)
	return image
}

func seal(image []byte) {
	h := image[sector : sector+92]
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

func TestFindVolume(t *testing.T) {
	two := []partition{{linuxType, 64, 127}, {linuxType, 128, 1999}}
	with := func(image []byte, change func(image []byte)) []byte {
		change(image)
		return image
	}
	ext4 := func(at, blocks int) func([]byte) {
		return func(image []byte) { putExt4(image[at:], uint32(blocks)) }
	}
	both := with(with(gpt(two...), ext4(64*sector, 32)), ext4(128*sector, 900))
	empty := func() []byte { return make([]byte, 1<<20) }
	for name, c := range map[string]struct {
		image []byte
		want  string // the volume, or the error
	}{
		"whole":     {with(empty(), ext4(0, 1024)), "{0 1048576 ext4 0}"},
		"odd size":  {with(make([]byte, 1<<20+7), ext4(0, 1024)), "{0 1048576 ext4 0}"},
		"cut short": {with(empty(), ext4(0, 1025)), "has 1049600 bytes, and there are 1048576"},
		"no size":   {with(empty(), ext4(0, 0)), "damaged or cut short"},
		"largest":   {both, "{65536 958464 ext4 2}"},
		"root": {with(gpt(partition{rootType, 64, 127}, two[1]), ext4(64*sector, 32)),
			"{32768 32768 ext4 1}"},
		"root without":   {gpt(partition{rootType, 64, 127}), "type of a root file system, and no file system"},
		"foreign root":   {gpt(partition{arm64Type, 64, 127}), "of another architecture: arm64"},
		"no file system": {gpt(two...), "none of its partitions has a file system"},
		"no partition":   {gpt(), "none of its partitions"},
		"cut partition": {with(gpt(two...), ext4(128*sector, 2000)),
			"partition 2: its file system (ext4) has 2048000"},
		"beyond the end": {gpt(partition{linuxType, 64, 1 << 40}), "partition 1 reaches from sector 64 to"},
		"backwards":      {gpt(partition{linuxType, 64, 63}), "partition 1 reaches from sector 64 to 63"},
		"header":         {with(gpt(two...), func(b []byte) { b[sector+60]++ }), "the checksum of its header"},
		"entries":        {with(gpt(two...), func(b []byte) { b[2*sector+60]++ }), "the checksum of its entries"},
		"no header":      {with(gpt(two...), func(b []byte) { clear(b[sector : 2*sector]) }), "it has no header"},
		"length":         {with(gpt(), func(b []byte) { le.PutUint32(b[sector+12:], 1<<31) }), "the length of its"},
		"many entries": {with(gpt(), func(b []byte) { le.PutUint32(b[sector+80:], 1<<31); seal(b) }),
			"the place of"},
		"far entries": {with(gpt(), func(b []byte) { le.PutUint32(b[sector+72:], 1<<31); seal(b) }), "are missing"},
		"old kind":    {with(empty(), func(b []byte) { b[510], b[511] = 0x55, 0xaa }), "(MBR)"},
		"nothing":     {empty(), "neither a partition table (GPT) nor a file system"},
		"empty":       {nil, "neither a partition table"},
		"xfs": {with(empty(), func(b []byte) { copy(b, "XFSB\x00\x00\x10\x00"); b[14] = 1 }),
			"{0 1048576 xfs 0}"},
		"xfs without size": {with(empty(), func(b []byte) { copy(b, "XFSB\xff\xff\xff\xff\xff") }), "damaged"},
		"squashfs":         {with(empty(), func(b []byte) { copy(b, "hsqs"); b[41] = 1 }), "{0 1048576 squashfs 0}"},
		"btrfs": {with(empty(), func(b []byte) { copy(b[65600:], "_BHRfS_M"); b[65536+0x71] = 1 }),
			"{0 1048576 btrfs 0}"},
		"erofs": {with(empty(), func(b []byte) {
			le.PutUint32(b[1024:], 0xe0f5e1e2)
			b[1024+12], b[1024+36] = 12, 2
		}), "{0 1048576 erofs 0}"},
	} {
		v, err := findVolume(bytes.NewReader(c.image), int64(len(c.image)))
		got := fmt.Sprint(v)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if len(c.image) > 0 && looksLikeDisk(c.image[:superblocks]) != (name != "nothing") {
			t.Errorf("%s: is it a disk?", name)
		}
	}
}

func FuzzVolume(f *testing.F) {
	f.Add(gpt(partition{rootType, 64, 127}))
	whole := make([]byte, 2048)
	putExt4(whole, 2)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, image []byte) {
		looksLikeDisk(image)
		v, err := findVolume(bytes.NewReader(image), int64(len(image)))
		if err == nil && (v.at < 0 || v.size <= 0 || v.at+v.size > int64(len(image)) || v.filesystem == "") {
			t.Errorf("%+v of %d bytes", v, len(image))
		}
	})
}

// copier is a program that writes one file.
type copier struct{ content []byte }

func (c copier) Run(_ context.Context, _ string, _ []string, _ string, args ...string) ([]byte, []byte, error) {
	return nil, nil, os.WriteFile(args[len(args)-1], c.content, 0o600)
}

// The guest sees the file system of a disk, as its bytes are there.
func TestDisk(t *testing.T) {
	image := gpt(partition{rootType, 64, 1999})
	for i := 64*sector + 2048; i < 2000*sector; i++ {
		image[i] = byte(i / 777)
	}
	putExt4(image[64*sector:], 900)
	qcow2 := make([]byte, 104)
	copy(qcow2, "QFI\xfb\x00\x00\x00\x03")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "d.raw"), string(image), 0o644)
	put(t, filepath.Join(dir, "d.qcow2"), string(qcow2), 0o644)
	for _, name := range []string{"d.raw", "d.qcow2"} {
		m := newMaker(t)
		m.Runner = copier{image}
		u, err := m.Make(t.Context(), Source{Kind: Directory, Path: filepath.Join(dir, name)})
		must(t, err)
		if u.Filesystem != "ext4" || u.Partition != 1 || u.Size != 1936*sector ||
			u.Source.Kind != Disk || u.HasInit || !u.Source.MayHaveInit() {
			t.Errorf("%s: %+v", name, u)
		}
		c, err := Open(u.Index)
		must(t, err)
		got := make([]byte, c.Size())
		if _, err := c.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, image[64*sector:2000*sector]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		must(t, c.Close())
	}
	for want, change := range map[string]func(b []byte){
		"it is a qcow2 image over another file":             func(b []byte) { b[15] = 1 },
		"it is a qcow2 image whose contents are in another": func(b []byte) { b[79] = 4 },
		"it is a qcow2 image of version 9":                  func(b []byte) { b[7] = 9 },
		"it is a qcow2 image of 18446744073709551615 bytes": func(b []byte) {
			binary.BigEndian.PutUint64(b[24:], 1<<64-1)
		},
	} {
		bad := bytes.Clone(qcow2)
		change(bad)
		put(t, filepath.Join(dir, "bad"), string(bad), 0o644)
		_, err := newMaker(t).Make(t.Context(), Source{Kind: Directory, Path: filepath.Join(dir, "bad")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

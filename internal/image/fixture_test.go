package image

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"provium/internal/image/cpio"
)

// testVmlinux makes a small ELF file with one Xen note.
func testVmlinux(note uint32, text string) []byte {
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00\x01\x00\x00\x00")
	for _, v := range []uint64{0, 64, 0} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint64(b, 4|4<<32)
	for _, v := range []uint64{120, 0, 0, 24, 24, 4} {
		b = le.AppendUint64(b, v)
	}
	for _, v := range []uint32{4, 8, note} {
		b = le.AppendUint32(b, v)
	}
	return append(append(b, "Xen\x00\x00\x00\x00\x01\x00\x00\x00\x00"...), text...)
}

// testBzImage wraps a vmlinux; payload "" gives one that cannot be unpacked.
func testBzImage(t testing.TB, release string, vmlinux []byte) []byte {
	payload := []byte("no known compression")
	if vmlinux != nil {
		payload = binary.LittleEndian.AppendUint32(gzipped(t, vmlinux), uint32(len(vmlinux)))
	}
	b := make([]byte, 3*512)
	le := binary.LittleEndian
	b[0x1f1] = 2
	le.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x202:], "HdrS\x0f\x02")
	le.PutUint16(b[0x20e:], 0x200)
	copy(b[0x400:], release+" (me@here)\x00")
	b[0x236] = 1
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(b, payload...)
}

const consoleText = "virtio-ports\x00"

func testKo(depends string) []byte {
	le := binary.LittleEndian
	text := "depends=" + depends + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x3e\x00\x01\x00\x00\x00")
	for _, v := range []uint64{0, 0, uint64(64 + len(text) + len(names))} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 0, 0, 64, 3, 2} {
		b = le.AppendUint16(b, v)
	}
	b = append(append(b, text...), names...)
	for _, s := range [][4]int{{}, {1, 1, 64, len(text)}, {10, 3, 64 + len(text), len(names)}} {
		b = le.AppendUint64(b, uint64(s[0])|uint64(s[1])<<32)
		for _, v := range []int{0, 0, s[2], s[3], 0, 1, 0} {
			b = le.AppendUint64(b, uint64(v))
		}
	}
	return b
}

func put(t testing.TB, data []byte, parts ...string) string {
	t.Helper()
	p := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// putKernel installs a kernel and its modules below root.
func putKernel(t testing.TB, root, release string) string {
	t.Helper()
	for name, deps := range map[string]string{
		"virtio": "", "virtio_ring": "virtio", "virtio_pci": "virtio,virtio_ring", "virtio_console": "virtio_ring",
		"virtio_net": "virtio", "virtio_blk": "virtio", "virtio-rng": "virtio", "dummy": "",
	} {
		put(t, testKo(deps), root, "lib/modules", release, "kernel", name+".ko")
	}
	put(t, []byte("kernel/button.ko\nkernel/evdev.ko\n"), root, "lib/modules", release, "modules.builtin")
	return put(t, testBzImage(t, release, testVmlinux(18, "Linux version "+release+" ()")), root, "boot", "vmlinuz-"+
		release)
}

func testPayload() fstest.MapFS {
	return fstest.MapFS{
		"provium-agent":   {Data: []byte("AGENT")},
		"busybox":         {Data: []byte("BUSYBOX")},
		"busybox.applets": {Data: []byte("bin/sh\nbin/busybox\nlinuxrc\nsbin/init\nusr/bin/env\n")},
	}
}

func testStore(t testing.TB, change func(*Config)) *Store {
	t.Helper()
	cfg := Config{CacheDir: filepath.Join(t.TempDir(), "cache"), Payload: testPayload(), HostRoot: t.TempDir(),
		HostRelease: "1.0-host"}
	if change != nil {
		change(&cfg)
	}
	s, err := NewStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contents lists an initrd's files with their content, later ones winning.
func contents(t testing.TB, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for len(bytes.TrimLeft(data, "\x00")) > 0 {
		skip := len(data) - len(bytes.TrimLeft(data, "\x00"))
		if skip%4 != 0 {
			t.Fatalf("archive after %d zeros", skip)
		}
		data = data[skip:]
		r := cpio.NewReader(bytes.NewReader(data))
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			out[e.Name] = string(b)
		}
		data = data[r.Offset():]
	}
	return out
}

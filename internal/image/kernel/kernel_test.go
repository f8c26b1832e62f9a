package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// vmlinux makes a small ELF file with one note segment.
func vmlinux(noteType uint32, text string) []byte {
	le := binary.LittleEndian
	var note []byte
	note = le.AppendUint32(note, 4)
	note = le.AppendUint32(note, 8)
	note = le.AppendUint32(note, noteType)
	note = append(note, "Xen\x00"...)
	note = le.AppendUint64(note, 0x1000000)

	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = le.AppendUint16(b, 2)  // executable
	b = le.AppendUint16(b, 62) // x86-64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, 64) // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 4) // PT_NOTE
	b = le.AppendUint32(b, 4)
	for _, v := range []uint64{120, 0, 0, uint64(len(note)), uint64(len(note)), 4} {
		b = le.AppendUint64(b, v)
	}
	return append(append(b, note...), text...)
}

const text = "Linux version %s\x00 and so on Linux version 6.6.6-test+ (me@here) #1\x00 virtio-ports\x00"

// bzImage wraps a payload into a setup header.
func bzImage(version string, protocol, xload uint16, payload []byte) []byte {
	b := make([]byte, 3*512)
	le := binary.LittleEndian
	b[offSetupSects] = 2
	le.PutUint16(b[offBootFlag:], 0xaa55)
	copy(b[offMagic:], "HdrS")
	le.PutUint16(b[offProtocol:], protocol)
	if version != "" {
		le.PutUint16(b[offKernelVersion:], 0x200)
		copy(b[0x400:], version+" (me@here) #1 SMP\x00")
	}
	le.PutUint16(b[offXLoadFlags:], xload)
	le.PutUint32(b[offPayload:], 16)
	le.PutUint32(b[offPayloadLength:], uint32(len(payload)))
	return append(append(b, make([]byte, 16)...), payload...)
}

func gz(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.AppendUint32(b.Bytes(), uint32(len(data)))
}

func TestBzImage(t *testing.T) {
	elf := vmlinux(notePVH, text)
	image := bzImage("6.6.6-test+", 0x20f, 1, gz(t, elf))
	h, err := ReadHeader(bytes.NewReader(image), int64(len(image)))
	if err != nil || h.Kind != BzImage || h.Version != "6.6.6-test+" {
		t.Fatalf("%+v, %v", h, err)
	}
	var out bytes.Buffer
	if err := h.Extract(&out, bytes.NewReader(image)); err != nil || !bytes.Equal(out.Bytes(), elf) {
		t.Fatalf("extracted %d bytes of %d, %v", out.Len(), len(elf), err)
	}
	v, err := Inspect(bytes.NewReader(elf), int64(len(elf)))
	if want := (Vmlinux{"6.6.6-test+", true, true}); err != nil || *v != want {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestEnd(t *testing.T) {
	le := binary.LittleEndian
	elf := vmlinux(notePVH, text)
	le.PutUint32(elf[64:], 1)         // PT_LOAD
	le.PutUint64(elf[64+24:], 16<<20) // physical address
	le.PutUint64(elf[64+40:], 40<<20) // size in memory
	image := bzImage("6.1", 0x20f, 1, make([]byte, 1024))
	le.PutUint64(image[offPrefAddress:], 16<<20)
	le.PutUint32(image[offInitSize:], 60<<20)
	old := bzImage("6.1", 0x209, 1, make([]byte, 1024))
	for name, c := range map[string]struct {
		file []byte
		want int64
	}{"vmlinux": {elf, 56 << 20}, "bzImage": {image, 76 << 20}, "old bzImage": {old, int64(len(old))}} {
		if got, err := End(bytes.NewReader(c.file), int64(len(c.file))); err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
	}
	if _, err := End(strings.NewReader("no kernel"), 9); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func TestInspectLarge(t *testing.T) {
	// The texts stand across the borders of the scan's buffer.
	for shift := range 40 {
		elf := vmlinux(6, strings.Repeat("x", 1<<20-200+shift*10)+text)
		v, err := Inspect(bytes.NewReader(elf), int64(len(elf)))
		if want := (Vmlinux{"6.6.6-test+", false, true}); err != nil || *v != want {
			t.Errorf("%+v, %v", v, err)
		}
	}
}

// image returns an Image of size bytes.
func image(magic string, size int) []byte {
	out := make([]byte, size)
	copy(out, "MZ")
	binary.LittleEndian.PutUint64(out[offImageLoad:], 2<<20)
	binary.LittleEndian.PutUint64(out[offImageSize:], uint64(size))
	copy(out[offImageMagic:], magic)
	copy(out[size/2:], "Linux version 6.6.6-test (gcc)\x00virtio-ports\x00")
	return out
}

func TestImage(t *testing.T) {
	for magic, want := range map[string]string{"ARM\x64": "arm64", "RSC\x05": "riscv64"} {
		file := image(magic, 1<<20)
		h, err := ReadHeader(bytes.NewReader(file), int64(len(file)))
		if err != nil || h.Kind != Image || h.Arch.Name != want {
			t.Fatalf("%s: %+v, %v", want, h, err)
		}
		v, err := Inspect(bytes.NewReader(file), int64(len(file)))
		if err != nil || *v != (Vmlinux{Version: "6.6.6-test", VirtioConsole: true}) {
			t.Errorf("%s: %+v, %v", want, v, err)
		}
		if end, err := End(bytes.NewReader(file), int64(len(file))); err != nil || end != 3<<20 {
			t.Errorf("%s: %d, %v", want, end, err)
		}
	}
}

func TestBadKernels(t *testing.T) {
	payload := gz(t, vmlinux(notePVH, ""))
	good := bzImage("6.6.6", 0x20f, 1, payload)
	long := append(bzImage("6.6.6", 0x20f, 1, payload), make([]byte, 1024)...)
	binary.LittleEndian.PutUint32(long[offSysSize:], uint32(len(long)-(int(long[offSetupSects])+1)*sector+15)/16)
	arm := vmlinux(notePVH, "")
	arm[18] = 183
	vax := vmlinux(notePVH, "")
	vax[18] = 75
	arm64 := image("ARM\x64", 1<<20)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "the file is empty"},
		{"cut header", good[:500], ErrFormat.Error()},
		{"text", []byte(strings.Repeat("not a kernel ", 100)), ErrFormat.Error()},
		{"cut", good[:len(good)-5], fmt.Sprintf("bzImage is cut short: %d bytes of %d", len(good)-5, len(good))},
		{"cut behind the payload", long[:len(long)-30], fmt.Sprintf("bzImage is cut short: %d bytes", len(long)-30)},
		{"32 bit", bzImage("6.6.6", 0x20f, 0, payload), "32-bit kernel"},
		{"arm", arm, "give the Image of the same build"},
		{"vax", vax, "another machine"},
		{"cut Image", arm64[:1<<18], "the kernel is cut short: 262144 bytes, for a kernel of 1048576 in memory"},
	} {
		_, err := ReadHeader(bytes.NewReader(c.data), int64(len(c.data)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		incomplete := c.name == "empty" || strings.Contains(c.want, "cut short")
		if errors.Is(err, ErrFormat) == incomplete {
			t.Errorf("%s: ErrFormat is %t", c.name, !incomplete)
		}
	}
	if _, err := ReadHeader(bytes.NewReader(long), int64(len(long))); err != nil {
		t.Error(err)
	}
	elf := vmlinux(notePVH, text)
	for _, n := range []int{100, 125} {
		if _, err := Inspect(bytes.NewReader(elf[:n]), int64(n)); err == nil ||
			!strings.Contains(err.Error(), fmt.Sprintf("vmlinux is cut short: %d bytes", n)) {
			t.Errorf("%d bytes of a vmlinux: %v", n, err)
		}
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"unknown", bzImage("6.6.6", 0x20f, 1, []byte("who knows what")), "unknown compression"},
		{"old", bzImage("6.6.6", 0x207, 1, payload), "no known payload"},
		{"damaged", bzImage("6.6.6", 0x20f, 1, payload[:len(payload)-20]), "gzip"},
	} {
		h, err := ReadHeader(bytes.NewReader(c.data), int64(len(c.data)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := h.Extract(new(bytes.Buffer), bytes.NewReader(c.data)); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// A plain ELF payload and a header without a version.
	image := bzImage("", 0x20f, 1, vmlinux(notePVH, text))
	h, err := ReadHeader(bytes.NewReader(image), int64(len(image)))
	if err != nil || h.Version != "" {
		t.Fatalf("%+v, %v", h, err)
	}
	var out bytes.Buffer
	if err := h.Extract(&out, bytes.NewReader(image)); err != nil || out.Len() == 0 {
		t.Errorf("plain payload: %d bytes, %v", out.Len(), err)
	}
}

func FuzzKernel(f *testing.F) {
	f.Add(vmlinux(notePVH, text))
	f.Add(bzImage("6.6.6", 0x20f, 1, gz(f, vmlinux(notePVH, text))))
	f.Add(bzImage("", 0x20f, 1, vmlinux(1, "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if end, err := End(r, int64(len(data))); err == nil && (end < 0 || end > 2*MaxVmlinux) {
			t.Errorf("the kernel ends at %d", end)
		}
		h, err := ReadHeader(r, int64(len(data)))
		if err != nil {
			return
		}
		if strings.ContainsAny(h.Version, "/ \x00\n") {
			t.Fatalf("version %q", h.Version)
		}
		if h.Kind == ELF {
			v, err := Inspect(r, int64(len(data)))
			if err == nil && !bytes.Contains(data, []byte(banner+v.Version)) && v.Version != "" {
				t.Errorf("version %q is not in the file", v.Version)
			}
			if err == nil && v.VirtioConsole != bytes.Contains(data, []byte(consoleMark)) {
				t.Errorf("virtio console: %v", v.VirtioConsole)
			}
			return
		}
		var first, second limited
		err1, err2 := h.Extract(&first, r), h.Extract(&second, r)
		if (err1 == nil) != (err2 == nil) || first.sum != second.sum {
			t.Errorf("extracted twice: %v and %v, sums %x and %x", err1, err2, first.sum, second.sum)
		}
	})
}

// FuzzExtract checks that the content of a bzImage comes out as it went in.
func FuzzExtract(f *testing.F) {
	f.Add("6.6.6-test+", vmlinux(notePVH, text))
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, version string, content []byte) {
		if len(version) > 40 || strings.ContainsAny(version, "\x00") {
			return
		}
		image := bzImage(version, 0x20f, 1, gz(t, content))
		h, err := ReadHeader(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Fatal(err)
		}
		if want := firstWord([]byte(version + "\x00")); h.Version != want {
			t.Errorf("version %q, want %q", h.Version, want)
		}
		var out bytes.Buffer
		if err := h.Extract(&out, bytes.NewReader(image)); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("%d bytes became %d, %v", len(content), out.Len(), err)
		}
	})
}

// limited takes 4 MiB, of which it keeps a checksum.
type limited struct {
	n   int
	sum uint32
}

func (l *limited) Write(p []byte) (int, error) {
	l.sum = crc32.Update(l.sum, crc32.IEEETable, p)
	if l.n += len(p); l.n > 4<<20 {
		return 0, errors.New("enough")
	}
	return len(p), nil
}

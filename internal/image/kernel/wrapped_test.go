package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// zipped compresses a text.
func zipped(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text) // a buffer takes all
	_ = z.Close()
	return b.Bytes()
}

// zboot makes an EFI zboot image of a payload.
func zboot(payload []byte) []byte {
	b := make([]byte, 512)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[8:], 512)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	copy(b[24:], "gzip")
	return append(append(b, payload...), 0, 0, 0, 0)
}

// section is one of an EFI program.
type section struct{ name, content string }

// efi makes an EFI program of sections, each filled up to a multiple of 512 bytes.
func efi(sections ...section) []byte {
	le := binary.LittleEndian
	b := make([]byte, 1024)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 64)
	copy(b[64:], "PE\x00\x00\x64\x86")
	le.PutUint16(b[64+6:], uint16(len(sections)))
	for i, s := range sections {
		h := b[64+24+40*i:]
		copy(h[:8], s.name)
		size := (len(s.content) + 511) / 512 * 512
		for at, v := range map[int]int{8: len(s.content), 16: size, 20: len(b)} {
			le.PutUint32(h[at:], uint32(v))
		}
		b = append(append(b, s.content...), make([]byte, size-len(s.content))...)
	}
	return b
}

func TestWrapped(t *testing.T) {
	inner := bzImage("6.6.6-test", 0x20f, 1, []byte("payload"))
	kernel := string(inner)
	uki := efi(section{".osrel", "NAME=x"}, section{".linux", kernel},
		section{".cmdline", "quiet root=/dev/vda \n\x00"}, section{".initrd", "070701 archive"},
		section{".cmdline", "of another profile"})
	for name, c := range map[string]struct {
		file            []byte
		wrapping        Wrapping
		initrd, cmdline string
	}{
		"compressed": {zipped(inner), Compressed, "", ""},
		"zboot":      {zboot(zipped(inner)), ZBoot, "", ""},
		"unified":    {uki, Unified, "070701 archive", "quiet root=/dev/vda"},
		"bare":       {efi(section{".linux", kernel}), Unified, "", ""},
	} {
		r := bytes.NewReader(c.file)
		w, err := FindWrapped(r, r.Size())
		if err != nil || w.Wrapping != c.wrapping {
			t.Errorf("%s: %+v, %v", name, w, err)
			continue
		}
		var out bytes.Buffer
		if err := w.WriteKernel(&out, r); err != nil || out.String() != kernel {
			t.Errorf("%s: %d bytes of %d, %v", name, out.Len(), len(kernel), err)
		}
		initrd := ""
		if in, err := w.Initrd(r); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if in != nil {
			text, err := io.ReadAll(in)
			if initrd = string(text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		cmdline, err := w.Cmdline(r)
		if err != nil || initrd != c.initrd || cmdline != c.cmdline {
			t.Errorf("%s: initrd %q, command line %q, %v", name, initrd, cmdline, err)
		}
		if _, err := ReadHeader(r, r.Size()); !errors.Is(err, ErrFormat) {
			t.Errorf("%s is a kernel without anything around it: %v", name, err)
		}
	}
}

func TestDamagedWrapped(t *testing.T) {
	inner := bzImage("6.6.6-test", 0x20f, 1, []byte(strings.Repeat("payload", 500)))
	uki := efi(section{".linux", string(inner)}, section{".initrd", strings.Repeat("x", 5000)})
	packed := zipped(inner)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":                  {nil, ErrFormat.Error()},
		"text":                   {[]byte(strings.Repeat("no kernel", 100)), ErrFormat.Error()},
		"another program":        {efi(section{".text", "code"}), ErrFormat.Error()},
		"no program":             {[]byte("MZ" + strings.Repeat("\xff", 2000)), ErrFormat.Error()},
		"cut":                    {uki[:len(uki)-1000], "cut short: its section .initrd ends at"},
		"cut zboot":              {zboot(packed)[:600], "the EFI zboot image is cut short: 600 bytes of"},
		"cut compressed":         {packed[:len(packed)-20], "compressed kernel is cut short"},
		"zboot without payload":  {zboot(nil), "cut short"},
		"zboot, unknown payload": {zboot([]byte("no compression at all")), "EFI zboot kernel: unknown compression"},
	} {
		r := bytes.NewReader(c.file)
		w, err := FindWrapped(r, r.Size())
		if err == nil {
			err = w.WriteKernel(io.Discard, r)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzWrapped(f *testing.F) {
	inner := bzImage("6.6.6-test", 0x20f, 1, []byte("payload"))
	f.Add(zipped(inner))
	f.Add(zboot(zipped(inner)))
	f.Add(efi(section{".linux", string(inner)}, section{".initrd", "x"}, section{".cmdline", "quiet"}))
	f.Fuzz(func(t *testing.T, file []byte) {
		r := bytes.NewReader(file)
		w, err := FindWrapped(r, r.Size())
		if err != nil {
			return
		}
		for _, p := range []part{w.kernel, w.initrd, w.cmdline} {
			if p.at < 0 || p.size < 0 || p.size > 0 && p.at+p.size > r.Size() {
				t.Errorf("%+v of %d bytes", p, r.Size())
			}
		}
		_ = w.WriteKernel(io.Discard, r)
		if text, err := w.Cmdline(r); err == nil && len(text) > maxWrappedCmdline {
			t.Errorf("a command line of %d bytes", len(text))
		}
	})
}

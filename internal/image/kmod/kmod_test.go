package kmod

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ko makes a module file: an ELF object with a .modinfo section.
func ko(info ...string) []byte {
	le := binary.LittleEndian
	text := strings.Join(info, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = le.AppendUint16(b, 1)
	b = le.AppendUint16(b, 62)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, uint64(64+len(text)+len(names))) // section headers
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 0, 0, 64, 3, 2} {
		b = le.AppendUint16(b, v)
	}
	b = append(append(b, text...), names...)
	section := func(name, typ uint32, off, size int) {
		b = le.AppendUint32(b, name)
		b = le.AppendUint32(b, typ)
		for _, v := range []int{0, 0, off, size} {
			b = le.AppendUint64(b, uint64(v))
		}
		b = le.AppendUint64(b, 0)
		b = le.AppendUint64(b, 1)
		b = le.AppendUint64(b, 0)
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, len(text))
	section(10, 3, 64+len(text), len(names))
	return b
}

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree makes a module tree, without depmod's index.
func tree(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "6.6.6")
	write(t, dir, "kernel/virtio/virtio.ko", ko("depends=", "license=GPL"))
	write(t, dir, "kernel/virtio/virtio_ring.ko", ko("depends=virtio"))
	write(t, dir, "kernel/virtio/virtio-pci.ko", ko("depends=virtio_ring,virtio"))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(ko("depends=virtio,virtio_ring", "softdep=pre: crc-x missing post: later"))
	w.Close()
	write(t, dir, "kernel/net/virtio_net.ko.gz", z.Bytes())
	write(t, dir, "kernel/crc-x.ko", ko("depends="))
	write(t, dir, "kernel/a.ko", ko("depends=b"))
	write(t, dir, "kernel/b.ko", ko("depends=a"))
	write(t, dir, "kernel/broken.ko", []byte("broken"))
	write(t, dir, "kernel/needy.ko", ko("depends=nothing"))
	write(t, dir, "modules.builtin", []byte("kernel/drivers/char/virtio_console.ko\n"))
	return dir
}

func names(mods []Module) []string {
	var out []string
	for _, m := range mods {
		out = append(out, strings.TrimSpace(m.Name+" "+m.Params))
	}
	return out
}

func TestClosure(t *testing.T) {
	dir := tree(t)
	indexed := tree(t)
	write(t, indexed, "modules.dep", []byte(`# comment
kernel/virtio/virtio.ko:
kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko
/lib/modules/6.6.6/kernel/virtio/virtio-pci.ko: /lib/modules/6.6.6/kernel/virtio/virtio_ring.ko /lib/modules/6.6.6/kernel/virtio/virtio.ko
kernel/net/virtio_net.ko.gz: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko
kernel/crc-x.ko:
`))
	for _, d := range []string{dir, indexed} {
		tr, err := Open(d)
		if err != nil {
			t.Fatal(err)
		}
		early, err := tr.Closure([]string{"virtio-pci", "virtio_console"}, nil)
		if got, want := names(early), []string{"virtio", "virtio_ring", "virtio_pci"}; err != nil ||
			len(got) != 3 || got[2] != "virtio_pci" || !slices.Contains(got, "virtio") ||
			slices.Index(got, "virtio") > slices.Index(got, "virtio_ring") {
			t.Errorf("early: %v, %v; want %v", got, err, want)
		}
		late, err := tr.Closure([]string{"virtio_net napi=0  x=1", "virtio_pci"}, early)
		if got, want := names(late), []string{"crc_x", "virtio_net napi=0  x=1"}; err != nil ||
			!slices.Equal(got, want) {
			t.Errorf("late: %v, %v; want %v", got, err, want)
		}
		if !bytes.HasPrefix(late[1].Data, []byte("\x7fELF")) {
			t.Error("the module is not decompressed")
		}
		if !tr.Has("virtio-console") || !tr.Builtin("virtio_console") || tr.Has("nothing") || tr.Dir() != d {
			t.Error("the tree does not know what it has")
		}
	}
}

func TestBadModules(t *testing.T) {
	tr, err := Open(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ module, want string }{
		{"ext9", "kernel module `ext9` is not in " + tr.Dir()},
		{"../../etc/passwd", "kernel module `passwd` is not in"},
		{"needy", "`nothing` (needed by `needy`)"},
		{"a", "depends on itself"},
		{"broken", "broken.ko: this is no kernel module"},
		{"virtio x\nevil", "control characters"},
	} {
		if _, err := tr.Closure([]string{c.module}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.module, err, c.want)
		}
	}
	var missing *MissingError
	if _, err := tr.Closure([]string{"ext9"}, nil); !errors.As(err, &missing) || missing.Name != "ext9" {
		t.Errorf("%v", err)
	}
}

func TestOpenBadTrees(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{filepath.Join(dir, "none"), dir} {
		if _, err := Open(d); !errors.Is(err, ErrNoTree) || !strings.Contains(err.Error(), d) {
			t.Errorf("%s: %v", d, err)
		}
	}
	for _, index := range []string{"no colon\n", "kernel/../../../x.ko:\n", "kernel/x.ko: /etc/x.ko\n"} {
		write(t, dir, "modules.dep", []byte(index))
		if _, err := Open(dir); err == nil || errors.Is(err, ErrNoTree) {
			t.Errorf("%q: %v", index, err)
		}
	}
	// What depmod leaves when it finds nothing.
	write(t, dir, "modules.dep", nil)
	write(t, dir, "kernel/x.ko", ko("depends="))
	if tr, err := Open(dir); err != nil || !tr.Has("x") {
		t.Errorf("empty index: %v", err)
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add(ko("depends=a,b", "softdep=pre: c post: d"))
	f.Add(ko())
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := modinfo(data)
		if err != nil {
			return
		}
		for _, n := range append(info.depends, info.softPre...) {
			if strings.Contains(n, "/") {
				t.Fatalf("name %q", n)
			}
		}
	})
}

// FuzzModinfoRoundTrip checks that the names in a module come out as they went in.
func FuzzModinfoRoundTrip(f *testing.F) {
	f.Add("a-b", "c", "alias=x")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, first, second, other string) {
		for _, s := range []string{first, second} {
			if strings.ContainsAny(s, ",:=\x00") || len(strings.Fields(s)) != 1 || s != strings.TrimSpace(s) {
				return
			}
		}
		if key, _, _ := strings.Cut(other, "="); strings.Contains(other, "\x00") || key == "depends" ||
			key == "softdep" {
			return
		}
		info, err := modinfo(ko("depends="+first+","+second, other, "softdep=pre: "+second+" post: "+first+" pre: "+
			first))
		want := modInfo{depends: []string{Name(first), Name(second)}, softPre: []string{Name(second), Name(first)}}
		if err != nil || !slices.Equal(info.depends, want.depends) || !slices.Equal(info.softPre, want.softPre) {
			t.Errorf("got %+v, %v; want %+v", info, err, want)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add("kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n")
	f.Add("/lib/modules/x/kernel/a.ko: b.ko")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		write(t, dir, "modules.dep", []byte(text))
		tr := &Tree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
		if tr.readIndex() != nil {
			return
		}
		for _, p := range tr.files {
			if !filepath.IsLocal(p) {
				t.Fatalf("path %q leads out of the tree", p)
			}
		}
	})
}

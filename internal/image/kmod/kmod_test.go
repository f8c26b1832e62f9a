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
	dir := f.TempDir() // one for all, which is fast
	f.Fuzz(func(t *testing.T, text string) {
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

// aliasTree makes a module tree with algorithms and file systems that ask for them by alias.
func aliasTree(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "6.6.7")
	write(t, dir, "kernel/fs/btrfs.ko", ko("depends=libcrc32c", "softdep=pre: blake2b-256 none",
		"softdep=pre: crypto-crc32c post: raid", "alias=fs-btrfs"))
	write(t, dir, "kernel/lib/libcrc32c.ko", ko("depends=", "softdep=pre: crc32c"))
	write(t, dir, "kernel/lib/raid.ko", ko("depends="))
	write(t, dir, "kernel/crypto/crc32c_generic.ko", ko("depends=", "alias=crypto-crc32c", "alias=crc32c"))
	write(t, dir, "kernel/arch/x86/crypto/crc32c-intel.ko", ko("depends=simd", "alias=crypto-crc32c", "alias=crc32c",
		"alias=cpu:type:x86*"))
	write(t, dir, "kernel/arch/x86/crypto/simd.ko", ko("depends="))
	write(t, dir, "kernel/crypto/blake2b_generic.ko", ko("depends=none", "alias=blake2b-256"))
	write(t, dir, "modules.builtin.modinfo", []byte("sha256_generic.alias=crypto-sha256\x00x.license=GPL\x00"))
	return dir
}

func soft(mods []Module) (out []string) {
	for _, m := range mods {
		if m.Soft {
			out = append(out, m.Name)
		}
	}
	return out
}

func TestSoftDependencies(t *testing.T) {
	plain, indexed := aliasTree(t), aliasTree(t)
	write(t, indexed, "modules.dep", []byte("kernel/fs/btrfs.ko: kernel/lib/libcrc32c.ko\nkernel/lib/libcrc32c.ko:\n"+
		"kernel/lib/raid.ko:\nkernel/crypto/crc32c_generic.ko:\n"+
		"kernel/arch/x86/crypto/crc32c-intel.ko: kernel/arch/x86/crypto/simd.ko\n"+
		"kernel/arch/x86/crypto/simd.ko:\nkernel/crypto/blake2b_generic.ko: kernel/none.ko\n"))
	write(t, indexed, "modules.alias", []byte("# comment\nalias crypto-crc32* crc32c_generic\n"+
		"alias crypto-crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias crc32c crc32c_intel\n"+
		"alias blake2b-256 blake2b_generic\nalias pci:v* virtio_pci\n"))
	for _, dir := range []string{plain, indexed} {
		tr, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		mods, err := tr.Closure([]string{"btrfs"}, nil)
		got := names(mods)
		if err != nil || len(got) != 6 || slices.Contains(got, "blake2b_generic") {
			t.Fatal(got, err) // blake2b_generic cannot be loaded
		}
		for _, before := range [][2]string{{"crc32c_generic", "libcrc32c"}, {"crc32c_intel", "libcrc32c"},
			{"simd", "crc32c_intel"}, {"libcrc32c", "btrfs"}, {"btrfs", "raid"}} {
			if slices.Index(got, before[0]) > slices.Index(got, before[1]) {
				t.Errorf("%s behind %s: %v", before[0], before[1], got)
			}
		}
		want := []string{"crc32c_generic", "crc32c_intel", "raid", "simd"}
		if s := soft(mods); !slices.Equal(slices.Sorted(slices.Values(s)), want) {
			t.Errorf("soft: %v", s)
		}
		// What is wanted itself must load, with what it needs.
		mods, err = tr.Closure([]string{"btrfs", "crc32c-intel"}, nil)
		want = []string{"crc32c_generic", "raid"}
		if s := soft(mods); err != nil || !slices.Equal(slices.Sorted(slices.Values(s)), want) {
			t.Errorf("soft: %v, %v", s, err)
		}
		mods, err = tr.Closure([]string{"crc32c", "crypto-sha256"}, nil)
		if got := names(mods); err != nil || len(got) != 3 || len(soft(mods)) > 0 {
			t.Errorf("by alias: %v, %v", got, err)
		}
	}
}

// TestGivenFiles takes modules from files that are not in the tree, also of a kernel without a tree.
func TestGivenFiles(t *testing.T) {
	dir, own := t.TempDir(), t.TempDir()
	write(t, dir, "kernel/a.ko", ko("depends=b"))
	write(t, dir, "kernel/b.ko", ko("license=GPL"))
	write(t, own, "mine-own.ko", ko("depends=a"))
	write(t, own, "b.ko", ko("license=own"))
	write(t, own, "alone.ko", ko("license=GPL"))
	tree, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	paths := func(tree *Tree, wanted ...string) string {
		t.Helper()
		all, err := tree.Closure(wanted, []Module{{Name: "b"}})
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, m := range all {
			out = append(out, strings.TrimSpace(strings.TrimPrefix(m.Path, own)+" "+m.Params))
		}
		return strings.Join(out, ", ")
	}
	for _, c := range []struct {
		tree   *Tree
		wanted []string
		want   string
	}{
		{tree, []string{own + "/mine-own.ko x=1"}, "kernel/a.ko, /mine-own.ko x=1"},
		{tree, []string{"a", own + "/b.ko"}, "/b.ko, kernel/a.ko"}, // it stands before the tree's
		{Empty("/none"), []string{own + "/alone.ko"}, "/alone.ko"},
		{Empty("/none"), []string{own + "/mine-own.ko"}, "kernel module `a` (needed by `mine_own`) is not in /none"},
		{tree, []string{own + "/no.ko"}, "read kernel module " + own + "/no.ko: open " + own +
			"/no.ko: no such file or directory"},
	} {
		if got := paths(c.tree, c.wanted...); got != c.want {
			t.Errorf("%q: %s, want %s", c.wanted, got, c.want)
		}
	}
}

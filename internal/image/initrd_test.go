package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"provium/internal/image/cpio"
)

func archiveOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeArchive(&b, items); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(data, nil)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// mergedUsr returns an initrd with /sbin as a symlink.
func mergedUsr() []item {
	return []item{
		dirItem(".", 0o755), dirItem("usr", 0o755), dirItem("usr/sbin", 0o755),
		linkItem("sbin", "usr/sbin"), fileItem("init", 0o755, []byte("#!/bin/sh\n")),
	}
}

func TestReadListing(t *testing.T) {
	microcode := archiveOf(t, dirItem("kernel", 0o755), fileItem("kernel/x86", 0o644, []byte("code")))
	main := archiveOf(t, mergedUsr()...)
	for _, c := range []struct {
		name     string
		data     []byte
		segments int
	}{
		{"plain", main, 1},
		{"gzip", gzipped(t, main), 1},
		{"microcode and zstd", join(microcode, make([]byte, 512), zstded(t, main)), 2},
		{"zstd and plain, padded", func() []byte {
			z := zstded(t, main)
			return join(z, make([]byte, -len(z)&3), microcode, make([]byte, 8))
		}(), 2},
		{"two streams without a gap", join(gzipped(t, main), gzipped(t, microcode)), 2},
		{"two archives in a stream", gzipped(t, join(main, make([]byte, 100), microcode)), 1},
	} {
		l, err := readListing(bytes.NewReader(c.data), "x")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := l.nodes["sbin"].target; got != "usr/sbin" {
			t.Errorf("%s: sbin leads to %q", c.name, got)
		}
		if len(l.segments) != c.segments {
			t.Errorf("%s: segments %+v", c.name, l.segments)
		}
		for _, s := range l.segments {
			if s.end > int64(len(c.data)) || s.end <= s.start || s.expanded == 0 {
				t.Errorf("%s: segment %+v", c.name, s)
			}
		}
	}
}

func TestCorruptInitrds(t *testing.T) {
	main := archiveOf(t, mergedUsr()...)
	z := gzipped(t, main)
	damaged := slices.Clone(z)
	damaged[len(damaged)/2] ^= 0xff
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "initrd /x/initrd is corrupt at offset 0: it holds no archive"},
		{"zeros", make([]byte, 10000), "offset 0: it holds no archive"},
		{"text", []byte("hello, world"), "offset 0: neither a cpio archive nor a known compression"},
		{"cut archive", main[:len(main)-500], "initrd /x/initrd is cut short at offset"},
		{"cut stream", z[:len(z)-10], "initrd /x/initrd is cut short at offset 0: read gzip stream: unexpected EOF"},
		{"cut archive in a stream", gzipped(t, main[:len(main)-500]), "is cut short at offset 0: bad cpio archive"},
		{"damaged stream", damaged, "is corrupt at offset 0"},
		{"junk behind it", join(main, []byte("junk")), "neither a cpio archive nor"},
		{"text in a stream", gzipped(t, []byte("hello, world, this is no archive, but it is long enough to be a "+
			"header of one, and even a bit longer than that")), "bad magic number"},
		{"unaligned", join(main, []byte{0}, main), "multiple of four"},
	} {
		_, err := readListing(bytes.NewReader(c.data), "/x/initrd")
		var corrupt *corruptError
		if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func placedNames(items []item) []string {
	var out []string
	for _, it := range items {
		n := it.Name
		if it.Type() == cpio.TypeDir {
			n += "/"
		}
		out = append(out, n)
	}
	return out
}

func TestPlace(t *testing.T) {
	agent := []item{dirItem("sbin", 0o755), fileItem(guestAgent, 0o755, nil), dirItem(guestDir, 0o755),
		fileItem(guestEarly, 0o644, nil)}
	for _, c := range []struct {
		name string
		base []item
		want []string
	}{
		{"bare", []item{fileItem("init", 0o755, nil)}, []string{"sbin/", "sbin/provium-agent", ".provium/",
			".provium/modules.early"}},
		{"plain sbin", []item{dirItem("sbin", 0o755)}, []string{"sbin/provium-agent", ".provium/",
			".provium/modules.early"}},
		{"merged", mergedUsr(), []string{"usr/sbin/provium-agent", ".provium/", ".provium/modules.early"}},
		{"absolute link", []item{dirItem("usr", 0o755), dirItem("usr/bin", 0o755), linkItem("usr/sbin", "bin"),
			linkItem("sbin", "/usr/sbin")},
			[]string{"usr/bin/provium-agent", ".provium/", ".provium/modules.early"}},
		{"dangling link", []item{linkItem("sbin", "usr/sbin")},
			[]string{"usr/", "usr/sbin/", "usr/sbin/provium-agent", ".provium/", ".provium/modules.early"}},
		{"link out of the root", []item{linkItem("sbin", "../../../s")},
			[]string{"s/", "s/provium-agent", ".provium/", ".provium/modules.early"}},
		{"earlier agent", []item{dirItem("./sbin", 0o755), fileItem("/sbin/provium-agent", 0, nil),
			dirItem(guestDir, 0o755)}, []string{"sbin/provium-agent", ".provium/modules.early"}},
	} {
		l, err := listItems(c.base)
		if err != nil {
			t.Fatal(err)
		}
		out, err := l.place(agent)
		if got := placedNames(out); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct {
		name string
		base []item
		want string
	}{
		{"file for a directory", []item{fileItem("sbin", 0o644, nil)},
			"a file at /sbin, where a directory is needed"},
		{"directory for the agent", []item{dirItem("sbin", 0o755), dirItem("sbin/provium-agent", 0o755)},
			"a directory at /sbin/provium-agent"},
		{"link loop", []item{linkItem("sbin", "a"), linkItem("a", "sbin")}, "too many symlinks"},
	} {
		l, err := listItems(c.base)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.place(agent); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzListing(f *testing.F) {
	main := archiveOf(f, mergedUsr()...)
	f.Add(main)
	f.Add(gzipped(f, main))
	f.Add(join(main, zstded(f, main)))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := readListing(bytes.NewReader(data), "x")
		if err != nil {
			var corrupt *corruptError
			if !errors.As(err, &corrupt) || corrupt.offset < 0 || corrupt.offset > int64(len(data)) {
				t.Fatalf("%v", err)
			}
			return
		}
		items, err := l.place([]item{fileItem(guestAgent, 0o755, nil)})
		if err != nil {
			return
		}
		for _, it := range items {
			if strings.Contains("/"+it.Name+"/", "/../") {
				t.Fatalf("placed at %q", it.Name)
			}
		}
	})
}

// TestBuiltinDigest checks that the digest of what is hashed once and of what follows is
// that of all of it.
func TestBuiltinDigest(t *testing.T) {
	s := testStore(t, nil)
	more := []item{fileItem("x", 0o644, []byte("more")), dirItem("y", 0o755)}
	for name, made := range map[string]func() (*builtin, error){"agent": s.agent, "base": s.base} {
		b, err := made()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := b.digestWith(more)
			if want := hashItems(append(b.items, more...)); err != nil || got != want {
				t.Errorf("%s: %s, %v, want %s", name, got, err, want)
			}
		}
		if b.digest != hashItems(b.items) {
			t.Errorf("%s: digest %s", name, b.digest)
		}
	}
}

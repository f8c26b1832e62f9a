package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"provium/internal/plainwords"
	"provium/internal/userland"
)

// TestMessagesAreForPeople cuts what profiles name at many places, and has the cache damaged.
func TestMessagesAreForPeople(t *testing.T) {
	bz := testBzImage(t, "6.1.0-10", testVmlinux(18, "Linux version 6.1.0-10 () "+consoleText))
	archive := archiveOf(t, mergedUsr()...)
	root := t.TempDir()
	kernel := putKernel(t, root, "5.5")
	var said int
	try := func(what string, spec Spec) {
		s := testStore(t, nil)
		spec.Profile, spec.Cmdline = "p", ptr("quiet")
		img, err := s.Resolve(t.Context(), spec)
		if err == nil && img.Initrd != "" {
			err = img.Compose(t.Context(), filepath.Join(t.TempDir(), "initrd"), []File{{Path: "/x"}})
		}
		if err == nil {
			err = CheckMemory(spec.Kernel, spec.Initrd, 1<<30)
		}
		if err == nil {
			return
		}
		said++
		if found := plainwords.Jargon(err.Error()); len(found) > 0 {
			t.Errorf("%s: %q", what, found)
		}
	}
	dir := t.TempDir()
	for name, whole := range map[string][]byte{"bzImage": bz, "compressed": gzipped(t, bz),
		"unified": testUnified([]string{".linux", ".cmdline", ".initrd"}, gzipped(t, bz), []byte("quiet"), archive),
		"vmlinux": testVmlinux(18, "Linux version 5.5 (x)"+consoleText)} {
		for i := range 8 {
			try(fmt.Sprint(name, i), Spec{Kernel: put(t, whole[:len(whole)*i/8], dir, name)})
		}
	}
	for name, whole := range map[string][]byte{"initrd": archive, "initrd.gz": gzipped(t, archive),
		"two": append(gzipped(t, archive), archive...)} {
		for i := range 8 {
			try(fmt.Sprint(name, i), Spec{Kernel: kernel, Initrd: put(t, whole[:len(whole)*i/8], dir, name)})
		}
	}
	for name, whole := range map[string][]byte{"root.tar": tarOf(t), "root.tar.gz": gzipped(t, tarOf(t)),
		"root.tar.zst": []byte("\x28\xb5\x2f\xfd\x04\x58")} {
		for i := range 8 {
			path := put(t, whole[:len(whole)*i/8], dir, name)
			from := userland.Source{Kind: userland.Archive, Path: path}
			try(fmt.Sprint(name, i), Spec{Kernel: kernel, Userland: from})
		}
	}
	if said < 50 {
		t.Errorf("%d of the cut files are refused", said)
	}
}

// tarOf returns an archive of two files.
func tarOf(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range []string{"sbin/init", "etc/a file"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: 4000}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 4000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

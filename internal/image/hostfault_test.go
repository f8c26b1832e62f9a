package image

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"provium/internal/hostfault"
)

// TestImageHostFaults builds an image in an empty cache: what is there afterwards, from
// the build with the fault or from the next one, is what a build without faults makes.
func TestImageHostFaults(t *testing.T) {
	outer := t
	spec := Spec{Profile: "p", Modules: []string{"dummy"}}
	type result struct {
		root           string
		key            string
		kernel, initrd []byte
	}
	read := func(t *testing.T, path string) []byte {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	want := sync.OnceValue(func() *result {
		r := &result{root: outer.TempDir()}
		putKernel(outer, r.root, "6.1.0-10")
		img, err := testStore(outer, func(c *Config) { c.HostRoot = r.root }).Resolve(outer.Context(), spec)
		if err != nil {
			outer.Fatal(err)
		}
		r.key, r.kernel, r.initrd = img.Key, read(outer, img.Kernel), read(outer, img.Initrd)
		return r
	})
	hostfault.Sweep(t, func(t *testing.T, fault *hostfault.Fault) {
		want := want()
		dir := filepath.Join(t.TempDir(), "cache")
		store := testStore(t, func(c *Config) { c.HostRoot, c.CacheDir = want.root, dir })
		check := func(when string, img *Image) {
			t.Helper()
			if img.Key != want.key || !bytes.Equal(read(t, img.Kernel), want.kernel) ||
				!bytes.Equal(read(t, img.Initrd), want.initrd) {
				t.Errorf("%s: another image: %+v", when, img)
			}
		}
		var img *Image
		var err error
		fault.During(func() { img, err = store.Resolve(t.Context(), spec) })
		if err == nil {
			check("with the fault", img)
		}
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), ".") && !fault.Lasting() &&
				!strings.HasPrefix(fault.What(), "unlinkat") {
				t.Errorf("%s stays", path)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		store = testStore(t, func(c *Config) { c.HostRoot, c.CacheDir = want.root, dir }) // as in another run
		if img, err = store.Resolve(t.Context(), spec); err != nil {
			t.Errorf("afterwards: %v", err)
			return
		}
		check("afterwards", img)
	})
}

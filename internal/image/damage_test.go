package image

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/cachedir/damage"
)

// bootFiles are what a guest boots from.
type bootFiles struct {
	kernel, vmlinux []byte
	initrd          map[string]string
}

func resolveFiles(t *testing.T, s *Store) (b bootFiles, img *Image) {
	t.Helper()
	img, err := s.Resolve(t.Context(), Spec{Profile: "p", Modules: []string{"dummy"}})
	if err != nil {
		t.Fatal(err)
	}
	if b.kernel, err = os.ReadFile(img.KernelFile); err == nil {
		b.vmlinux, err = os.ReadFile(img.Kernel)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.initrd = contents(t, img.Initrd)
	return b, img
}

// TestDamagedCacheFiles damages every kind of file of the image cache in every way. What is
// booted afterwards must be what was booted before, and there must be one warning.
func TestDamagedCacheFiles(t *testing.T) {
	debian := map[string]string{
		"linux-image-cloud-amd64":     "x\n  Depends: linux-image-6.1-cloud-amd64\n",
		"linux-image-6.1-cloud-amd64": "x\n",
	}
	other := t.TempDir()
	otherKernel, err := os.ReadFile(putKernel(t, other, "6.1-cloud-amd64x"))
	if err != nil {
		t.Fatal(err)
	}
	files := []struct {
		kind  string
		find  func(s *Store, img *Image) string
		with  []byte
		quiet bool // it is not served, so no warning is needed
	}{
		{"kernel", func(_ *Store, img *Image) string { return img.KernelFile }, otherKernel, false},
		{"module", func(_ *Store, img *Image) string { return img.Late[len(img.Late)-1].Path }, testKo("virtio"),
			false},
		{"module list", func(_ *Store, img *Image) string { return filepath.Join(img.ModulesDir, "modules.builtin") },
			[]byte("kernel/dummy.ko\n"), false},
		{"vmlinux", func(_ *Store, img *Image) string { return img.Kernel }, testVmlinux(18, "other"), false},
		{"record of a vmlinux", func(_ *Store, img *Image) string {
			return filepath.Join(filepath.Dir(img.Kernel), infoFile)
		}, []byte(`{"inspected":true,"size":0}`), false},
		{"initrd", func(_ *Store, img *Image) string { return img.Initrd },
			archiveOf(t, fileItem(guestAgent, 0o755, []byte("OTHER"))), false},
		{"overlay", func(s *Store, _ *Image) string {
			return filepath.Join(filepath.Dir(s.cfg.Executable), "../share/provium", overlayName)
		}, []byte("other"), true},
		{"digests", func(s *Store, _ *Image) string { return s.cache.Path("digests") }, []byte("other"), true},
	}
	damaged, wrong := 0, 0
	for _, file := range files {
		for _, how := range damage.Kinds() {
			base := t.TempDir()
			if err := errors.Join(os.Chmod(base, 0o755), os.Chmod(filepath.Dir(base), 0o755)); err != nil {
				t.Fatal(err)
			}
			var warnings []string
			s := testStore(t, func(c *Config) {
				c.Runner, c.Executable = &fakeApt{t: t, depends: debian}, filepath.Join(base, "bin/provium")
				c.Notice = func(text string) {
					if strings.Contains(text, "damaged") {
						warnings = append(warnings, text)
					}
				}
			})
			var overlay bytes.Buffer
			if err := s.WriteOverlay(&overlay); err != nil {
				t.Fatal(err)
			}
			put(t, overlay.Bytes(), base, "share/provium", overlayName)
			if err := os.Mkdir(filepath.Join(base, "bin"), 0o755); err != nil {
				t.Fatal(err)
			}
			right, img := resolveFiles(t, s)
			err := filepath.WalkDir(file.find(s, img), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					damaged++
					err = how.Do(path, file.with)
				}
				return err
			})
			if errors.Is(err, os.ErrPermission) && how.Name == "foreign" {
				continue // this user cannot give files away
			}
			if err != nil {
				t.Fatal(err)
			}
			served, _ := resolveFiles(t, s)
			if !bytes.Equal(served.kernel, right.kernel) || !bytes.Equal(served.vmlinux, right.vmlinux) ||
				!maps.Equal(served.initrd, right.initrd) {
				wrong++
				t.Errorf("%s, %s: something else is booted", file.kind, how.Name)
			}
			// A file that only root can read is whole for root.
			if whole := how.Name == "chmod 0" && os.Geteuid() == 0; len(warnings) != 1 && !file.quiet && !whole &&
				!(file.kind == "record of a vmlinux" && how.Name == "remove" && len(warnings) == 1) {
				t.Errorf("%s, %s: warnings %q", file.kind, how.Name, warnings)
			}
		}
	}
	t.Logf("damaged cache files: %d of images, wrong content served %d", damaged, wrong)
}

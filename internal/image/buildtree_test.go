package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuiltKernel takes kernels from the directories that they were built in, with the modules that are there.
func TestBuiltKernel(t *testing.T) {
	s := testStore(t, nil)
	tree := t.TempDir()
	resolve := func() (*Image, error) {
		return s.Resolve(t.Context(), Spec{Profile: "p", Kernel: tree, Cmdline: ptr("quiet")})
	}
	wants := func(err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want %q", err, text)
		}
	}
	_, err := resolve()
	wants(err, "profile `p`: kernel "+tree+" is a directory in which no kernel was built: it has neither of arch/x86/")
	put(t, nil, tree, "Kconfig")
	_, err = resolve()
	wants(err, "is a source tree in which no kernel was built (run `make` in it, or name the O= of the build)")

	bz := put(t, testBzImage(t, "6.6", testVmlinux(18, "no console here")), tree, "arch/x86/boot/bzImage")
	put(t, testVmlinux(18, "no console here"), tree, "vmlinux")
	_, err = resolve()
	wants(err, "has no virtio console built in (CONFIG_VIRTIO_CONSOLE) and no modules in "+tree)
	wants(err, "; in "+tree+", `make kvm_guest.config` adds what guests need, and `make` builds it")

	for name, depends := range map[string]string{"virtio": "", "virtio_pci": "virtio", "virtio_console": "virtio"} {
		put(t, testKo(depends), tree, "drivers/virtio/"+name+".ko")
	}
	s = testStore(t, nil)
	img, err := resolve()
	if err != nil || img.KernelFile != bz || img.ModulesDir != tree || len(img.Early) != 3 {
		t.Fatalf("%+v, %v", img, err)
	}
	if want := filepath.Join(tree, "drivers/virtio/virtio.ko"); img.Early[0].Path != want {
		t.Errorf("the first module is %s, want %s", img.Early[0].Path, want)
	}
	if err := os.Remove(bz); err != nil {
		t.Fatal(err)
	}
	if img, err = resolve(); err != nil || img.KernelFile != tree+"/vmlinux" {
		t.Errorf("without a bzImage: %+v, %v", img, err)
	}
}

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

// TestMissingOptions refuses a kernel that says itself what it lacks, and notes what a file beside it says.
func TestMissingOptions(t *testing.T) {
	config := "CONFIG_TTY=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_BINFMT_ELF=y\nCONFIG_PROC_FS=y\nCONFIG_SYSFS=y\n" +
		"CONFIG_DEVTMPFS=y\nCONFIG_UNIX=y\nCONFIG_FUTEX=y\nCONFIG_EPOLL=y\nCONFIG_MULTIUSER=y\n" +
		"CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_CONSOLE=y\n# CONFIG_PCI is not set\n"
	embedded := "IKCFG_ST" + string(gzipped(t, []byte(config))) + "IKCFG_ED"
	s := testStore(t, nil)
	resolve := func(text string, beside string) (*Image, error) {
		dir := t.TempDir()
		if beside != "" {
			put(t, []byte(beside), dir, "boot/config-6.6")
		}
		k := put(t, testBzImage(t, "6.6", testVmlinux(18, text)), dir, "boot/vmlinuz-6.6")
		return s.Resolve(t.Context(), Spec{Profile: "p", Kernel: k, Cmdline: ptr("quiet")})
	}
	_, err := resolve(consoleText+embedded, "")
	if err == nil || !strings.Contains(err.Error(), "was built without CONFIG_PCI, by its own configuration") {
		t.Errorf("embedded: %v", err)
	}
	img, err := resolve(consoleText, config)
	if err != nil || !strings.Contains(strings.Join(img.Notes, "\n"), "boot/config-6.6 does not set CONFIG_PCI") {
		t.Errorf("beside: %+v, %v", img, err)
	}
	_, err = resolve("no console", strings.Replace(config, "VIRTIO_CONSOLE=y", "VIRTIO_CONSOLE=m", 1))
	if err == nil || !strings.Contains(err.Error(), "has no virtio console built in (CONFIG_VIRTIO_CONSOLE)") ||
		!strings.Contains(err.Error(), "boot/config-6.6 does not set CONFIG_PCI, CONFIG_VIRTIO_CONSOLE") {
		t.Errorf("without a console: %v", err)
	}
	if img, err = resolve(consoleText, ""); err != nil || len(img.Notes) > 0 {
		t.Errorf("not known: %+v, %v", img, err)
	}
}

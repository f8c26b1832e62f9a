package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"provium/internal/image/kernel"
	"provium/internal/userland"
)

// testUnified makes a unified kernel image of sections, by name.
func testUnified(names []string, contents ...[]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 1024)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 64)
	copy(b[64:], "PE\x00\x00\x64\x86")
	le.PutUint16(b[64+6:], uint16(len(names)))
	for i, name := range names {
		h := b[64+24+40*i:]
		copy(h[:8], name)
		le.PutUint32(h[8:], uint32(len(contents[i])))
		le.PutUint32(h[16:], uint32(len(contents[i])))
		le.PutUint32(h[20:], uint32(len(b)))
		b = append(b, contents[i]...)
	}
	return b
}

// TestWrappedKernels boots kernels out of what is around them.
func TestWrappedKernels(t *testing.T) {
	bz := testBzImage(t, "6.1.0-10", testVmlinux(18, "Linux version 6.1.0-10 () "+consoleText))
	var archive bytes.Buffer
	if err := writeArchive(&archive, []item{fileItem("init", 0o755, []byte("INIT"))}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	packed := put(t, gzipped(t, bz), dir, "vmlinuz.gz")
	unified := put(t, testUnified([]string{".linux", ".cmdline", ".initrd"}, bz, []byte("quiet from=uki"),
		archive.Bytes()), dir, "system.efi")
	nested := put(t, testUnified([]string{".linux", ".cmdline"}, gzipped(t, bz), []byte("quiet from=nested")), dir,
		"nested.efi")
	bare := put(t, testUnified([]string{".linux"}, bz), dir, "bare.efi")
	own := put(t, archive.Bytes(), dir, "own")
	s := testStore(t, nil)
	putKernel(t, s.cfg.HostRoot, "6.1.0-10") // for the modules
	for name, c := range map[string]struct {
		spec          Spec
		note, cmdline string
		hasInit       bool // the base initrd has it
	}{
		"compressed":  {Spec{Kernel: packed, Cmdline: ptr("quiet")}, "(compressed)", "quiet console=", false},
		"unified":     {Spec{Kernel: unified}, "(unified kernel image)", "quiet from=uki console=", true},
		"no agent":    {Spec{Kernel: unified, NoAgent: true}, "(unified kernel image)", "quiet from=uki ", true},
		"own cmdline": {Spec{Kernel: unified, Cmdline: ptr("mine")}, "(unified kernel image)", "mine console=", true},
		"own initrd":  {Spec{Kernel: unified, Initrd: own}, "(unified kernel image)", "quiet from=uki console=", true},
		"built-in": {Spec{Kernel: unified, Userland: userland.Source{Kind: userland.Busybox}}, "(unified kernel image)",
			"quiet from=uki console=", false},
		"nested": {Spec{Kernel: nested}, "(unified kernel image)", "quiet from=nested console=", false},
	} {
		c.spec.Profile = "p"
		img, err := s.Resolve(t.Context(), c.spec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if img.KernelGiven != c.spec.Kernel || img.Release != "6.1.0-10" || !img.PVH ||
			!strings.HasPrefix(img.Cmdline, c.cmdline) || !strings.Contains(strings.Join(img.Notes, " "), c.note) {
			t.Errorf("%s: %+v", name, img)
		}
		if inner, err := os.ReadFile(img.KernelFile); err != nil || !bytes.Equal(inner, bz) {
			t.Errorf("%s: the kernel has %d bytes of %d, %v", name, len(inner), len(bz), err)
		}
		if files := contents(t, img.Initrd); (files["init"] == "INIT") != c.hasInit ||
			(files["sbin/provium-agent"] == "AGENT") == c.spec.NoAgent {
			t.Errorf("%s: %q", name, files)
		}
	}
	damaged := put(t, testUnified([]string{".linux"}, []byte(strings.Repeat("no kernel", 200))), dir, "damaged.efi")
	for file, want := range map[string]string{
		bare:    "profile `p` has empty cmdline: a profile with a kernel of its own needs cmdline or cmdline_file",
		damaged: "what is in it (unified kernel image) is " + kernel.ErrFormat.Error(),
		put(t, gzipped(t, bz)[:100], dir, "cut.gz"):               "compressed kernel is cut short; make or",
		put(t, gzipped(t, []byte("x")), dir, "text.gz"):           "what is in it (compressed) is ",
		put(t, []byte(strings.Repeat("x", 999)), dir, "text.efi"): kernel.ErrFormat.Error(),
	} {
		spec := Spec{Profile: "p", Kernel: file}
		if file != bare {
			spec.Cmdline = ptr("quiet")
		}
		if _, err := s.Resolve(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

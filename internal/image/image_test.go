package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

func TestResolveAutomatic(t *testing.T) {
	s := testStore(t, nil)
	putKernel(t, s.cfg.HostRoot, "6.1.0-9")
	newest := putKernel(t, s.cfg.HostRoot, "6.1.0-10")
	spec := Spec{Profile: "p", Modules: []string{"dummy numdummies=2", "virtio_pci force_legacy=1"}}
	img, err := s.Resolve(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if img.KernelFile != newest || img.Origin != Newest || img.Release != "6.1.0-10" || !img.PVH || !img.Inject ||
		img.Overlay != embeddedOverlay {
		t.Errorf("%+v", img)
	}
	if b, err := os.ReadFile(img.Kernel); err != nil || !bytes.HasPrefix(b, []byte("\x7fELF")) {
		t.Errorf("kernel %s: %v", img.Kernel, err)
	}
	files := contents(t, img.Initrd)
	for name, want := range map[string]string{
		"sbin/provium-agent": "AGENT",
		".provium/modules.early": "virtio.ko\nvirtio_ring.ko\n" +
			"!virtio_pci.ko force_legacy=1\nvirtio_console.ko\n",
		".provium/modules.late":          "virtio_net.ko\nvirtio_blk.ko\nvirtio_rng.ko\n!dummy.ko numdummies=2\n",
		".provium/modules/virtio_pci.ko": string(testKo("virtio,virtio_ring")),
		"bin/busybox":                    "BUSYBOX",
		"bin/sh":                         "busybox",
		"usr/bin/env":                    "../../bin/busybox",
		"sbin/init":                      "../bin/busybox",
		"etc/hostname":                   "provium\n",
	} {
		if files[name] != want {
			t.Errorf("%s is %q, want %q", name, files[name], want)
		}
	}
	if _, ok := files["linuxrc"]; ok {
		t.Error("linuxrc is there")
	}
	again, err := s.Resolve(t.Context(), spec)
	if err != nil || again.Key != img.Key || again.Initrd != img.Initrd {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	// Everything that matters changes the key.
	keys := map[string]bool{img.Key: true}
	for name, change := range map[string]func(*Spec){
		"cmdline": func(s *Spec) { s.Cmdline = ptr("x") },
		"modules": func(s *Spec) { s.Modules = nil },
		"kernel": func(s *Spec) {
			s.Kernel, s.ForcedKernel = filepath.Join(filepath.Dir(newest), "vmlinuz-6.1.0-9"),
				true
		},
		"agent": func(s *Spec) { s.NoAgent, s.Modules = true, nil },
	} {
		other := spec
		change(&other)
		o, err := s.Resolve(t.Context(), other)
		if err != nil || keys[o.Key] {
			t.Errorf("%s: %v, or the key stays", name, err)
			continue
		}
		keys[o.Key] = true
	}
}

func TestHostKernelFirst(t *testing.T) {
	s := testStore(t, func(c *Config) { c.HostRelease = "6.1.0-9" })
	host := putKernel(t, s.cfg.HostRoot, "6.1.0-9")
	putKernel(t, s.cfg.HostRoot, "6.1.0-10")
	img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
	if err != nil || img.KernelFile != host || img.Origin != HostKernel {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestAutoSkips(t *testing.T) {
	s := testStore(t, func(c *Config) { c.HostRelease = "9.0" })
	root := s.cfg.HostRoot
	// The running one without modules, one without a virtio console, one that is no kernel.
	put(t, testBzImage(t, "9.0", testVmlinux(18, consoleText)), root, "boot/vmlinuz-9.0")
	put(t, testBzImage(t, "8.0", testVmlinux(18, "")), root, "boot/vmlinuz-8.0")
	put(t, []byte("kernel/virtio_pci.ko\n"), root, "lib/modules/8.0/modules.builtin")
	put(t, []byte("?"), root, "boot/vmlinuz-7.0")
	wants := []string{"vmlinuz-9.0 has no modules in", "vmlinuz-8.0 has no virtio console (CONFIG_VIRTIO_CONSOLE)",
		"vmlinuz-7.0: not a Linux kernel"}
	if os.Geteuid() != 0 { // root reads everything
		if err := os.Chmod(putKernel(t, root, "10.0"), 0); err != nil {
			t.Fatal(err)
		}
		wants = append(wants, "vmlinuz-10.0: permission denied")
	}
	good := putKernel(t, root, "6.0")
	img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
	if err != nil || img.KernelFile != good {
		t.Fatalf("%+v, %v", img, err)
	}
	notes := strings.Join(img.Notes, "\n")
	for _, want := range wants {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q lack %q", notes, want)
		}
	}
}

func TestExplicitKernels(t *testing.T) {
	s := testStore(t, nil)
	root := t.TempDir()
	withTree := putKernel(t, root, "5.5")
	builtin := put(t, testBzImage(t, "5.6", testVmlinux(18, consoleText)), root, "build/bzImage")
	bare := put(t, testBzImage(t, "5.7", testVmlinux(18, "")), root, "build/bare")
	closed := put(t, testBzImage(t, "5.8", nil), root, "build/closed")
	noPVH := put(t, testBzImage(t, "5.9", testVmlinux(1, consoleText)), root, "build/nopvh")
	elf := put(t, testVmlinux(18, "Linux version 5.5 (x)"+consoleText), root, "boot/vmlinux")
	elfNoPVH := put(t, testVmlinux(1, consoleText), root, "build/vmlinux")
	put(t, []byte("kernel/x.ko\n"), root, "build/lib/modules/5.10/modules.builtin")
	noConsole := put(t, testBzImage(t, "5.10", testVmlinux(18, "")), root, "build/noconsole")
	text := put(t, []byte("text"), root, "build/text")
	linked := filepath.Join(t.TempDir(), "kernel") // its modules are beside the target
	if err := os.Symlink(withTree, linked); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kernel, want string // error, or
		same, tree   bool   // the kernel is booted as it is; it has modules
	}{
		{kernel: withTree, tree: true},
		{kernel: linked, tree: true},
		{kernel: builtin},
		{kernel: closed, same: true},
		{kernel: noPVH, same: true},
		{kernel: elf, same: true, tree: true},
		{kernel: bare, want: "bare has no virtio console built in (CONFIG_VIRTIO_CONSOLE) and no modules in"},
		{kernel: noConsole, want: "noconsole has no virtio console (CONFIG_VIRTIO_CONSOLE)"},
		{kernel: elfNoPVH, want: "no PVH entry point (CONFIG_PVH)"},
		{kernel: text, want: "profile `p`: kernel " + text + ": not a Linux kernel"},
		{kernel: root, want: "is a directory in which no kernel was built"},
		{kernel: root + "/none", want: "profile `p`: kernel " + root +
			"/none: no such file or directory; give the path"},
	} {
		img, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: c.kernel, Cmdline: ptr("quiet")})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.kernel, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.kernel, err)
			continue
		}
		if img.Origin != Explicit || (img.Kernel == c.kernel) != c.same || (img.ModulesDir != "") != c.tree {
			t.Errorf("%s: %+v", c.kernel, img)
		}
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(withTree, 0); err != nil {
			t.Fatal(err)
		}
		_, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: withTree, Cmdline: ptr("quiet")})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "make it readable") {
			t.Errorf("unreadable: %v", err)
		}
		if err := os.Chmod(withTree, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := explicitRemedy(fmt.Errorf("kernel x: %w", fs.ErrPermission)); !strings.Contains(got, "chmod a+r") {
		t.Errorf("remedy %q", got)
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: builtin, Cmdline: ptr("q"),
		Modules: []string{"ext4"}}); err == nil ||
		!strings.Contains(err.Error(), "kernel module `ext4` is not in "+root+"/build/lib/modules/5.6, ") {
		t.Errorf("module without a tree: %v", err)
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: withTree, Cmdline: ptr("q"),
		Modules: []string{"ext4"}}); err == nil ||
		!strings.Contains(err.Error(), "kernel module `ext4` is not in "+root+"/lib/modules/5.5") {
		t.Errorf("missing module: %v", err)
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: withTree}); err == nil ||
		!strings.Contains(err.Error(), "profile `p` has empty cmdline") {
		t.Errorf("no command line: %v", err)
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: withTree, CmdlineFile: root +
		"/none"}); err == nil || !strings.Contains(err.Error(), "cmdline_file "+root+"/none: no such file") {
		t.Errorf("no command line file: %v", err)
	}
	file := put(t, []byte("from=file\n"), root, "cmdline")
	img, err := s.Resolve(t.Context(), Spec{Profile: "p", Kernel: withTree, CmdlineFile: file})
	if err != nil || !strings.HasPrefix(img.Cmdline, "from=file console=") {
		t.Fatalf("%+v, %v", img, err)
	}
	if got, err := img.CommandLine(ptr("a"), "b"); err != nil || got != "a console=ttyS0 rdinit=/sbin/provium-agent b" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestBootCompressed boots a bzImage as it is, although there is a vmlinux in it.
func TestBootCompressed(t *testing.T) {
	s := testStore(t, nil)
	root := t.TempDir()
	bz := put(t, testBzImage(t, "5.6", testVmlinux(18, consoleText)), root, "bzImage")
	elf := put(t, testVmlinux(18, "Linux version 5.5 (x)"+consoleText), root, "vmlinux")
	spec := Spec{Profile: "p", Kernel: bz, Cmdline: ptr("quiet")}
	unpacked, err := s.Resolve(t.Context(), spec)
	if err != nil || unpacked.Kernel == bz {
		t.Fatalf("%+v, %v", unpacked, err)
	}
	spec.Form = AsItIs
	img, err := s.Resolve(t.Context(), spec)
	if err != nil || img.Kernel != bz || img.PVH || img.Key == unpacked.Key {
		t.Errorf("%+v, %v", img, err)
	}
	spec.Kernel = elf
	if _, err := s.Resolve(t.Context(), spec); err == nil || !strings.Contains(err.Error(),
		"profile `p` has boot_compressed = true, and its kernel "+elf+" is an ELF vmlinux; give the bzImage") {
		t.Error(err)
	}
}

// lz4 returns a bzImage whose vmlinux is stored in the format lz4, which unpacks fast.
func lz4BzImage(t *testing.T, vmlinux []byte) []byte {
	t.Helper()
	le := binary.LittleEndian
	block := []byte{0xf0} // literals alone, 15 and more of them
	for n := len(vmlinux) - 15; ; n -= 255 {
		block = append(block, byte(min(n, 255)))
		if n < 255 {
			break
		}
	}
	block = append(block, vmlinux...)
	payload := le.AppendUint32(le.AppendUint32(nil, 0x184c2102), uint32(len(block)))
	payload = le.AppendUint32(append(payload, block...), uint32(len(vmlinux)))
	b := testBzImage(t, "5.6", nil)
	b = append(b[:3*512], payload...)
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	return b
}

// TestBootUnpacked boots the vmlinux in a bzImage that unpacks itself fast only where that is
// asked for.
func TestBootUnpacked(t *testing.T) {
	s := testStore(t, nil)
	root := t.TempDir()
	vmlinux := testVmlinux(18, consoleText)
	bz := put(t, lz4BzImage(t, vmlinux), root, "bzImage")
	spec := Spec{Profile: "p", Kernel: bz, Cmdline: ptr("quiet")}
	fast, err := s.Resolve(t.Context(), spec)
	if err != nil || fast.Kernel != bz || fast.PVH || !strings.Contains(strings.Join(fast.Notes, ""), unpacksFast) {
		t.Fatalf("%+v, %v", fast, err)
	}
	spec.Form = Unpacked
	img, err := s.Resolve(t.Context(), spec)
	if err != nil || !img.PVH || len(img.Notes) > 0 || img.Key == fast.Key {
		t.Fatalf("%+v, %v", img, err)
	}
	if text, err := os.ReadFile(img.Kernel); err != nil || !bytes.Equal(text, vmlinux) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	spec.Kernel = put(t, testBzImage(t, "5.6", nil), root, "unknown")
	img, err = s.Resolve(t.Context(), spec)
	if err != nil || img.PVH || img.Kernel != spec.Kernel || len(img.Notes) == 0 {
		t.Errorf("what cannot be unpacked: %+v, %v", img, err)
	}
}

func TestRootTree(t *testing.T) {
	s := testStore(t, nil)
	root := filepath.Join(t.TempDir(), "tree[1]")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Root: root}); err == nil ||
		!strings.Contains(err.Error(), "no readable kernel in the tree "+root) {
		t.Errorf("empty: %v", err)
	}
	putKernel(t, root, "4.9")
	k := putKernel(t, root, "4.10")
	img, err := s.Resolve(t.Context(), Spec{Profile: "p", Root: root})
	if err != nil || img.KernelFile != k || img.Origin != InRoot || img.ModulesDir != root+"/lib/modules/4.10" {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestProfileInitrd(t *testing.T) {
	s := testStore(t, nil)
	putKernel(t, s.cfg.HostRoot, "6.1")
	main := archiveOf(t, mergedUsr()...)
	large := archiveOf(t, append(mergedUsr(), fileItem("large", 0o644, make([]byte, expandLimit)))...)
	for name, data := range map[string][]byte{"plain": main, "gzip": gzipped(t, main), "zstd": zstded(t, large)} {
		initrd := put(t, data, t.TempDir(), "initrd")
		img, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: initrd})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := os.ReadFile(img.Initrd)
		if err != nil {
			t.Fatal(err)
		}
		kept := main
		if name == "zstd" { // too large to be kept uncompressed
			kept = join(data, make([]byte, -len(data)&3))
		}
		if !bytes.HasPrefix(got, kept) {
			t.Errorf("%s: the initrd does not begin with the profile's", name)
		}
		over := put(t, got[len(kept):], t.TempDir(), "over")
		if files := contents(t, over); files["usr/sbin/provium-agent"] != "AGENT" {
			t.Errorf("%s: %v", name, files)
		}
		plain, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: initrd, NoAgent: true})
		if err != nil || plain.Initrd != initrd || plain.Inject || strings.Contains(plain.Cmdline, "rdinit") {
			t.Errorf("%s without agent: %+v, %v", name, plain, err)
		}
		dst := filepath.Join(t.TempDir(), "x")
		if err := plain.Compose(t.Context(), dst, []File{{"/sbin/x", 0o640, []byte("X")}}); err != nil {
			t.Errorf("%s: files without agent: %v", name, err)
		} else if name == "zstd" {
			continue // it stays compressed
		} else if files := contents(t, dst); files["usr/sbin/x"] != "X" || files["init"] != "#!/bin/sh\n" {
			t.Errorf("%s: files without agent: %v", name, files)
		}
	}
	corrupt := put(t, main[:500], t.TempDir(), "initrd")
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: corrupt}); err == nil ||
		!strings.Contains(err.Error(), "initrd "+corrupt+" is cut short at offset") {
		t.Errorf("corrupt: %v", err)
	}
	empty := put(t, nil, t.TempDir(), "initrd")
	for _, spec := range []Spec{
		{Initrd: empty}, {Initrd: empty, NoAgent: true}, {Kernel: empty, ForcedKernel: true}, {Overlay: empty},
	} {
		if _, err := s.Resolve(t.Context(), spec); err == nil || !strings.Contains(err.Error(), empty) ||
			!strings.Contains(err.Error(), ": the file is empty") {
			t.Errorf("empty: %v", err)
		}
	}
	// An image of a file system is its kernel's affair.
	disk := put(t, bytes.Repeat([]byte("fs"), 4000), t.TempDir(), "initrd")
	for _, initrd := range []string{corrupt, put(t, gzipped(t, main)[:100], t.TempDir(), "initrd"), disk, disk} {
		_, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: initrd, NoAgent: true})
		if cut := initrd != disk; (err != nil) != cut || cut && !strings.Contains(err.Error(), "initrd "+initrd+
			" is cut short at offset") {
			t.Errorf("cut short, without agent: %v", err)
		}
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: "/none"}); err == nil ||
		!strings.Contains(err.Error(), "initrd /none: no such file") {
		t.Errorf("missing: %v", err)
	}
	if items, err := os.ReadDir(s.cache.Path(kindInitrd)); err != nil ||
		slices.ContainsFunc(items, func(e os.DirEntry) bool { return e.Name()[0] == '.' }) {
		t.Errorf("left over: %v, %v", items, err)
	}
}

func TestCompose(t *testing.T) {
	s := testStore(t, nil)
	putKernel(t, s.cfg.HostRoot, "6.1")
	img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "initrd")
	err = img.Compose(t.Context(), dst, []File{{"/etc/a b", 0o644, []byte("one")}, {"/x/\xff\n", 0o7755, nil}})
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, dst)
	want := "0644 \"/etc/a b\" 0\n7755 \"/x/\\xff\\n\" 1\n"
	if files[".provium/files/manifest"] != want || files[".provium/files/0"] != "one" ||
		files["sbin/provium-agent"] != "AGENT" {
		t.Errorf("manifest %q", files[".provium/files/manifest"])
	}
	if err := img.Compose(t.Context(), dst, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an existing file: %v", err)
	}
	for _, f := range []File{{Path: "etc/x"}, {Path: "/"}, {Path: "/x/"}, {Path: "/a\x00b"}, {Path: "/a/.."},
		{Path: "/x", Mode: 0o10000}, {Path: "/" + strings.Repeat("x", 5000)}} {
		if err := CheckFiles([]File{{Path: "/ok"}, f}); err == nil || !strings.HasPrefix(err.Error(), "files[2]: ") {
			t.Errorf("%.20q: %v", f.Path, err)
		}
	}
}

func TestPlaceFiles(t *testing.T) {
	base := append(mergedUsr(), dirItem("bin", 0o755), dirItem("empty", 0o755), dirItem("full", 0o755),
		fileItem("full/x", 0o644, nil), fileItem("bin/busybox", 0o755, nil), linkItem("link", "elsewhere"))
	place := func(files ...File) ([]item, error) {
		t.Helper()
		l, err := listItems(base)
		if err != nil {
			t.Fatal(err)
		}
		return l.placeFiles(files)
	}
	items, err := place(File{"/sbin/a", 0o4750, nil}, File{"/new/dir/b", 0o600, nil}, File{"/empty", 0o644, nil},
		File{"/bin/busybox", 0o755, nil}, File{"/link", 0o644, nil}, File{"/new/dir/c", 0o600, nil})
	// The directory before busybox makes the kernel unlink the old file.
	want := []string{"usr/sbin/a", "new/", "new/dir/", "new/dir/b", "empty", "bin/busybox/", "bin/busybox", "link",
		"new/dir/c"}
	if got := placedNames(items); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	} else if items[0].Mode&0o7777 != 0o4750 {
		t.Errorf("mode %o", items[0].Mode)
	}
	for want, files := range map[string][]File{
		`files[1]: "/full" is a directory of the initrd that is not empty`: {{Path: "/full"}},
		`files[2]: "/a" is a directory of the initrd that is not empty`:    {{Path: "/a/b"}, {Path: "/a"}},
		`files[1] ("/init/x"): the initrd has a file at /init`:             {{Path: "/init/x"}},
		`files[2] ("/a/b"): the initrd has a file at /a`:                   {{Path: "/a"}, {Path: "/a/b"}},
	} {
		if _, err := place(files...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	img := &Image{Profile: "p"}
	if err := img.Compose(t.Context(), t.TempDir()+"/x", []File{{Path: "/x"}}); err == nil ||
		!strings.Contains(err.Error(), "profile `p`: files need an initrd to stand in") {
		t.Errorf("without an initrd: %v", err)
	}
}

func TestOverlaySearch(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, func(c *Config) { c.Executable = filepath.Join(dir, "a/bin/provium") })
	var b bytes.Buffer
	if err := s.WriteOverlay(&b); err != nil {
		t.Fatal(err)
	}
	items, err := readOverlay(put(t, b.Bytes(), dir, "o.cpio.gz"))
	if got := placedNames(items); err != nil || !slices.Equal(got,
		[]string{"sbin/provium-agent"}) {
		t.Errorf("overlay: %v, %v", got, err)
	}
	check := func(profile, want string) {
		t.Helper()
		if got, err := s.findOverlay(profile); err != nil || got != want {
			t.Errorf("found %q, %v; want %q", got, err, want)
		}
	}
	check("", "")
	binary := put(t, nil, s.cfg.Executable)
	dist := put(t, b.Bytes(), dir, "dist", overlayName)
	check("", dist)
	now := time.Now()
	if err := errors.Join(os.Chtimes(dist, now, now), os.Chtimes(binary, now, now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	check("", "") // it is left from the build before
	if err := os.Chtimes(binary, now, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	check("", dist)
	agent, err := s.agent()
	if err != nil {
		t.Fatal(err)
	}
	other, err := trailerOf(append(agent.items, fileItem("x", 0, nil)))
	if err != nil || !isArchiveWith(dist, agent.trailer) || isArchiveWith(binary, agent.trailer) ||
		isArchiveWith(dist, other) {
		t.Errorf("the overlay of this build: %v", err)
	}
	share := put(t, b.Bytes(), dir, "a/share/provium", overlayName)
	check("", share)
	s.cfg.Overlay = put(t, b.Bytes(), dir, "env")
	check("", s.cfg.Overlay)
	check(dist, dist)
	if _, err := s.findOverlay("/none"); err == nil || !strings.Contains(err.Error(),
		"agent overlay /none (from agent_overlay_path): no such file") {
		t.Errorf("named and missing: %v", err)
	}
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("text"),
		"no agent": archiveOf(t, mergedUsr()...)} {
		if _, err := readOverlay(put(t, data, dir, "bad")); err == nil ||
			!strings.Contains(err.Error(), "read agent overlay "+dir+"/bad: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The overlay's content is used in place of the payload.
	putKernel(t, s.cfg.HostRoot, "6.1")
	own := put(t, archiveOf(t, fileItem(guestAgent, 0o755, []byte("OWN")), fileItem("opt/x", 0o644, []byte("X"))), dir,
		"own")
	img, err := s.Resolve(t.Context(), Spec{Profile: "p", Overlay: own})
	if err != nil || img.Overlay != own {
		t.Fatalf("%+v, %v", img, err)
	}
	if files := contents(t, img.Initrd); files[guestAgent] != "OWN" || files["opt/x"] != "X" {
		t.Errorf("%v", files)
	}
}

// TestOverlayNearBinaryIsBad has files near the binary that are not what a build leaves.
// The agent in the binary is used, with one notice.
func TestOverlayNearBinaryIsBad(t *testing.T) {
	foreign := archiveOf(t, fileItem(guestAgent, 0o755, []byte("OTHER")))
	for name, c := range map[string]struct {
		data   []byte
		change func(file string) error
		want   string // "" is no notice: the file is used
	}{
		"another build's":     {foreign, nil, ""},
		"text":                {[]byte("text"), nil, "read agent overlay"},
		"cut":                 {gzipped(t, foreign)[:80], nil, "read agent overlay"},
		"others can write it": {foreign, func(file string) error { return os.Chmod(file, 0o666) }, "mode 0666"},
		"others can replace it": {foreign, func(file string) error { return os.Chmod(filepath.Dir(file), 0o777) },
			"mode 0777"},
		"of another user": {foreign, func(file string) error { return os.Chown(file, 1234, 1234) }, "uid 1234"},
		"in another's directory": {foreign, func(file string) error { return os.Chown(filepath.Dir(file), 1234, 1234) },
			"uid 1234"},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
			t.Fatal(err)
		}
		var notices []string
		s := testStore(t, func(cfg *Config) {
			cfg.Executable = filepath.Join(dir, "bin/provium")
			cfg.Notice = func(text string) { notices = append(notices, text) }
		})
		putKernel(t, s.cfg.HostRoot, "6.1")
		file := put(t, c.data, dir, "dist", overlayName)
		if c.change != nil && c.change(file) != nil {
			continue // this user cannot give files away
		}
		for range 2 {
			img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := "AGENT"
			if c.want == "" {
				want = "OTHER"
			}
			if got := contents(t, img.Initrd)[guestAgent]; got != want || (img.Overlay == file) != (c.want == "") {
				t.Errorf("%s: agent %q of %s", name, got, img.Overlay)
			}
		}
		if text := strings.Join(notices, "\n"); !strings.Contains(text, c.want) || (len(notices) == 1) != (c.want !=
			"") {
			t.Errorf("%s: %q", name, notices)
		}
	}
}

func TestMissingPayload(t *testing.T) {
	s := testStore(t, func(c *Config) { c.Payload = fstest.MapFS{} })
	putKernel(t, s.cfg.HostRoot, "6.1")
	const want = `guest agent missing: build with "make build"`
	if err := s.WriteOverlay(io.Discard); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if _, err := s.Resolve(t.Context(), Spec{Profile: "p"}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}

func TestCache(t *testing.T) {
	s := testStore(t, nil)
	putKernel(t, s.cfg.HostRoot, "6.1")
	var wg sync.WaitGroup
	images := make([]*Image, 8)
	for i := range images {
		wg.Add(1)
		go func() {
			defer wg.Done()
			other := *s
			img, err := other.Resolve(t.Context(), Spec{Profile: "p"})
			if err != nil {
				t.Error(err)
				return
			}
			images[i] = img
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	entries, err := s.List()
	if err != nil || len(entries) != 2 || entries[0].Kind != kindVmlinux || entries[0].Note != "6.1" ||
		entries[1].Kind != kindInitrd || entries[1].Size == 0 {
		t.Fatalf("%+v, %v", entries, err)
	}
	// What a crash cut off is made again.
	if err := os.Truncate(images[0].Initrd, 100); err != nil {
		t.Fatal(err)
	}
	img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(img.Initrd); err != nil || st.Size() <= 100 {
		t.Errorf("cut initrd: %v, %v", st, err)
	}
	// A damaged entry is made again.
	if err := os.Truncate(images[0].Kernel, 5); err != nil {
		t.Fatal(err)
	}
	img, err = s.Resolve(t.Context(), Spec{Profile: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(img.Kernel); err != nil || st.Size() == 5 {
		t.Errorf("damaged entry: %v", err)
	}
	now := time.Now()
	for range 2 { // the second one looks at nothing
		if err := s.Trim(now); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) == 0 {
		t.Errorf("trimmed to %v, %v", list, err)
	}
	if gone, err := s.Prune(0, time.Hour, now); err != nil || len(gone) != 0 {
		t.Errorf("pruned what was just used: %v, %v", gone, err)
	}
	if gone, err := s.Prune(0, time.Hour, now.Add(4*time.Hour)); err != nil || len(gone) != 2 {
		t.Errorf("pruned %v, %v", gone, err)
	}
	if img, err = s.Resolve(t.Context(), Spec{Profile: "p"}); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	for range 2 {
		if files, err := img.Export(out); err != nil || len(files) != 3 {
			t.Errorf("export: %v, %v", files, err)
		}
	}
	if gone, err := s.Clean(); err != nil || len(gone) != 2 {
		t.Errorf("cleaned %v, %v", gone, err)
	}
	if entries, err := s.List(); err != nil || len(entries) != 0 {
		t.Errorf("after clean: %v, %v", entries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Resolve(ctx, Spec{Profile: "p"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := NewStore(Config{CacheDir: "relative"}); err == nil {
		t.Error("a relative cache directory is taken")
	}
}

func TestCompareReleases(t *testing.T) {
	order := []string{"", "5.10", "6.1-rc3", "6.1", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-10-cloud-amd64",
		"6.10.0-1", "6.12.9+deb13-amd64"}
	for i, a := range order {
		for j, b := range order {
			if got := compareReleases(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compare %q and %q: %d", a, b, got)
			}
		}
	}
}

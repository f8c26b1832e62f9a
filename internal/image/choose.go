package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"provium/internal/image/kernel"
	"provium/internal/image/kmod"
)

// chosenKernel is a kernel that the guest can be started from.
type chosenKernel struct {
	file     string // as given or found
	boot     string // what QEMU gets
	origin   Origin
	release  string
	digest   string // of file
	pvh      bool
	tree     *kmod.Tree // nil if there is none
	searched string     // where a module tree was searched
	notes    []string
}

// chooseKernel finds the profile's kernel.
func (s *Store) chooseKernel(ctx context.Context, spec Spec) (*chosenKernel, error) {
	fail := func(err error) (*chosenKernel, error) {
		return nil, fmt.Errorf("profile `%s`: %w", spec.Profile, err)
	}
	switch {
	case spec.Kernel != "":
		k, err := s.openKernel(ctx, spec.Kernel, Explicit, s.moduleRoots(spec.Kernel), !spec.NoAgent)
		if err != nil {
			var link *noLinkError
			if errors.As(err, &link) { // which has its own remedy
				return fail(err)
			}
			return fail(fmt.Errorf("%w; %s", err, explicitRemedy(err)))
		}
		return k, nil
	case spec.Root != "":
		var notes []string
		list := s.candidates(spec.Root, &notes)
		if len(list) == 0 {
			return fail(fmt.Errorf("no readable kernel in the tree %s: searched %s%s", spec.Root, strings.Join(kernelPatterns[:], ", "), noteList(notes)))
		}
		k, err := s.openKernel(ctx, list[0].file, InRoot, []string{spec.Root}, !spec.NoAgent)
		if err != nil {
			return fail(err)
		}
		k.notes = append(notes, k.notes...)
		return k, nil
	}
	k, err := s.autoKernel(ctx, !spec.NoAgent)
	if err != nil {
		return fail(err)
	}
	return k, nil
}

func explicitRemedy(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "make it readable (`sudo chmod a+r` on it), or leave `kernel` out to let Provium choose one"
	}
	return "give the path of a bzImage or vmlinux, or leave `kernel` out to let Provium choose one"
}

func noteList(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, "; ") + ")"
}

// moduleRoots are the trees whose lib/modules may belong to the kernel in file:
// the one it stands in, if that can be told, and the host's.
func (s *Store) moduleRoots(file string) []string {
	dir := filepath.Dir(file)
	roots := []string{s.cfg.HostRoot}
	if filepath.Base(dir) == "boot" {
		return append([]string{filepath.Dir(dir)}, roots...)
	}
	if at := strings.Index(dir, "/lib/modules/"); at >= 0 {
		return append([]string{strings.TrimSuffix(dir[:at], "/usr") + "/"}, roots...)
	}
	return append([]string{dir}, roots...)
}

// openKernel checks the kernel in file, makes its bootable form, and finds its
// modules. With agent set it has to have a virtio console.
func (s *Store) openKernel(ctx context.Context, file string, origin Origin, roots []string, agent bool) (*chosenKernel, error) {
	h, err := readKernelHeader(file)
	if err != nil {
		return nil, err
	}
	k := &chosenKernel{file: file, boot: file, origin: origin, release: h.Version}
	if k.digest, err = s.fileDigest(ctx, file); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", file, reason(err))
	}
	v, err := s.vmlinux(ctx, k, h)
	if err != nil {
		return nil, err
	}
	if k.release == "" {
		k.release = v.Version
	}
	if v.Reason != "" {
		k.notes = append(k.notes, fmt.Sprintf("kernel %s is booted compressed: %s", file, v.Reason))
	}
	if err := k.findModules(roots); err != nil {
		return nil, err
	}
	if agent {
		if err := k.checkLink(v); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func readKernelHeader(file string) (*kernel.Header, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", file, reason(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", file, reason(err))
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("kernel %s: not a regular file", file)
	}
	h, err := kernel.ReadHeader(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", file, reason(err))
	}
	return h, nil
}

// findModules opens the kernel's module tree. None is no error: everything may
// be built in.
func (k *chosenKernel) findModules(roots []string) error {
	var searched []string
	if k.release == "" || !filepath.IsLocal(k.release) {
		k.searched = "(the kernel does not tell its release)"
		return nil
	}
	for _, root := range roots {
		for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
			dir := filepath.Join(root, lib, k.release)
			if slices.Contains(searched, dir) {
				continue
			}
			searched = append(searched, dir)
			tree, err := kmod.Open(dir)
			if err == nil {
				k.tree = tree
				return nil
			}
			if !errors.Is(err, kmod.ErrNoTree) {
				return fmt.Errorf("kernel %s: %w", k.file, err)
			}
		}
	}
	k.searched = strings.Join(searched, ", ")
	return nil
}

// noLinkError is a kernel whose guest could not reach its agent.
type noLinkError struct{ text string }

func (e *noLinkError) Error() string { return e.text }

func noLink(format string, args ...any) error {
	return &noLinkError{fmt.Sprintf(format, args...)}
}

// checkLink makes sure that the guest will have a port to reach its agent by.
func (k *chosenKernel) checkLink(v *vmlinuxInfo) error {
	if v.VirtioConsole {
		return nil
	}
	if k.tree == nil {
		// Only a kernel that could be looked into is known to lack the driver.
		if !v.Inspected {
			return nil
		}
		return noLink("kernel %s has no virtio console built in (CONFIG_VIRTIO_CONSOLE) and no modules in %s: the agent cannot be reached; build the kernel with CONFIG_VIRTIO_PCI=y and CONFIG_VIRTIO_CONSOLE=y, or install its modules there",
			k.file, k.searched)
	}
	for _, m := range []struct{ name, option, what string }{
		{"virtio_console", "CONFIG_VIRTIO_CONSOLE", "virtio console"},
		{"virtio_pci", "CONFIG_VIRTIO_PCI", "virtio PCI driver"},
	} {
		if !k.tree.Has(m.name) {
			return noLink("kernel %s has no %s (%s), neither built in nor as a module in %s: the agent cannot be reached; enable it in the kernel's configuration or use another kernel",
				k.file, m.what, m.option, k.tree.Dir())
		}
	}
	return nil
}

// kernelPatterns are where kernels stand in a root tree.
var kernelPatterns = [...]string{"boot/vmlinuz*", "boot/bzImage*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz", "vmlinuz", "bzImage"}

type candidate struct {
	file, release string
}

// candidates returns the readable kernels in a root tree, the newest first. For
// every other one a note is added.
func (s *Store) candidates(root string, notes *[]string) []candidate {
	var out []candidate
	seen := map[string]bool{}
	for _, pattern := range kernelPatterns {
		files, err := filepath.Glob(filepath.Join(globQuote(root), pattern))
		if err != nil {
			*notes = append(*notes, fmt.Sprintf("search kernels in %s: %v", root, err))
			continue
		}
		for _, file := range files {
			h, err := readKernelHeader(file)
			if err != nil {
				*notes = append(*notes, "skipped "+err.Error())
				continue
			}
			// /boot/vmlinuz and vmlinuz-RELEASE, or /boot and lib/modules, are often one.
			if h.Version != "" && seen[h.Version] {
				continue
			}
			seen[h.Version] = true
			out = append(out, candidate{file, h.Version})
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return compareReleases(b.release, a.release) })
	return out
}

// globQuote makes a path a pattern that matches only itself.
func globQuote(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}

// compareReleases orders kernel releases: runs of digits by value, the rest as
// text, and a release candidate before its release.
func compareReleases(a, b string) int {
	a, b = strings.ReplaceAll(a, "-rc", "~rc"), strings.ReplaceAll(b, "-rc", "~rc")
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if x != y {
				return strings.Compare(x, y)
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return rank(a) - rank(b)
		}
		a, b = a[1:], b[1:]
	}
	return rank(a) - rank(b)
}

// rank orders what follows after equal parts: "~" comes before the end, and the
// end before everything else.
func rank(rest string) int {
	switch {
	case rest == "":
		return 0
	case rest[0] == '~':
		return -1
	}
	return int(rest[0])
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// autoKernel tries the running kernel of the host, its other kernels, a package
// downloaded before, and at last a download.
func (s *Store) autoKernel(ctx context.Context, agent bool) (*chosenKernel, error) {
	var notes []string
	try := func(list []candidate, origin Origin, root string) *chosenKernel {
		for _, c := range list {
			k, err := s.openKernel(ctx, c.file, origin, []string{root}, agent)
			if err == nil && k.tree == nil {
				err = fmt.Errorf("kernel %s has no modules in %s", c.file, k.searched)
			}
			if err != nil {
				notes = append(notes, "skipped "+err.Error())
				continue
			}
			k.notes = append(slices.Clone(notes), k.notes...)
			return k
		}
		return nil
	}
	host := s.candidates(s.cfg.HostRoot, &notes)
	running := func(c candidate) bool { return c.release == s.cfg.HostRelease }
	var first, rest []candidate
	for _, c := range host {
		if running(c) {
			first = append(first, c)
		} else {
			rest = append(rest, c)
		}
	}
	if k := try(first, HostKernel, s.cfg.HostRoot); k != nil {
		return k, nil
	}
	if k := try(rest, Newest, s.cfg.HostRoot); k != nil {
		return k, nil
	}
	cached := func() *chosenKernel {
		for _, root := range s.downloaded() {
			if k := try(s.candidates(root, &notes), Downloaded, root); k != nil {
				touch(filepath.Dir(root), time.Now())
				return k
			}
		}
		return nil
	}
	if k := cached(); k != nil {
		return k, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := s.download(ctx)
	if err == nil {
		if k := cached(); k != nil {
			return k, nil
		}
		err = errors.New("the downloaded package holds no usable kernel")
	}
	return nil, fmt.Errorf("no kernel to boot: no readable one with its modules in %s, and the distribution's kernel package could not be had: %w%s. Provide a kernel: name one (`kernel = \"PATH\"` in the profile, or --kernel PATH), make one in /boot readable, or install a kernel package; if the package lists are missing or old, run `apt-get update`",
		filepath.Join(s.cfg.HostRoot, "boot"), err, noteList(notes))
}

// vmlinuxInfo is what the cache knows of a kernel, beside its vmlinux.
type vmlinuxInfo struct {
	kernel.Vmlinux
	// Inspected tells that the uncompressed kernel was looked into.
	Inspected bool `json:"inspected"`
	// Size is the length of the vmlinux in bytes, 0 if it was not kept.
	Size int64 `json:"size"`
	// Reason says why the kernel is booted as the bzImage it is.
	Reason string `json:"reason,omitempty"`
}

const (
	infoFile    = "info.json"
	vmlinuxFile = "vmlinux"
	maxInfo     = 64 << 10
)

// vmlinux sets k.boot and k.pvh to the uncompressed kernel, which it extracts to
// the cache at the first use of a bzImage.
func (s *Store) vmlinux(ctx context.Context, k *chosenKernel, h *kernel.Header) (*vmlinuxInfo, error) {
	dir := s.path(kindVmlinux, k.digest)
	v := readInfo(dir)
	if v == nil {
		unlock, err := s.lock(ctx, kindVmlinux)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if v = readInfo(dir); v == nil {
			// What is there without being valid was damaged from outside.
			if err := os.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("repair image cache: %w", err)
			}
			if v, err = s.extract(k, h); err != nil {
				return nil, fmt.Errorf("kernel %s: %w", k.file, err)
			}
		}
	}
	touch(dir, time.Now())
	switch {
	case h.Kind == kernel.ELF && !v.PVH:
		return nil, fmt.Errorf("kernel %s: the vmlinux has no PVH entry point (CONFIG_PVH), so QEMU cannot start it; use the bzImage of the same build", k.file)
	case h.Kind == kernel.ELF:
		k.pvh = true
	case v.Size > 0:
		k.boot, k.pvh = filepath.Join(dir, vmlinuxFile), true
	}
	return v, nil
}

// readInfo returns the cached knowledge in dir, nil if there is none or the entry
// is damaged.
func readInfo(dir string) *vmlinuxInfo {
	st, err := os.Stat(filepath.Join(dir, infoFile))
	if err != nil || st.Size() > maxInfo {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, infoFile))
	v := new(vmlinuxInfo)
	if err != nil || json.Unmarshal(text, v) != nil {
		return nil
	}
	if v.Size > 0 {
		st, err := os.Stat(filepath.Join(dir, vmlinuxFile))
		if err != nil || st.Size() != v.Size {
			return nil
		}
	}
	return v
}

func (s *Store) extract(k *chosenKernel, h *kernel.Header) (*vmlinuxInfo, error) {
	v := new(vmlinuxInfo)
	err := s.install(kindVmlinux, k.digest, func(tmp string) error {
		if err := os.Mkdir(tmp, 0o755); err != nil {
			return err
		}
		in, err := os.Open(k.file)
		if err != nil {
			return reason(err)
		}
		defer in.Close()
		if h.Kind == kernel.ELF {
			if err := v.inspect(in); err != nil {
				return err
			}
			return writeInfo(tmp, v)
		}
		out, err := os.Create(filepath.Join(tmp, vmlinuxFile))
		if err != nil {
			return err
		}
		defer out.Close()
		err = h.Extract(out, in)
		if err == nil {
			err = v.inspect(out)
		}
		switch {
		case err != nil:
			v.Reason = err.Error()
		case !v.PVH:
			v.Reason = "it has no PVH entry point (CONFIG_PVH)"
		case !h.SlowToUnpack():
			// QEMU puts a vmlinux back as it was at every reset, also at the one
			// with which the firmware wakes a machine from suspend-to-RAM: only
			// a bzImage survives that.
			v.Reason = "it unpacks itself fast, and can be woken from suspend-to-RAM as it is"
		}
		if v.Reason != "" {
			v.Size = 0
			if err := os.Remove(out.Name()); err != nil {
				return err
			}
		}
		// On the disk before the entry is: its size alone would not tell a hole.
		return errors.Join(out.Sync(), out.Close(), writeInfo(tmp, v))
	})
	return v, err
}

func (v *vmlinuxInfo) inspect(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	x, err := kernel.Inspect(f, st.Size())
	if err != nil {
		return err
	}
	v.Vmlinux, v.Inspected, v.Size = *x, true, st.Size()
	return nil
}

func writeInfo(dir string, v *vmlinuxInfo) error {
	// An explicit vmlinux is booted where it stands; only the knowledge is kept.
	if _, err := os.Stat(filepath.Join(dir, vmlinuxFile)); err != nil {
		v.Size = 0
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, infoFile), text, 0o644)
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/arch"
	"provium/internal/image/kernel"
	"provium/internal/image/kmod"
)

// chosenKernel is a kernel that the guest can be started from.
type chosenKernel struct {
	file     string // as given or found
	inside   unwrapped
	boot     string // what QEMU gets
	arch     *arch.Arch
	origin   Origin
	release  string
	digest   string // of file
	entry    string // the cache entry of the package that it was downloaded in
	pvh      bool
	tree     *kmod.Tree // nil if there is none
	searched string     // where a module tree was searched
	notes    []string
}

// moduleDirs are where the modules of a kernel may be.
type moduleDirs struct {
	build string   // the directory in which the kernel was built, "" if it is not known
	roots []string // they have lib/modules/RELEASE
}

// openKernel checks the kernel in file, makes its bootable form, and finds its modules
// in one of dirs. With agent it must have a virtio console.
func (s *Store) openKernel(
	ctx context.Context, file string, origin Origin, dirs moduleDirs, agent bool,
) (*chosenKernel, error) {
	inside, err := s.unwrap(ctx, file)
	if err != nil {
		return nil, err
	}
	h, err := readKernelHeader(inside.file)
	if err != nil {
		return nil, err
	}
	k := &chosenKernel{file: file, inside: inside, boot: inside.file, arch: h.Arch, origin: origin, release: h.Version}
	if w := inside.wrapping; w != "" {
		k.notes = append(k.notes, fmt.Sprintf("kernel %s is taken out of what is around it (%s)", file, w))
	}
	if k.digest, err = s.cache.FileDigest(ctx, file); err != nil {
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
		k.notes = append(k.notes, compressedNote(file, v.Reason))
	}
	if err := k.findModules(s, dirs); err != nil {
		return nil, err
	}
	if agent {
		if err := k.checkNeeds(v, dirs.build); err != nil {
			err.text += configHint(dirs.build)
			return nil, err
		}
	}
	return k, nil
}

// compressed sets k.boot to the bzImage as it is.
func (k *chosenKernel) compressed(profile string) error {
	if k.pvh && k.boot == k.inside.file {
		return fmt.Errorf("profile `%s` has boot_compressed = true, and its kernel %s is an ELF vmlinux; give the "+
			"bzImage of the same build", profile, k.file)
	}
	k.boot, k.pvh = k.inside.file, false
	return nil
}

// readKernelHeader returns the header of a kernel file.
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

// findModules opens the kernel's module tree. A missing one is no error, since all
// drivers may be built in.
func (k *chosenKernel) findModules(s *Store, dirs moduleDirs) error {
	var searched []string
	if dirs.build != "" {
		tree, err := s.openTree(dirs.build)
		if err == nil {
			k.tree = tree
			return nil
		}
		if !errors.Is(err, kmod.ErrNoTree) {
			return fmt.Errorf("kernel %s: %w", k.file, err)
		}
		searched = append(searched, dirs.build)
	}
	if k.release == "" || !filepath.IsLocal(k.release) {
		k.searched = "(the kernel does not tell its release)"
		return nil
	}
	for _, root := range dirs.roots {
		for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
			dir := filepath.Join(root, lib, k.release)
			if slices.Contains(searched, dir) {
				continue
			}
			searched = append(searched, dir)
			tree, err := s.openTree(dir)
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

// noLinkError is returned for a kernel whose guest could not reach its agent.
type noLinkError struct{ text string }

func (e *noLinkError) Error() string { return e.text }

// noLink returns a noLinkError.
func noLink(format string, args ...any) *noLinkError {
	return &noLinkError{fmt.Sprintf(format, args...)}
}

// checkLink returns a noLinkError if the guest would have no port for its agent.
func (k *chosenKernel) checkLink(v *vmlinuxInfo) *noLinkError {
	if v.VirtioConsole {
		return nil
	}
	if k.tree == nil {
		// Only a kernel that could be looked into is known to lack the driver.
		if !v.Inspected {
			return nil
		}
		return noLink("kernel %s has no virtio console built in (CONFIG_VIRTIO_CONSOLE) and no modules in %s: the "+
			"agent cannot be reached; build the kernel with CONFIG_VIRTIO_PCI=y and CONFIG_VIRTIO_CONSOLE=y, or "+
			"install its modules there", k.file, k.searched)
	}
	for _, m := range []struct{ name, option, what string }{
		{"virtio_console", "CONFIG_VIRTIO_CONSOLE", "virtio console"},
		{"virtio_pci", "CONFIG_VIRTIO_PCI", "virtio PCI driver"},
	} {
		if !k.tree.Has(m.name) {
			return noLink("kernel %s has no %s (%s), neither built in nor as a module in %s: the agent cannot be "+
				"reached; enable it in the kernel's configuration or use another kernel",
				k.file, m.what, m.option, k.tree.Dir())
		}
	}
	return nil
}

// checkNeeds returns a noLinkError for a kernel whose guests would start no agent or could not be reached. What only a
// file beside the kernel says, which may be of another build, is a note.
func (k *chosenKernel) checkNeeds(v *vmlinuxInfo, build string) *noLinkError {
	hasModule := func(name string) bool { return k.tree != nil && k.tree.Has(name) }
	if lacks := v.Options.Missing(hasModule); len(lacks) > 0 {
		return noLink("kernel %s was built without %s, by its own configuration: the agent cannot be reached; enable "+
			"that, or use another kernel", k.file, strings.Join(lacks, ", "))
	}
	link := k.checkLink(v)
	if v.Options != nil {
		return link
	}
	file, options := k.configBeside(build)
	if lacks := options.Missing(hasModule); len(lacks) > 0 {
		said := fmt.Sprintf("%s does not set %s", file, strings.Join(lacks, ", "))
		k.notes = append(k.notes, "guests may not be reached: "+said)
		if link != nil {
			link.text += "; " + said
		}
	}
	return link
}

// configBeside returns the file with the configuration of a kernel, and what it says; nil without such a file.
func (k *chosenKernel) configBeside(build string) (string, kernel.Options) {
	files := []string{filepath.Join(filepath.Dir(k.file), "config-"+k.release)}
	if build != "" {
		files = []string{filepath.Join(build, ".config")}
	}
	if k.tree != nil {
		files = append(files, filepath.Join(k.tree.Dir(), "config"), filepath.Join(k.tree.Dir(), "build", ".config"))
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, kernel.MaxConfig))
		f.Close()
		if err == nil {
			return file, kernel.ReadOptions(string(text))
		}
	}
	return "", nil
}

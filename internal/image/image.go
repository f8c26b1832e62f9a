// Package image turns a profile into what QEMU boots: it chooses a kernel, finds
// the modules the guest needs, builds or merges the initrd with the agent in it,
// and puts the kernel command line together. It embeds the guest's binaries.
//
// It starts no guest and reads neither flags nor environment nor configuration
// files. Its subpackages know the cache of results, the package manager and the file
// formats: kernel images, module trees, cpio archives, compressions.
//
// Start reading at Store.Resolve in image.go. It goes one way: choose.go decides which
// kernel is used, kernel.go and vmlinux.go open it, packages.go has downloaded ones,
// build.go and overlay.go make the initrd; all of them end in package cache.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"provium/internal/arch"
	"provium/internal/image/cache"
	"provium/internal/image/kmod"
	"provium/internal/inputerror"
	"provium/internal/userland"
)

// Spec is what a profile wants. The zero value is fully automatic. Paths are
// absolute.
type Spec struct {
	// Profile names the profile in errors.
	Profile string
	// Arch is the guest's architecture. With nil it is that of the kernel, and the host's where
	// the kernel is chosen automatically.
	Arch *arch.Arch
	// Kernel is a bzImage, an ELF vmlinux or an Image; chosen automatically if empty.
	Kernel string
	// Release is that of the kernel, or its beginning, if Kernel is empty; any if it is empty, too.
	Release string
	// Root is a tree in which the kernel is found, if Kernel is empty.
	Root string
	// Initrd is an initramfs; the built-in one if empty.
	Initrd string
	// Cmdline is the kernel command line; nil if the profile has none.
	Cmdline *string
	// CmdlineFile holds the base command line; none if empty.
	CmdlineFile string
	// NoAgent leaves the initrd as it is (inject_agent = false).
	NoAgent bool
	// Overlay is an agent overlay file to use; searched for if empty.
	Overlay string
	// Modules are further kernel modules to load, by name or absolute path, optionally with parameters
	// behind the name.
	Modules []string
	// Form is in which form a bzImage is booted (boot_compressed).
	Form Form
	// Userland is the root file system; the initrd without one.
	Userland userland.Source
	// Made is that userland if it was made already.
	Made *userland.Userland
	// Shares are where the guest has directories of the host, in the order of their tags.
	Shares []string
	// Vsock loads the driver by which the agent is reached with transport = "vsock".
	Vsock bool
	// ForcedKernel is set if Kernel was named for the whole run, not by the profile.
	// The profile needs no command line then.
	ForcedKernel bool
}

// Form is in which form a bzImage is booted.
type Form string

// The forms of a bzImage.
const (
	ByCompression Form = ""           // as the vmlinux in it, unless that unpacks itself fast
	AsItIs        Form = "compressed" // never as its vmlinux
	Unpacked      Form = "unpacked"   // as its vmlinux wherever that can be booted
)

// Origin is where a kernel came from.
type Origin string

// The origins, in the order in which an automatic choice tries the last four.
const (
	Explicit   Origin = "explicit"
	InRoot     Origin = "root tree"
	HostKernel Origin = "running kernel of the host"
	Newest     Origin = "newest kernel of the host"
	Downloaded Origin = "downloaded package"
)

// Module is a kernel module in the initrd.
type Module struct {
	// Name is the canonical name.
	Name string
	// Path is the file it was taken from.
	Path string
	// Params are its parameters.
	Params string
}

// Image is a resolved profile. It is immutable and safe for concurrent use.
type Image struct {
	// Profile is the profile's name.
	Profile string
	// Arch is the architecture of the guest.
	Arch *arch.Arch
	// Kernel is the file to boot: the vmlinux inside KernelFile if there is one
	// that QEMU can start, else KernelFile itself.
	Kernel string
	// KernelFile is the kernel as it was given or found, without what was around it.
	KernelFile string
	// KernelGiven is the file that KernelFile was taken out of: a unified kernel image, an EFI zboot image or a
	// compressed kernel. Of others it is KernelFile.
	KernelGiven string
	// Origin is how it was found.
	Origin Origin
	// Release is the kernel's release, as uname -r prints it; may be empty.
	Release string
	// PVH is set if Kernel is a vmlinux with a PVH entry point.
	PVH bool
	// ModulesDir is the module tree used, empty if none was found.
	ModulesDir string
	// Early are the modules that the agent's link needs, Late the others, both in
	// load order.
	Early, Late []Module
	// Initrd is the file to boot; empty if there is none.
	Initrd string
	// BaseInitrd is the profile's own one, empty if it is built in or absent.
	BaseInitrd string
	// Inject is set if the agent is in Initrd.
	Inject bool
	// Overlay is where the agent was taken from.
	Overlay string
	// Userland is the root file system, nil if that is the initrd.
	Userland *userland.Userland
	// Cmdline is the kernel command line of a boot without options.
	Cmdline string
	// Key is a digest over the content of everything that a boot without options
	// depends on.
	Key string
	// Notes are remarks for the user, e.g. on kernels that were skipped.
	Notes []string

	cmdline CmdlineSpec
}

// CommandLine returns the kernel command line of a boot: replace, if not nil, takes the
// place of the profile's, and appended comes last.
func (img *Image) CommandLine(replace *string, appended string) (string, error) {
	c := img.cmdline
	c.Boot, c.Append = replace, appended
	return Cmdline(c)
}

// Modules that every guest gets, if its kernel has them as modules.
var (
	earlyModules = [...]string{"virtio_pci", "virtio_console"}
	lateModules  = [...]string{"virtio_net", "virtio_blk", "virtio_rng", "button", "evdev"}
)

// vsockModule is the guest's driver of vsock.
const vsockModule = "vmw_vsock_virtio_transport"

// looks is how often an image is resolved again while what is known of packages changes.
const looks = 3

// Resolve finds or makes everything that a guest of the profile boots from. Results are
// cached; a second call with the same inputs reads little.
func (s *Store) Resolve(ctx context.Context, spec Spec) (*Image, error) {
	img, err := s.resolve(ctx, spec)
	// A package may be damaged, or another goroutine has found one that is.
	for range looks {
		if err == nil || ctx.Err() != nil || !s.lookAgain() && !errors.Is(err, cache.ErrChanged) {
			break
		}
		img, err = s.resolve(ctx, spec)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("resolve image of profile `%s`: %w", spec.Profile, context.Cause(ctx))
		}
		return nil, inputerror.Plain(err)
	}
	return img, nil
}

// FindKernel finds the kernel of a profile, or downloads it, which is the first step of Resolve.
func (s *Store) FindKernel(ctx context.Context, spec Spec) error {
	_, err := s.chooseKernel(ctx, spec)
	return inputerror.Plain(err)
}

// resolve is Resolve with the errors of its parts.
func (s *Store) resolve(ctx context.Context, spec Spec) (*Image, error) {
	img := &Image{Profile: spec.Profile, Inject: !spec.NoAgent}
	cmdline, err := cmdlineSpec(spec)
	if err == nil && !mayBeUnified(spec.Kernel) {
		_, err = Cmdline(cmdline) // before anything is downloaded
	}
	if err != nil {
		return nil, err
	}
	if spec.Initrd != "" {
		if err := checkReadable(spec.Initrd); err != nil {
			return nil, fmt.Errorf("profile `%s`: initrd %s: %w; give a readable initramfs, or leave initrd out for "+
				"the built-in one", spec.Profile, spec.Initrd, err)
		}
	}
	k, err := s.chooseKernel(ctx, spec)
	if err != nil {
		return nil, err
	}
	useUnified(&spec, &cmdline, k)
	img.Arch, img.cmdline, img.BaseInitrd = k.arch, cmdline, spec.Initrd
	img.cmdline.Arch = k.arch
	if img.Cmdline, err = img.CommandLine(nil, ""); err != nil {
		return nil, err
	}
	if spec.HasUserland() && k.arch != payloadArch {
		return nil, fmt.Errorf("profile `%s`: guests of %s have the userland `busybox` only, or an initrd of their own",
			spec.Profile, k.arch)
	}
	if img.Userland, err = s.userland(ctx, spec); err != nil {
		return nil, fmt.Errorf("profile `%s`: %w", spec.Profile, err)
	}
	form := "image 1"
	if spec.Form != ByCompression {
		form += " " + string(spec.Form)
	}
	switch spec.Form {
	case AsItIs:
		err = k.compressed(spec.Profile)
	case Unpacked:
		err = s.unpacked(ctx, k)
	}
	if err != nil {
		return nil, err
	}
	img.Kernel, img.KernelFile, img.KernelGiven, img.Origin = k.boot, k.inside.file, k.file, k.origin
	img.Release, img.PVH, img.Notes = k.release, k.pvh, k.notes

	var initrdKey string
	if spec.NoAgent {
		if len(spec.Modules) > 0 {
			return nil, fmt.Errorf("profile `%s`: modules need the agent in the initrd, and inject_agent is false",
				spec.Profile)
		}
		if img.Initrd = spec.Initrd; img.Initrd != "" {
			if initrdKey, err = s.cache.FileDigest(ctx, img.Initrd); err != nil {
				return nil, fmt.Errorf("read initrd %s: %w", img.Initrd, reason(err))
			}
			if err := s.checkWhole(ctx, img.Initrd, initrdKey); err != nil {
				return nil, fmt.Errorf("profile `%s`: %w", spec.Profile, err)
			}
		}
	} else {
		if initrdKey, err = s.addAgent(ctx, img, k, spec); err != nil {
			return nil, err
		}
	}
	if err := s.checkPackage(k, append(slices.Clone(img.Early), img.Late...)); err != nil {
		return nil, fmt.Errorf("profile `%s`: %w", spec.Profile, err)
	}
	parts := []string{form, k.digest, initrdKey, img.Cmdline} // the kernel says which architecture it is for
	if img.Userland != nil {
		parts = append(parts, img.Userland.Key)
	}
	img.Key = cache.Key(parts...)
	return img, nil
}

// addAgent makes the initrd with the agent and its modules, and returns the initrd's key.
func (s *Store) addAgent(ctx context.Context, img *Image, k *chosenKernel, spec Spec) (key string, err error) {
	in := initrdInput{arch: k.arch, base: spec.Initrd, userland: img.Userland, shares: spec.Shares}
	if in.modules, err = modules(img, k, spec); err != nil {
		return "", err
	}
	if in.base == "" && k.arch != payloadArch {
		if in.busybox, err = s.busyboxOf(ctx, k.arch); err != nil {
			return "", fmt.Errorf("profile `%s`: %w", spec.Profile, err)
		}
	}
	if img.Overlay, err = s.findAgent(&in, spec.Overlay); err != nil {
		return "", err
	}
	img.Early, img.Late = describe(k.tree, in.modules.early), describe(k.tree, in.modules.late)
	if img.Initrd, key, err = s.buildInitrd(ctx, in); err != nil {
		return "", fmt.Errorf("profile `%s`: %w", spec.Profile, err)
	}
	return key, nil
}

// describe returns modules for an Image.
func describe(tree *kmod.Tree, mods []kmod.Module) []Module {
	var out []Module
	for _, m := range mods {
		if !filepath.IsAbs(m.Path) {
			m.Path = filepath.Join(tree.Dir(), m.Path)
		}
		out = append(out, Module{Name: m.Name, Path: m.Path, Params: m.Params})
	}
	return out
}

// moduleSet is what modules a guest loads.
type moduleSet struct {
	early, late []kmod.Module
	must        map[string]bool // without these there is no boot
}

// modules returns the modules to load. Those that a profile lists must exist, and load in
// the guest. That the agent's link works was checked by checkLink.
func modules(img *Image, k *chosenKernel, spec Spec) (set moduleSet, err error) {
	wrap := func(err error) error {
		return fmt.Errorf("profile `%s`, kernel %s: %w", spec.Profile, k.file, err)
	}
	if k.tree == nil {
		if err := set.addListed(kmod.Empty(k.searched), spec.Modules); err != nil {
			return set, wrap(err)
		}
		return set, nil
	}
	img.ModulesDir = k.tree.Dir()
	want := func(names []string) []string {
		var out []string
		for _, n := range names {
			if k.tree.Has(n) {
				out = append(out, n)
			} else {
				img.Notes = append(img.Notes, fmt.Sprintf("kernel %s has no %s", k.file, n))
			}
		}
		return out
	}
	// The driver may be built in without being listed, see checkLink.
	var need []string
	for _, n := range earlyModules {
		if k.tree.Has(n) {
			need = append(need, n)
		}
	}
	if spec.Vsock {
		if !k.tree.Has(vsockModule) {
			return set, wrap(fmt.Errorf("it has no virtio vsock (CONFIG_VIRTIO_VSOCKETS), neither built in nor "+
				"as a module in %s, which transport = \"vsock\" needs", k.tree.Dir()))
		}
		need = append(need, vsockModule)
	}
	if set.early, err = k.tree.Closure(need, nil); err != nil {
		return set, wrap(err)
	}
	late := want(lateModules[:])
	if img.Userland != nil {
		for _, n := range userlandModules(img.Userland) {
			if !k.tree.Has(n) {
				return set, wrap(fmt.Errorf("it has no %s, neither built in nor as a module in %s, which "+
					"userland needs", n, k.tree.Dir()))
			}
		}
		late = append(late, userlandModules(img.Userland)...)
	}
	if len(spec.Shares) > 0 {
		if !k.tree.Has(shareModule) {
			return set, wrap(fmt.Errorf("it has no virtiofs (CONFIG_VIRTIO_FS), neither built in nor as a module in "+
				"%s, which `rw` needs", k.tree.Dir()))
		}
		late = append(late, shareModule)
	}
	if set.late, err = k.tree.Closure(late, set.early); err != nil {
		return set, wrap(err)
	}
	if err := set.addListed(k.tree, spec.Modules); err != nil {
		return set, wrap(err)
	}
	return set, nil
}

// addListed adds the modules that a profile lists, and sets the parameters of those
// that are loaded anyway.
func (s *moduleSet) addListed(tree *kmod.Tree, listed []string) error {
	more, err := tree.Closure(listed, append(slices.Clone(s.early), s.late...))
	if err != nil {
		return err
	}
	s.must = map[string]bool{}
	for _, m := range more {
		s.must[m.Name] = !m.Soft
	}
	for _, m := range listed {
		name, params := kmod.Split(m)
		for _, list := range [][]kmod.Module{s.early, s.late} {
			for i := range list {
				if list[i].Name != name {
					continue
				}
				s.must[name] = true
				if params != "" {
					list[i].Params = params
				}
			}
		}
	}
	for _, m := range more {
		if !s.replace(m) {
			s.late = append(s.late, m)
		}
	}
	return nil
}

// replace has a file that was given take the place of the module of its name that is loaded anyway.
func (s *moduleSet) replace(given kmod.Module) bool {
	for _, list := range [][]kmod.Module{s.early, s.late} {
		for i := range list {
			if list[i].Name == given.Name {
				list[i] = given
				return true
			}
		}
	}
	return false
}

// cmdlineSpec reads the command line file and returns what the command lines are made of.
func cmdlineSpec(spec Spec) (CmdlineSpec, error) {
	c := CmdlineSpec{
		Profile: spec.Profile, Cmdline: spec.Cmdline, Inject: !spec.NoAgent,
		ExplicitKernel: spec.Kernel != "" && !spec.ForcedKernel, Arch: spec.Arch,
	}
	if spec.CmdlineFile != "" {
		f, err := os.Open(spec.CmdlineFile)
		if err != nil {
			return c, fmt.Errorf("profile `%s`: cmdline_file %s: %w", spec.Profile, spec.CmdlineFile, reason(err))
		}
		defer f.Close()
		// A longer one is refused below, as too long for the kernel.
		text, err := io.ReadAll(io.LimitReader(f, 64<<10))
		if err != nil {
			return c, fmt.Errorf("profile `%s`: cmdline_file %s: %w", spec.Profile, spec.CmdlineFile, reason(err))
		}
		t := string(text)
		c.File = &t
	}
	return c, nil
}

// Export copies what the image boots from into dir, which is made if missing:
// the kernel as "kernel", the initrd as "initrd", the command line as "cmdline".
// It returns the files written.
func (img *Image) Export(dir string) ([]string, error) {
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("export image: %w", err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	var out []string
	for _, f := range []struct{ from, name string }{{img.Kernel, "kernel"}, {img.Initrd, "initrd"}} {
		if f.from == "" {
			continue
		}
		to := filepath.Join(dir, f.name)
		if err := exportFile(to, f.from); err != nil {
			return fail(err)
		}
		out = append(out, to)
	}
	to := filepath.Join(dir, "cmdline")
	if err := os.WriteFile(to, []byte(img.Cmdline+"\n"), 0o644); err != nil {
		return fail(err)
	}
	return append(out, to), nil
}

// exportFile copies one file, and replaces an old copy.
func exportFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	// The target may be the very file that is copied.
	f, err := os.CreateTemp(filepath.Dir(to), ".export-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(copyFile(f, in, st.Size()), f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

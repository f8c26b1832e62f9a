package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/arch"
	"provium/internal/image/kernel"
)

// chooseKernel returns the profile's kernel: the one it names, the newest of the tree it
// names, or the automatic one.
func (s *Store) chooseKernel(ctx context.Context, spec Spec) (*chosenKernel, error) {
	fail := func(err error) (*chosenKernel, error) {
		return nil, fmt.Errorf("profile `%s`: %w", spec.Profile, err)
	}
	switch {
	case spec.Kernel != "":
		file, build, err := builtKernel(spec.Kernel)
		if err != nil {
			return fail(err)
		}
		k, err := s.openKernel(ctx, file, Explicit, moduleDirs{build, s.moduleRoots(file)}, !spec.NoAgent)
		if err != nil {
			var link *noLinkError
			if errors.As(err, &link) { // which has its own remedy
				return fail(err)
			}
			return fail(fmt.Errorf("%w; %s", err, explicitRemedy(err)))
		}
		return k, spec.checkArch(k)
	case spec.Root != "":
		var notes []string
		list := candidates(spec.Root, spec.Arch, &notes)
		if len(list) == 0 {
			return fail(fmt.Errorf("no readable kernel in the tree %s: searched %s%s",
				spec.Root, strings.Join(kernelPatterns[:], ", "), noteList(notes)))
		}
		k, err := s.openKernel(ctx, list[0].file, InRoot, moduleDirs{roots: []string{spec.Root}}, !spec.NoAgent)
		if err != nil {
			return fail(err)
		}
		k.notes = append(notes, k.notes...)
		return k, nil
	}
	if spec.Release != "" {
		k, err := s.kernelOf(ctx, cmp.Or(spec.Arch, arch.Host()), spec.Release, !spec.NoAgent)
		if err != nil {
			return fail(err)
		}
		return k, nil
	}
	k, err := s.autoKernel(ctx, cmp.Or(spec.Arch, arch.Host()), !spec.NoAgent)
	if err != nil {
		return fail(err)
	}
	return k, nil
}

// checkArch returns an error for a kernel of another architecture than the profile's.
func (spec *Spec) checkArch(k *chosenKernel) error {
	if spec.Arch == nil || spec.Arch == k.arch {
		return nil
	}
	return fmt.Errorf("profile `%s`: kernel %s is for %s, and the profile has arch = \"%s\"; name a kernel for that, "+
		"or set arch = \"%s\"", spec.Profile, k.file, k.arch, spec.Arch, k.arch)
}

// explicitRemedy returns what the user can do about a kernel that was named.
func explicitRemedy(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "make it readable (`sudo chmod a+r` on it), or leave `kernel` out to let Provium choose one"
	}
	return "give the path of a bzImage or vmlinux, or leave `kernel` out to let Provium choose one"
}

// noteList returns notes for the end of an error.
func noteList(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, "; ") + ")"
}

// moduleRoots returns the trees whose lib/modules may belong to the kernel in file: the
// one that has the file, as far as its path shows that, and the host's.
func (s *Store) moduleRoots(file string) []string {
	roots := append(rootsOf(file), s.cfg.HostRoot)
	// A link may stand apart from the kernel's modules.
	if target, err := filepath.EvalSymlinks(file); err == nil && target != filepath.Clean(file) {
		roots = slices.Insert(roots, 1, rootsOf(target)...)
	}
	return roots
}

// rootsOf returns the tree that has a kernel, as far as its path shows that.
func rootsOf(file string) []string {
	dir := filepath.Dir(file)
	if filepath.Base(dir) == "boot" {
		return []string{filepath.Dir(dir)}
	}
	if at := strings.Index(dir, "/lib/modules/"); at >= 0 {
		return []string{strings.TrimSuffix(dir[:at], "/usr") + "/"}
	}
	return []string{dir}
}

// kernelPatterns are the places of kernels in a root tree.
var kernelPatterns = [...]string{
	"boot/vmlinuz*", "boot/bzImage*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz", "vmlinuz", "bzImage",
}

// imagePattern is the place of uncompressed kernels in a root tree, which an Image may be. Of
// x86-64 it is that of kernels for debuggers.
const imagePattern = "boot/vmlinux-*"

// candidate is a kernel that may be chosen.
type candidate struct {
	file, release string
}

// candidates returns the readable kernels for an architecture in a root tree, the newest
// first; nil is any architecture. It adds a note for each of the others.
func candidates(root string, a *arch.Arch, notes *[]string) []candidate {
	var out []candidate
	seen := map[string]bool{}
	patterns := kernelPatterns[:]
	if a != nil && a != arch.AMD64 {
		patterns = append([]string{imagePattern}, patterns...)
	}
	for _, pattern := range patterns {
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
			if a != nil && h.Arch != a {
				*notes = append(*notes, fmt.Sprintf("skipped kernel %s: it is for %s, not for %s", file, h.Arch, a))
				continue
			}
			if h.Kind == kernel.Image {
				// Its header has no release, but its name.
				_, h.Version, _ = strings.Cut(filepath.Base(file), "-")
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

// source is a root tree for the automatic choice.
type source struct {
	origin Origin
	root   string
	list   []candidate
}

// sources returns an iterator over the kernels to try, in this order: the running kernel
// of the host, its other kernels, and the packages in the cache. If there are none of
// those, a package is downloaded. It adds notes for kernels that cannot be read.
func (s *Store) sources(ctx context.Context, a *arch.Arch, notes *[]string) iter.Seq2[source, error] {
	return func(yield func(source, error) bool) {
		var running, others []candidate
		var onHost []candidate
		if a == arch.Host() {
			onHost = candidates(s.cfg.HostRoot, a, notes)
		}
		for _, c := range onHost {
			if c.release == s.cfg.HostRelease {
				running = append(running, c)
			} else {
				others = append(others, c)
			}
		}
		if !yield(source{HostKernel, s.cfg.HostRoot, running}, nil) ||
			!yield(source{Newest, s.cfg.HostRoot, others}, nil) {
			return
		}
		roots, err := s.packages(ctx, a)
		if err != nil {
			yield(source{}, err)
			return
		}
		for _, root := range roots {
			list, skipped := s.packageKernels(root, a)
			*notes = append(*notes, skipped...)
			if !yield(source{Downloaded, root, list}, nil) {
				return
			}
		}
	}
}

// autoKernel returns the first usable kernel of the sources. It must have its modules.
func (s *Store) autoKernel(ctx context.Context, a *arch.Arch, agent bool) (*chosenKernel, error) {
	var notes []string
	failure := errors.New("the downloaded package holds no usable kernel")
	for src, err := range s.sources(ctx, a, &notes) {
		if err != nil {
			failure = err
			break
		}
		for _, c := range src.list {
			if src.origin == Downloaded {
				if err := s.cache.Unchanged(filepath.Dir(src.root), c.file); err != nil {
					return nil, err
				}
			}
			k, err := s.openKernel(ctx, c.file, src.origin, moduleDirs{roots: []string{src.root}}, agent)
			if err == nil && k.tree == nil {
				err = fmt.Errorf("kernel %s has no modules in %s", c.file, k.searched)
			}
			if err != nil {
				notes = append(notes, "skipped "+err.Error())
				continue
			}
			if src.origin == Downloaded {
				k.entry = filepath.Dir(src.root)
				s.cache.Touch(src.root)
			}
			k.notes = append(slices.Clone(notes), k.notes...)
			return k, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, &NoKernelError{arch: a, searched: filepath.Join(s.cfg.HostRoot, "boot"), failure: failure, notes: notes}
}

// NoKernelError is returned for a profile that leaves the choice of the kernel to Provium,
// when the host has no usable one and no download was possible.
type NoKernelError struct {
	arch     *arch.Arch
	searched string // a directory
	failure  error  // of the download
	notes    []string
}

// Error says what was tried, and how to provide a kernel.
func (e *NoKernelError) Error() string {
	if e.arch != arch.Host() {
		return fmt.Sprintf("no kernel of %s to boot: the packages could not be had: %v%s. Provide a kernel: name one "+
			"(`kernel = \"PATH\"` in the profile, or --kernel PATH)", e.arch, e.failure, noteList(e.notes))
	}
	return fmt.Sprintf("no kernel to boot: no readable one with its modules in %s, and the distribution's kernel "+
		"package could not be had: %v%s. Provide a kernel: name one (`kernel = \"PATH\"` in the profile, or --kernel "+
		"PATH), make one in /boot readable, or install a kernel package; if the package lists are missing or old, run "+
		"`apt-get update`", e.searched, e.failure, noteList(e.notes))
}

// Unwrap returns why the download has failed.
func (e *NoKernelError) Unwrap() error { return e.failure }

package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/arch"
	"provium/internal/image/apt"
)

// debianKernels are the releases of Debian whose packages have a kernel, by its version.
var debianKernels = map[string]string{"6.1": "bookworm", "6.12": "trixie"}

// releaseMark is in the names of entries with packages that were downloaded for their release: they do not take the
// place of what is chosen without a word.
const releaseMark = "release-"

// suiteMark is the part of an entry's name that says which release of Debian the packages are of.
func suiteMark(suite string) string {
	if suite == "" {
		return ""
	}
	return releaseMark + suite + "-"
}

// isOfRelease reports whether a kernel's release is the one that is wanted, or begins with it.
func isOfRelease(release, wanted string) bool {
	rest, ok := strings.CutPrefix(release, wanted)
	return ok && (rest == "" || rest[0] < '0' || rest[0] > '9')
}

// kernelOf returns the newest usable kernel of a release: of the host, of packages in the cache, or of a package of
// Debian that is downloaded.
func (s *Store) kernelOf(ctx context.Context, a *arch.Arch, wanted string, agent bool) (*chosenKernel, error) {
	f := finder{store: s, arch: a, wanted: wanted, agent: agent}
	if a == arch.Host() {
		f.look(ctx, s.cfg.HostRoot, HostKernel)
	}
	roots, err := s.packagesNamed(ctx, func(name string) bool {
		return isPackageOf(strings.Replace(name, releaseMark, "", 1), a) && !strings.Contains(name, apt.Busybox)
	})
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		f.look(ctx, root, Downloaded)
	}
	if f.found != nil || ctx.Err() != nil {
		return f.found, ctx.Err()
	}
	suite := ""
	for version, name := range debianKernels {
		if isOfRelease(wanted, version) {
			suite = name
		}
	}
	if suite == "" {
		return nil, f.missing("")
	}
	// A package of that suite which is there has another release, or is of no use.
	look := func() (bool, error) {
		roots, err := s.packagesNamed(ctx, func(name string) bool {
			return strings.HasPrefix(name, packageMark(a)+suiteMark(suite))
		})
		for _, root := range roots {
			f.look(ctx, root, Downloaded)
		}
		return f.found != nil, err
	}
	err = s.download(ctx, apt.Want{Arch: a, What: apt.Kernel, Suite: suite}, look)
	if err != nil && ctx.Err() == nil {
		return nil, f.missing(fmt.Sprintf(", and Debian's %s, which has one, could not be asked: %v", suite, err))
	}
	if _, err := look(); err != nil || ctx.Err() != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	if f.found == nil {
		return nil, f.missing(", and Debian's " + suite + " has another one")
	}
	return f.found, nil
}

// finder looks for a kernel of a release.
type finder struct {
	store  *Store
	arch   *arch.Arch
	wanted string
	agent  bool

	found  *chosenKernel
	others []string // releases
	notes  []string
}

// look takes the newest usable kernel in a tree, if none was found before.
func (f *finder) look(ctx context.Context, root string, origin Origin) {
	if f.found != nil {
		return
	}
	list := candidates(root, f.arch, &f.notes)
	for _, c := range list {
		if !isOfRelease(c.release, f.wanted) {
			f.others = append(f.others, c.release)
			continue
		}
		k, err := f.store.openKernel(ctx, c.file, origin, moduleDirs{roots: []string{root}}, f.agent)
		if err != nil {
			f.notes = append(f.notes, "skipped "+err.Error())
			continue
		}
		if origin == Downloaded {
			k.entry = filepath.Dir(root)
			f.store.cache.Touch(root)
		}
		k.notes = append(slices.Clone(f.notes), k.notes...)
		f.found = k
		return
	}
}

// missing returns the error of a release that no kernel has.
func (f *finder) missing(why string) error {
	var known []string
	for version, suite := range debianKernels {
		known = append(known, fmt.Sprintf("%s (%s)", version, suite))
	}
	slices.Sort(known)
	slices.Sort(f.others)
	here := "none"
	if list := slices.Compact(f.others); len(list) > 0 {
		here = strings.Join(list, ", ")
	}
	return fmt.Errorf("no kernel of the release %s for %s%s; on this machine: %s; Debian's packages have %s; `kernel` "+
		"takes the path of a kernel or of a source tree, too%s", f.wanted, f.arch, why, here, strings.Join(known, ", "),
		noteList(f.notes))
}

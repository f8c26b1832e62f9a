package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"provium/internal/arch"
	"provium/internal/image/apt"
	"provium/internal/image/kmod"
)

// packageRoot is the unpacked tree in a cache entry of kindKernel.
const packageRoot = "root"

// packages returns the roots of the kernel packages for an architecture in the cache, the
// newest first. It downloads one for an empty cache.
func (s *Store) packages(ctx context.Context, a *arch.Arch) ([]string, error) {
	roots, err := s.kernelPackages(ctx, a)
	if len(roots) > 0 || err != nil {
		return roots, err
	}
	had := func() (bool, error) { roots, err := s.kernelPackages(ctx, a); return len(roots) > 0, err }
	if err := s.download(ctx, apt.Want{Arch: a, What: apt.Kernel}, had); err != nil {
		return nil, err
	}
	return s.kernelPackages(ctx, a)
}

// kernelPackages are those of cachedPackages that have a kernel.
func (s *Store) kernelPackages(ctx context.Context, a *arch.Arch) ([]string, error) {
	roots, err := s.cachedPackages(ctx, a)
	return slices.DeleteFunc(roots, func(root string) bool {
		return strings.HasPrefix(filepath.Base(filepath.Dir(root)), packageMark(a)+apt.Busybox)
	}), err
}

// download downloads packages, unless they are there, which another process may have done.
func (s *Store) download(ctx context.Context, want apt.Want, isThere func() (bool, error)) error {
	if s.cfg.Runner == nil {
		return errors.New("downloads are switched off")
	}
	if s.cfg.Waiting != nil {
		defer s.cfg.Waiting()()
	}
	unlock, err := s.cache.Lock(ctx, lockDownload)
	if err != nil {
		return err
	}
	defer unlock()
	if had, err := isThere(); err != nil || had {
		return err
	}
	mark := packageMark(want.Arch) + suiteMark(want.Suite)
	tmp, err := s.cache.TempDir(kindKernel, partlyDownloaded+strings.TrimSuffix("-"+mark, "-"))
	if err != nil {
		return err
	}
	want.Foreign = want.Arch != arch.Host()
	_, err = s.cache.Install(ctx, kindKernel, func(dir string) (string, error) {
		root := filepath.Join(dir, packageRoot)
		name, err := apt.Fetch(ctx, s.cfg.Runner, want, tmp, root, s.cfg.Notice, s.cfg.Download)
		return mark + name, err
	})
	if err != nil {
		return err // the next download continues this one
	}
	os.RemoveAll(tmp) // the cache sweeps what is left
	return nil
}

// partlyDownloaded is the directory of a download. It belongs to the process that has the
// lock.
const partlyDownloaded = ".download"

// lockDownload is the lock of a download. The kind's own one is for a moment only.
const lockDownload = "download"

// cachedPackages returns the roots of the packages for an architecture in the cache, the newest
// first.
func (s *Store) cachedPackages(ctx context.Context, a *arch.Arch) ([]string, error) {
	return s.packagesNamed(ctx, func(name string) bool { return isPackageOf(name, a) })
}

// packagesNamed returns the roots of the packages whose entries have such names.
func (s *Store) packagesNamed(ctx context.Context, wanted func(name string) bool) ([]string, error) {
	// Packages of other architectures have thousands of files, which are not looked at.
	dirs, err := s.cache.All(ctx, kindKernel, wanted)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(dirs, func(a, b string) int { return compareReleases(filepath.Base(b), filepath.Base(a)) })
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], packageRoot)
	}
	return dirs, nil
}

// known is what this process has read of the packages in the cache. Entries are looked at
// once, see cache.Cache, so this stays true until they are looked at again.
type known struct {
	kernels sync.Map // packageList by root
	trees   sync.Map // *kmod.Tree by directory
}

// packageList are the kernels of a package, and notes on those that cannot be read.
type packageList struct {
	kernels []candidate
	notes   []string
}

// packageKernels returns the candidates in a package, and notes on what else is there.
func (s *Store) packageKernels(root string, a *arch.Arch) ([]candidate, []string) {
	if had, ok := s.known.kernels.Load(root); ok {
		return had.(packageList).kernels, had.(packageList).notes
	}
	var list packageList
	list.kernels = candidates(root, a, &list.notes)
	s.known.kernels.Store(root, list)
	return list.kernels, list.notes
}

// openTree opens a module tree.
func (s *Store) openTree(dir string) (*kmod.Tree, error) {
	if had, ok := s.known.trees.Load(dir); ok {
		return had.(*kmod.Tree), nil
	}
	tree, err := kmod.Open(dir)
	if err == nil && strings.HasPrefix(dir, s.cache.Path(kindKernel)+"/") {
		s.known.trees.Store(dir, tree)
	}
	return tree, err
}

// checkPackage returns an error if the kernel was downloaded, and its files or those of
// the modules have changed since the package was looked at.
func (s *Store) checkPackage(k *chosenKernel, modules []Module) error {
	if k.entry == "" {
		return nil
	}
	used := []string{k.file}
	if k.tree != nil {
		used = append(used, k.tree.Index()...)
	}
	for _, m := range modules {
		if k.tree != nil && strings.HasPrefix(m.Path, k.tree.Dir()+"/") {
			used = append(used, m.Path)
		}
	}
	return s.cache.Unchanged(k.entry, used...)
}

// lookAgain forgets what is known of packages. It reports whether anything was.
func (s *Store) lookAgain() bool {
	s.known.kernels.Clear()
	s.known.trees.Clear()
	return s.cache.LookAgain()
}

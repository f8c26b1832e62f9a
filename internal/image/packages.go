package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"provium/internal/image/apt"
)

// packageRoot is the unpacked tree in a cache entry of kindKernel.
const packageRoot = "root"

// packages returns the roots of the kernel packages in the cache, the newest first. If
// there are none, it downloads one.
func (s *Store) packages(ctx context.Context) ([]string, error) {
	if roots, err := s.cachedPackages(ctx); len(roots) > 0 || err != nil {
		return roots, err
	}
	if s.cfg.Runner == nil {
		return nil, errors.New("downloads are switched off")
	}
	unlock, err := s.cache.Lock(ctx, lockDownload)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if roots, err := s.cachedPackages(ctx); len(roots) > 0 || err != nil {
		return roots, err // another process downloaded it meanwhile
	}
	tmp, err := s.cache.MakeTemp(kindKernel)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	_, err = s.cache.Install(ctx, kindKernel, func(dir string) (string, error) {
		return apt.Fetch(ctx, s.cfg.Runner, tmp, filepath.Join(dir, packageRoot), s.cfg.Notice)
	})
	if err != nil {
		return nil, err
	}
	return s.cachedPackages(ctx)
}

// lockDownload is the lock of a download. The kind's own one is for a moment only.
const lockDownload = "download"

// cachedPackages returns the roots of the kernel packages in the cache, the newest first.
func (s *Store) cachedPackages(ctx context.Context) ([]string, error) {
	dirs, err := s.cache.All(ctx, kindKernel)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(dirs, func(a, b string) int { return compareReleases(filepath.Base(b), filepath.Base(a)) })
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], packageRoot)
	}
	return dirs, nil
}

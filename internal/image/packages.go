package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"provium/internal/image/apt"
)

// packageRoot is the unpacked tree in a cache entry of kindKernel.
const packageRoot = "root"

// packages returns the roots of the kernel packages in the cache, the newest first. If
// there are none, it downloads one.
func (s *Store) packages(ctx context.Context) ([]string, error) {
	if roots := s.cachedPackages(); len(roots) > 0 {
		return roots, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.cfg.Runner == nil {
		return nil, errors.New("downloads are switched off")
	}
	unlock, err := s.cache.Lock(ctx, kindKernel)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if roots := s.cachedPackages(); len(roots) > 0 {
		return roots, nil // another process downloaded it meanwhile
	}
	tmp, err := s.cache.MakeTemp(kindKernel)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, packageRoot)
	name, err := apt.Fetch(ctx, s.cfg.Runner, tmp, root, s.cfg.Notice)
	if err != nil {
		return nil, err
	}
	err = s.cache.Install(kindKernel, name, func(entry string) error {
		if err := os.Mkdir(entry, 0o755); err != nil {
			return err
		}
		now := time.Now()
		if err := os.Chtimes(entry, now, now); err != nil {
			return err
		}
		return os.Rename(root, filepath.Join(entry, packageRoot))
	})
	if err != nil {
		return nil, err
	}
	return s.cachedPackages(), nil
}

// cachedPackages returns the roots of the kernel packages in the cache, the newest first.
func (s *Store) cachedPackages() []string {
	items, err := os.ReadDir(s.cache.Path(kindKernel))
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range items {
		if !strings.HasPrefix(i.Name(), ".") {
			names = append(names, i.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return compareReleases(b, a) })
	for i := range names {
		names[i] = s.cache.Path(kindKernel, names[i], packageRoot)
	}
	return names
}

package run

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"provium/internal/config"
	"provium/internal/event"
	"provium/internal/script/fixtures"
)

const (
	testSuffix    = ".test.lua"
	fixtureSuffix = ".fixture.lua"
)

// Candidate is a test file that was selected.
type Candidate struct {
	Path        string // relative to the project, or absolute outside of it
	Abs         string
	FixtureRefs []string      // fixture names written literally in it
	Profiles    []string      // profiles of VMs that it declares literally
	Claim       *event.Amount // a literal claim at file scope
}

// discover finds the files with that suffix: below the given paths, or below
// the roots, or below the working directory. Files come in the order of the
// paths, sorted within each, each once.
func discover(cfg *config.Config, workDir string, paths []string, suffix string) ([]string, error) {
	paths, what := searchPaths(cfg, paths)
	var found []string
	seen := map[string]bool{}
	for _, given := range paths {
		below, err := fixtures.FilesBelow(inDir(workDir, given), suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist) && what == "root":
			return nil, fmt.Errorf("root `%s` of `%s`: no such directory", given, cfg.Path)
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("no such file or directory: `%s`", given)
		case err != nil:
			return nil, fmt.Errorf("%s `%s`: %w", what, given, err)
		}
		for _, f := range below {
			if key := canonical(f); !seen[key] {
				seen[key] = true
				found = append(found, f)
			}
		}
	}
	return found, nil
}

// searchPaths returns a copy of the paths to look in, and what they are called in messages.
func searchPaths(cfg *config.Config, given []string) (paths []string, what string) {
	switch {
	case len(given) > 0:
		return slices.Clone(given), "path"
	case len(cfg.Roots) > 0:
		return slices.Clone(cfg.Roots), "root"
	}
	return []string{"."}, "path"
}

// inDir returns the absolute form of a path that is relative to dir.
func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// projectPath is the one form of a file's path in output, events and filters:
// relative to the project when it is inside, also when the two were reached by
// different symbolic links.
func projectPath(project, abs string) string {
	if rel, err := filepath.Rel(project, abs); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	real := filepath.Join(canonical(filepath.Dir(abs)), filepath.Base(abs))
	if rel, err := filepath.Rel(canonical(project), real); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return abs
}

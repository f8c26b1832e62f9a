package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/config"
	"provium/internal/event"
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
	Claim       *event.Amount // a literal claim at file scope
}

// discover finds the files with that suffix: below the given paths, or below
// the roots, or below the working directory. Files come in the order of the
// paths, sorted within each, each once.
func discover(cfg *config.Config, workDir string, paths []string, suffix string) ([]string, error) {
	if len(paths) == 0 {
		paths = cfg.Roots
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var found []string
	seen := map[string]bool{}
	for _, given := range paths {
		path := given
		if !filepath.IsAbs(path) {
			path = filepath.Join(workDir, path)
		}
		below, err := filesBelow(path, suffix)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no such file or directory: `%s`", given)
		}
		if err != nil {
			return nil, fmt.Errorf("path `%s`: %w", given, err)
		}
		for _, f := range below {
			key := f
			if real, err := filepath.EvalSymlinks(f); err == nil {
				key = real
			}
			if !seen[key] {
				seen[key] = true
				found = append(found, f)
			}
		}
	}
	return found, nil
}

func filesBelow(path, suffix string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if !strings.HasSuffix(path, suffix) {
			return nil, fmt.Errorf("not a `*%s` file", suffix)
		}
		return []string{path}, nil
	}
	var found []string
	err = filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != path && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(d.Name(), suffix):
			found = append(found, file)
		}
		return nil
	})
	slices.Sort(found)
	return found, err
}

// projectPath is the one form of a file's path in output, events and filters:
// relative to the project when it is inside.
func projectPath(project, abs string) string {
	rel, err := filepath.Rel(project, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return abs
	}
	return filepath.ToSlash(rel)
}

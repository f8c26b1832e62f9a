package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/event"
	"provium/internal/luascan"
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

	Picks choose.Picks // tests of this file that are wanted
	// Skipped are the tests of a file of which none is to run, each with the reason. The
	// file does not run. Nil is a file that does.
	Skipped []SkippedTest
}

// SkippedTest is a test that is left out before its file runs.
type SkippedTest struct {
	Name, Reason string
	Meta         event.Meta
}

// maxScan is how much of a test file is scanned for literals, in bytes.
const maxScan = 4 << 20

// source returns the text of a test file, nil for one that cannot be read: its runner says why.
func source(abs string) []byte {
	f, err := os.Open(abs)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxScan))
	if err != nil {
		return nil
	}
	return text
}

// describe reads what a test file says about itself before it runs.
func describe(path, abs string) Candidate {
	c := Candidate{Path: path, Abs: abs, FixtureRefs: []string{}}
	if text := source(abs); text != nil {
		c.FixtureRefs, c.Profiles, c.Claim = luascan.Literals(text)
	}
	return c
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

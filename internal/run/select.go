package run

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/config"
)

// Selection says which files to run.
type Selection struct {
	WorkDir     string   // relative paths start here
	Paths       []string // files or directories; none: the roots
	Filter      string   // files whose path contains it
	Shard       Shard    // the zero value is everything
	RerunFailed bool     // only files that failed before
	RerunState  string   // file that says which
	Since       string   // only files modified after this one
	Shuffle     bool     // random order
}

// Selected are the chosen files in the order in which they are to be tried.
type Selected struct {
	Files  []Candidate
	Notice string // when there are none: why
}

// Select finds the files of a run, in the documented order: found, --filter,
// --shard, --rerun-failed, --since. seed is for Shuffle.
func Select(cfg *config.Config, s Selection, seed uint64) (Selected, error) {
	files, err := discover(cfg, s.WorkDir, s.Paths, testSuffix)
	if err != nil {
		return Selected{}, err
	}
	if len(files) == 0 {
		return Selected{Notice: "no *.test.lua files found"}, nil
	}
	var failed map[string]bool
	if s.RerunFailed {
		if failed, err = readRerun(s.RerunState); err != nil {
			return Selected{}, err
		}
		if len(failed) == 0 {
			return Selected{Notice: "nothing to re-run: no failed files are recorded"}, nil
		}
	}
	newer, err := newerThan(s)
	if err != nil {
		return Selected{}, err
	}
	var out []Candidate
	for _, abs := range files {
		path := projectPath(cfg.Dir, abs)
		switch {
		case !strings.Contains(path, s.Filter),
			!s.Shard.has(path),
			failed != nil && !failed[canonical(abs)],
			!newer(abs):
			continue
		}
		c, err := describe(path, abs)
		if err != nil {
			return Selected{}, err
		}
		out = append(out, c)
	}
	if s.Shuffle {
		order := rand.New(rand.NewPCG(seed, 0))
		order.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	return Selected{Files: out, Notice: fmt.Sprintf("no test file is selected (of %d found)", len(files))}, nil
}

func newerThan(s Selection) (func(path string) bool, error) {
	if s.Since == "" {
		return func(string) bool { return true }, nil
	}
	since := s.Since
	if !filepath.IsAbs(since) {
		since = filepath.Join(s.WorkDir, since)
	}
	reference, err := os.Stat(since)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--since: no such file: `%s`", s.Since)
	}
	if err != nil {
		return nil, fmt.Errorf("--since: %w", err)
	}
	return func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.ModTime().After(reference.ModTime())
	}, nil
}

// List finds test or fixture files by the same paths, for listings.
func List(cfg *config.Config, s Selection, fixtures bool) ([]string, error) {
	if !fixtures {
		selected, err := Select(cfg, s, 0)
		if err != nil {
			return nil, err
		}
		var paths []string
		for _, c := range selected.Files {
			paths = append(paths, c.Path)
		}
		return paths, nil
	}
	files, err := discover(cfg, s.WorkDir, s.Paths, fixtureSuffix)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, abs := range files {
		if path := projectPath(cfg.Dir, abs); strings.Contains(path, s.Filter) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

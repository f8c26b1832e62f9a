package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"provium/internal/choose"
	"provium/internal/config"
	"provium/internal/shard"
)

// Selection says which files to run.
type Selection struct {
	WorkDir     string           // relative paths start here
	Paths       []string         // files or directories; none: the roots
	Filter      string           // files whose path contains it
	Shard       shard.Shard      // the zero value is everything
	Durations   *shard.Durations // balance the shards; nil: every Count-th file
	RerunFailed bool             // only files that failed before
	RerunState  string           // file that says which
	Since       string           // only files modified after this one
	Shuffle     bool             // random order

	// Only, if not nil, has the canonical paths of the files to which all this is narrowed.
	Only map[string]bool

	Tests      choose.Filter // which tests of the files are wanted
	AllowEmpty bool          // tests that are asked for by name need not exist

	// collect runs chunks to see their tests, where the source does not show them. It may be nil.
	collect func(files []*foundFile) ([][]choose.Test, error)
}

// Selected are the chosen files in the order in which they are to be tried.
type Selected struct {
	Files  []Candidate
	Notice string // when there are none: why
	// Digest is that of all files of which the shard is a part.
	Digest string
}

// Select finds the files of a run, in the documented order: found, --filter,
// --shard, --rerun-failed, --since. seed is for Shuffle.
func Select(cfg *config.Config, s Selection, seed uint64) (Selected, error) {
	scan := newScanner(cfg)
	found, digest, notice, err := selectFiles(cfg, s, testSuffix, scan)
	if err != nil {
		return Selected{}, err
	}
	if err := scan.collectIdle(found, s); err != nil {
		return Selected{}, err
	}
	out := Selected{Notice: notice, Digest: digest}
	for _, f := range found {
		out.Files = append(out.Files, scan.candidate(f, s.Tests))
	}
	if s.Shuffle {
		order := rand.New(rand.NewPCG(seed, 0))
		order.Shuffle(len(out.Files), func(i, j int) { out.Files[i], out.Files[j] = out.Files[j], out.Files[i] })
	}
	return out, nil
}

// foundFile is a file in its two forms, with the tests of it that are wanted.
type foundFile struct {
	path, abs string
	picks     choose.Picks
	shown     *shownTests // nil until it is scanned
}

// selectFiles finds the files with that suffix and takes those that the selection
// wants. Without any, notice says why. digest is that of the files that are split.
func selectFiles(cfg *config.Config, s Selection, suffix string, scan *scanner) (
	files []*foundFile, digest, notice string, err error) {
	paths, picks, err := splitPaths(s.WorkDir, s.Paths)
	if err != nil {
		return nil, "", "", err
	}
	s.Paths = paths
	all, err := discover(cfg, s.WorkDir, s.Paths, suffix)
	if err != nil {
		return nil, "", "", err
	}
	newer, err := newerThan(s)
	if err != nil {
		return nil, "", "", err
	}
	if len(all) == 0 {
		return nil, shard.Selection(nil, ""), fmt.Sprintf("no *%s files found in %s", suffix, searched(cfg, s)), nil
	}
	var names []string
	picked := map[string]choose.Picks{}
	for _, abs := range all {
		path := projectPath(cfg.Dir, abs)
		if strings.Contains(path, s.Filter) {
			f := &foundFile{path: path, abs: abs, picks: picks[canonical(abs)]}
			files, names = append(files, f), append(names, path)
			if f.picks.Some() {
				picked[path] = f.picks
			}
		}
	}
	digest = shard.Selection(names, s.Tests.Choice(picked))
	var failed rerunState
	if s.RerunFailed {
		if failed, err = readRerun(s.RerunState); err != nil {
			return nil, "", "", err
		}
		if len(failed) == 0 {
			return nil, digest, "nothing to re-run: no failed files are recorded", nil
		}
	}
	if suffix == testSuffix {
		if err := scan.narrow(files, s); err != nil {
			return nil, "", "", err
		}
	}
	part := s.Shard.Split(names, s.Durations)
	files = slices.DeleteFunc(files, func(f *foundFile) bool {
		return !part[f.path] || s.Only != nil && !s.Only[canonical(f.abs)] ||
			s.RerunFailed && !f.rerun(failed) || !newer(f.abs) || f.isUnwanted(s.Tests)
	})
	if len(files) == 0 {
		notice = fmt.Sprintf("no file is selected (%d found)", len(all))
	}
	return files, digest, notice, nil
}

// rerun takes the tests that failed before, and reports whether there are any.
func (f *foundFile) rerun(failed rerunState) bool {
	tests, ok := failed[canonical(f.abs)]
	if len(tests) > 0 {
		f.picks.OnlyFailed, f.picks.Failed = true, tests
	}
	return ok
}

// searched names the directories that files were looked for in.
func searched(cfg *config.Config, s Selection) string {
	paths, _ := searchPaths(cfg, s.Paths)
	for i, path := range paths {
		paths[i] = "`" + inDir(s.WorkDir, path) + "`"
	}
	return strings.Join(paths, ", ")
}

func newerThan(s Selection) (func(path string) bool, error) {
	if s.Since == "" {
		return func(string) bool { return true }, nil
	}
	reference, err := os.Stat(inDir(s.WorkDir, s.Since))
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

// List finds test or fixture files by the same selection, for listings.
func List(ctx context.Context, o Options, fixtures bool) (paths []string, notice string, err error) {
	suffix := testSuffix
	if fixtures {
		suffix = fixtureSuffix
	}
	files, _, notice, err := selectFiles(o.Config, o.selection(ctx), suffix, newScanner(o.Config))
	paths = make([]string, 0, len(files))
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, notice, err
}

// ListedTest is a test in a listing.
type ListedTest struct {
	Path string
	Line int
	Name string // "?" if it is known only when the file runs
	Tags []string
}

// ListTests lists the tests that the options select, slow ones and those with meta.skip among
// them.
func ListTests(ctx context.Context, o Options) (tests []ListedTest, notice string, err error) {
	o.Filter.IncludeSlow = true
	sel := o.selection(ctx)
	scan := newScanner(o.Config)
	files, _, notice, err := selectFiles(o.Config, sel, testSuffix, scan)
	if err != nil {
		return nil, "", err
	}
	hidden := slices.DeleteFunc(slices.Clone(files), func(f *foundFile) bool { return scan.scan(f).exact })
	if err := scan.collectThese(hidden, sel); err != nil {
		return nil, "", err
	}
	for _, f := range files {
		picks := f.picks
		if f.shown.exact {
			picks = picks.Of(f.shown.names())
		}
		for _, t := range f.shown.tests {
			if skip, _ := picks.Skip(t); skip {
				continue
			}
			if skip, _ := o.Filter.Skip(t); skip {
				continue
			}
			tests = append(tests, ListedTest{Path: f.path, Line: firstLine(t), Name: nameOf(t), Tags: t.Tags()})
		}
	}
	if len(tests) == 0 && notice == "" {
		notice = fmt.Sprintf("no test is selected (%d files)", len(files))
	}
	return tests, notice, nil
}

// firstLine returns the line at which a test begins, 0 if it is not known.
func firstLine(t choose.Test) int {
	first := 0
	for _, l := range t.Lines {
		if first == 0 || l.First < first {
			first = l.First
		}
	}
	return first
}

// selection returns what the options select, with all that it takes to see the tests of files.
func (o *Options) selection(ctx context.Context) Selection {
	s := o.Select
	s.Tests = o.Filter
	s.collect = func(files []*foundFile) ([][]choose.Test, error) { return collector{o}.collect(ctx, files) }
	return s
}

// splitPaths takes the tests off PATH:LINE and PATH::NAME, and returns them by the canonical
// path of their file. A file that is also given as a whole, or in a directory, runs with all
// of its tests.
func splitPaths(workDir string, given []string) (paths []string, picks map[string]choose.Picks, err error) {
	picks = map[string]choose.Picks{}
	whole := map[string]bool{}
	for _, text := range given {
		path, name, line := splitPath(workDir, text)
		abs := inDir(workDir, path)
		info, err := os.Stat(abs)
		switch {
		case name == "" && line == 0:
			whole[canonical(abs)] = true
		case err != nil: // what discovers it says why
		case info.IsDir():
			return nil, nil, fmt.Errorf("`%s`: a line or a name needs a file, and `%s` is a directory", text, path)
		default:
			p := picks[canonical(abs)]
			if line > 0 && !slices.Contains(p.Lines, line) {
				p.Lines = append(p.Lines, line)
			}
			if name != "" && !slices.Contains(p.Names, name) {
				p.Names = append(p.Names, name)
			}
			picks[canonical(abs)] = p
		}
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	for file := range picks {
		for path := range whole {
			if file == path || strings.HasPrefix(file, path+"/") {
				delete(picks, file)
			}
		}
	}
	return paths, picks, nil
}

// splitPath splits PATH:LINE or PATH::NAME. What is there as it stands is a path.
func splitPath(workDir, text string) (path, name string, line int) {
	if _, err := os.Lstat(inDir(workDir, text)); err == nil {
		return text, "", 0
	}
	if path, name, ok := strings.Cut(text, "::"); ok && path != "" && name != "" {
		return path, name, 0
	}
	if i := strings.LastIndexByte(text, ':'); i > 0 {
		if line, err := strconv.Atoi(text[i+1:]); err == nil && line > 0 {
			return text[:i], "", line
		}
	}
	return text, "", 0
}

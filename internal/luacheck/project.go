package luacheck

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"provium/internal/luaapi"
	"provium/internal/luascan"
)

// Finding is a mistake and its place.
type Finding struct {
	Path string
	Line int
	Text string
}

// String returns the finding as compilers write it.
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Text) }

// Project is what the names in test files refer to.
type Project struct {
	Profiles []string // nil: names of profiles are not checked
	Fixtures []string // names
	Roots    []string // absolute; modules are below them
	// Compile returns the error of Lua for a text; name stands before the line in it.
	Compile func(text, name string) error
	// Show returns a path as findings show it. Its argument is absolute.
	Show func(path string) string
}

// maxFile is how much of a file is read, in bytes.
const maxFile = 4 << 20

// fixtureSuffix ends the names of fixture files, which have no tests.
const fixtureSuffix = ".fixture.lua"

// source is a file that was parsed.
type source struct {
	path string // as shown
	abs  string
	body *luascan.Block
	vars *variables
}

// check is one run of Project.Check.
type check struct {
	*Project
	files   []*source
	seen    map[string]bool // by absolute path
	globals map[string]bool // assigned in some file
	found   []Finding
}

// Check looks at files, which are given by absolute paths, and at the modules that they
// require. It returns what it has found, by file and line. The number of files has the
// modules, too.
func (p *Project) Check(paths []string) (found []Finding, files int, err error) {
	c := &check{Project: p, seen: map[string]bool{}, globals: map[string]bool{}}
	for _, path := range paths {
		if err := c.load(path); err != nil {
			return nil, 0, err
		}
	}
	for i := 0; i < len(c.files); i++ { // the list grows by what is required
		f := c.files[i]
		f.vars = resolve(f.body)
		for name := range f.vars.globals {
			c.globals[name] = true
		}
		if err := c.loadModules(f); err != nil {
			return nil, 0, err
		}
	}
	for _, f := range c.files {
		k := &checker{check: c, source: f}
		k.duplicates(f.body, map[string]int{})
		k.block(f.body)
	}
	slices.SortStableFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(c.found), len(c.seen), nil
}

// load reads a file. What is no Lua is a finding.
func (c *check) load(path string) error {
	if c.seen[path] {
		return nil
	}
	c.seen[path] = true
	text, err := readFile(path)
	if err != nil {
		return err
	}
	shown := c.Show(path)
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.HasPrefix(text, []byte("#")) { // as of a script
		text = append([]byte("--"), text...)
	}
	if err := c.Compile(string(text), chunkName); err != nil {
		c.found = append(c.found, syntaxFinding(shown, err.Error()))
		return nil
	}
	body, err := luascan.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", shown, err) // Lua takes it
	}
	c.files = append(c.files, &source{path: shown, abs: path, body: body})
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: has more than %d bytes", path, maxFile)
	}
	return text, err
}

// chunkName is what Lua calls a file in messages. It cuts long names.
const chunkName = "chunk"

// syntaxFinding makes a finding of Lua's message, which begins with the name and the line.
func syntaxFinding(path, message string) Finding {
	rest, ok := strings.CutPrefix(message, chunkName+":")
	if number, text, cut := strings.Cut(rest, ": "); ok && cut {
		if line, err := strconv.Atoi(number); err == nil {
			return Finding{path, line, text}
		}
	}
	return Finding{path, 1, message}
}

// loadModules reads what a file requires by literal names.
func (c *check) loadModules(f *source) error {
	for _, r := range f.vars.required {
		path, ok := c.module(r.Value)
		if ok {
			if err := c.load(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// module returns the file of a module.
func (c *check) module(name string) (path string, ok bool) {
	rel := filepath.FromSlash(strings.ReplaceAll(name, ".", "/"))
	if !filepath.IsLocal(rel) {
		return "", false
	}
	for _, root := range c.Roots {
		for _, path := range []string{filepath.Join(root, rel+".lua"), filepath.Join(root, rel, "init.lua")} {
			info, err := os.Stat(path)
			if err == nil && info.Mode().IsRegular() {
				return path, true
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
	}
	return "", false
}

// didYouMean proposes the name nearest to a wrong one, if any is near.
func didYouMean(wrong string, names []string) string {
	if best := luaapi.Nearest(wrong, names); best != "" {
		return fmt.Sprintf(" (did you mean `%s`?)", best)
	}
	return ""
}

// known proposes the nearest name, or lists all.
func known(wrong string, names []string) string {
	if hint := didYouMean(wrong, names); hint != "" || len(names) == 0 {
		return hint
	}
	return " (known: " + strings.Join(names, ", ") + ")"
}

package watch

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/luascan"
)

// Project is where files find what they use.
type Project struct {
	Dir   string   // that relative paths of Lua code start at
	Roots []string // directories of modules and fixtures
	// Tracked returns the files of the host that the builds of a fixture have used. It may be
	// nil.
	Tracked func(fixture string) []string
}

const (
	testSuffix    = ".test.lua"
	fixtureSuffix = ".fixture.lua"

	// maxSource bounds what is read of a file, in bytes.
	maxSource = 4 << 20
)

// Graph says which test files use a file: those that are it, or that require it, restore a
// fixture from it or push it into a guest, directly or through others. Names that are computed
// are not seen.
type Graph struct {
	p     Project
	tests []string
	users map[string]map[string]bool // test files, by canonical path of what they use
}

// NewGraph reads test files, by their absolute paths, and what they use.
func NewGraph(tests []string, p Project) *Graph {
	g := &Graph{p: p, tests: tests, users: map[string]map[string]bool{}}
	for _, test := range tests {
		g.visit(test, test)
	}
	return g
}

// Files returns all files that test files use, whether they are there or not.
func (g *Graph) Files() []string { return slices.Sorted(maps.Keys(g.users)) }

// Tests returns the test files, as NewGraph got them, that a change of a file concerns. A Lua
// file of which no use is seen concerns all, unless it is a test or a fixture.
func (g *Graph) Tests(changed string) []string {
	changed = canonical(changed)
	for path := changed; ; path = filepath.Dir(path) { // a directory may be used with all in it
		if users, ok := g.users[path]; ok {
			return slices.Sorted(maps.Keys(users))
		}
		if path == filepath.Dir(path) {
			break
		}
	}
	if strings.HasSuffix(changed, ".lua") && !strings.HasSuffix(changed, testSuffix) &&
		!strings.HasSuffix(changed, fixtureSuffix) && g.isBelowRoot(changed) {
		return g.tests
	}
	return nil
}

func (g *Graph) isBelowRoot(path string) bool {
	return slices.ContainsFunc(g.p.Roots, func(root string) bool {
		return strings.HasPrefix(path, canonical(root)+string(filepath.Separator))
	})
}

// visit notes that a test uses a Lua file, and all that this uses.
func (g *Graph) visit(test, path string) {
	if !g.note(test, path) {
		return
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxSource || !info.Mode().IsRegular() {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	uses := luascan.UsesOf(text)
	for _, module := range uses.Modules {
		g.find(test, filepath.FromSlash(strings.ReplaceAll(module, ".", "/"))+".lua")
	}
	names, _, _ := luascan.Literals(text)
	for _, name := range names {
		g.find(test, filepath.FromSlash(name)+fixtureSuffix)
		if g.p.Tracked != nil {
			for _, used := range g.p.Tracked(name) {
				g.note(test, used)
			}
		}
	}
	for _, file := range uses.Pushed {
		g.note(test, absolute(filepath.Dir(path), file))
	}
	for _, file := range uses.Read {
		g.visit(test, absolute(g.p.Dir, file))
	}
}

// find visits a file below the first root that has it. Those before may get it.
func (g *Graph) find(test, name string) {
	for _, root := range g.p.Roots {
		path := filepath.Join(root, name)
		if _, err := os.Stat(path); err == nil {
			g.visit(test, path)
			return
		}
		g.note(test, path)
	}
}

// note notes that a test uses a file, and reports whether that is new.
func (g *Graph) note(test, path string) bool {
	path = canonical(path)
	if g.users[path][test] {
		return false
	}
	if g.users[path] == nil {
		g.users[path] = map[string]bool{}
	}
	g.users[path][test] = true
	return true
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// canonical returns a path whose directory has no symbolic links. The file need not be there.
func canonical(path string) string {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, filepath.Base(path))
}

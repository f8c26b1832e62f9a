package byhand

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// program is what a command line names.
type program struct {
	path    string     // in the guest
	isHosts bool       // it is the host's file of that path
	needs   *libraries // that the guest gets, too; nil for none
}

// findProgram decides what a command line means. A name without a slash is searched in PATH
// of the guest. An absolute path means the guest's file, or else the host's; a relative one
// the host's, or else the guest's.
func findProgram(ctx context.Context, link *guest.Client, c *Command) (program, error) {
	name := c.Args[0]
	if !strings.Contains(name, "/") {
		return program{path: name}, nil
	}
	if filepath.IsAbs(name) {
		_, err := link.Stat(ctx, name, true)
		var failed *guest.OpError
		if err == nil || !errors.As(err, &failed) {
			return program{path: name}, err
		}
	} else {
		name = filepath.Join(c.Dir, name)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return program{path: name}, nil // the guest says what is wrong
	case info.IsDir():
		return program{}, fmt.Errorf("%s: is a directory", name)
	case info.Mode()&0o111 == 0:
		return program{}, fmt.Errorf("%s: the host's file is not executable", name)
	}
	needs, err := readLibraries(name, variable(c.Env, "LD_LIBRARY_PATH"))
	if err != nil {
		return program{}, err
	}
	if needs != nil {
		if _, err := link.Stat(ctx, needs.loader, true); err == nil {
			needs = nil // a system with libraries of its own
		} else if link.Err() != nil {
			return program{}, err
		}
	}
	return program{name, true, needs}, nil
}

// goTestSuffix ends the names of the programs that `go test` makes; they run in the directory
// of their package and read what is in this directory of it.
const (
	goTestSuffix = ".test"
	goTestData   = "testdata"
)

// files returns what the guest gets for a program of the host, without what it gets anyway.
func (p *program) files(c *Command) (paths []string) {
	if !p.isHosts {
		return nil
	}
	paths = []string{p.path}
	if strings.HasSuffix(p.path, goTestSuffix) {
		data := filepath.Join(c.Dir, goTestData)
		if info, err := os.Stat(data); err == nil && info.IsDir() {
			paths = append(paths, data)
		}
	}
	if p.needs != nil {
		paths = append(append(paths, p.needs.loader), p.needs.files...)
	}
	copied := slices.Concat(c.Push, c.ReadWrite)
	return slices.DeleteFunc(paths, func(path string) bool {
		return slices.ContainsFunc(copied, func(dir string) bool {
			return path == dir || strings.HasPrefix(path, dir+"/")
		})
	})
}

// libraryPath returns the directories of libraries that the loader would not find by itself.
func (p *program) libraryPath() string {
	if p.needs == nil {
		return ""
	}
	return strings.Join(p.needs.further, ":")
}

// libraries are what a program that is linked dynamically needs.
type libraries struct {
	loader  string
	files   []string // absolute, found on the host
	further []string // directories of some of these that the loader does not look in by itself
}

// loaderDirs are where the loaders of distributions look.
var loaderDirs = []string{"/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib",
	"/usr/lib"}

// readLibraries finds the libraries of a program of the host. It returns nil for one that
// needs none, and for what is not ELF.
func readLibraries(path, libraryPath string) (*libraries, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, nil // a script, for instance
	}
	defer f.Close()
	loader := interpreter(f)
	if loader == "" {
		return nil, nil
	}
	l := &libraries{loader: loader}
	if _, err := os.Stat(loader); err != nil {
		return nil, fmt.Errorf("%s is linked dynamically and needs the loader %s, which neither the guest nor this "+
			"machine has; link it statically", path, loader)
	}
	var missing []string
	seen := map[string]bool{filepath.Base(loader): true}
	var visit func(f *elf.File, of string)
	visit = func(f *elf.File, of string) {
		names, _ := f.ImportedLibraries() // nothing where there is no dynamic section
		own := runpath(f, of)
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			found, dir := findLibrary(name, slices.Concat(filepath.SplitList(libraryPath), own), f.Machine)
			if found == nil {
				missing = append(missing, name)
				continue
			}
			l.files = append(l.files, filepath.Join(dir, name))
			if !slices.Contains(loaderDirs, dir) && !slices.Contains(own, dir) && !slices.Contains(l.further, dir) {
				l.further = append(l.further, dir)
			}
			visit(found, filepath.Join(dir, name))
			found.Close()
		}
	}
	visit(f, path)
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s is linked dynamically and needs %s, which this machine does not have, either; "+
			"link it statically, or set LD_LIBRARY_PATH", path, strings.Join(missing, ", "))
	}
	return l, nil
}

// interpreter returns the loader of a program, "" for one that is linked statically.
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < unix.PathMax {
			text, err := io.ReadAll(p.Open())
			if err == nil {
				return strings.TrimRight(string(text), "\x00")
			}
		}
	}
	return ""
}

// runpath returns the directories that a file itself has its libraries looked for in.
func runpath(f *elf.File, path string) (dirs []string) {
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		texts, _ := f.DynString(tag)
		for _, text := range texts {
			for _, dir := range filepath.SplitList(text) {
				dir = strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path)).Replace(dir)
				dirs = append(dirs, filepath.Clean(dir))
			}
		}
	}
	return dirs
}

// findLibrary looks for a library of a machine in directories, and then where the host's
// loader looks.
func findLibrary(name string, first []string, machine elf.Machine) (f *elf.File, dir string) {
	for _, dir := range slices.Concat(first, loaderDirs, configuredDirs("/etc/ld.so.conf", 0)) {
		if !filepath.IsAbs(dir) {
			continue
		}
		f, err := elf.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if f.Machine == machine {
			return f, dir
		}
		f.Close()
	}
	return nil, ""
}

// configuredDirs returns the directories of a file like ld.so.conf.
func configuredDirs(path string, depth int) (dirs []string) {
	f, err := os.Open(path)
	if err != nil || depth > 4 {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include "); ok {
			pattern = strings.TrimSpace(pattern)
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(path), pattern)
			}
			files, _ := filepath.Glob(pattern)
			for _, file := range files {
				dirs = append(dirs, configuredDirs(file, depth+1)...)
			}
		} else if line != "" {
			dirs = append(dirs, line)
		}
	}
	return dirs
}

func variable(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// missing says what is missing in the guest for a command to be executed.
func (x *running) missing(ctx context.Context, path string) string {
	const none = "the guest has no such command"
	if !strings.Contains(path, "/") {
		return none + " in its PATH; a program of this machine is named by a path, as ./" + path +
			", and --userland host has them all in the guest"
	}
	head := make([]byte, 0, 4096)
	w := headWriter{&head}
	if _, err := x.link.PullFile(ctx, path, w); err != nil && !errors.Is(err, errHead) {
		return none
	}
	line, isScript := strings.CutPrefix(string(head), "#!")
	if isScript {
		line, _, _ = strings.Cut(line, "\n")
		return fmt.Sprintf("it is a script, and the guest lacks its interpreter `%.200s`", strings.TrimSpace(line))
	}
	if f, err := elf.NewFile(strings.NewReader(string(head))); err == nil {
		if loader := interpreter(f); loader != "" {
			return "it is linked dynamically, and the guest lacks its loader " + loader
		}
	}
	return "the guest lacks what it is executed by"
}

// errHead ends a copy of which only the beginning is wanted.
var errHead = errors.New("enough")

// headWriter takes as many bytes as its slice has room for.
type headWriter struct{ to *[]byte }

// Write implements io.Writer.
func (w headWriter) Write(p []byte) (int, error) {
	n := min(len(p), cap(*w.to)-len(*w.to))
	*w.to = append(*w.to, p[:n]...)
	if n < len(p) {
		return n, errHead
	}
	return n, nil
}

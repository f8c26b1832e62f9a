package executable

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Needs is what a program that is linked dynamically needs beside itself.
type Needs struct {
	// Loader is the path of its interpreter, which the kernel starts.
	Loader    string
	Libraries []Library
	machine   elf.Machine
}

// Library is a shared library of this machine.
type Library struct {
	Path string // on this machine
	// At is where the program finds it on a machine that has only its loader: where it is
	// here, except that $ORIGIN is where the program is there. Beside the loader if only
	// the configuration of this machine's loader, or LD_LIBRARY_PATH, names its directory.
	At string
	// IsConfigured is set in that last case.
	IsConfigured bool
}

// loaderDirs are where the loaders of distributions look.
var loaderDirs = []string{"/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib",
	"/usr/lib"}

// maxLibraries is how many libraries a program may need, with theirs.
const maxLibraries = 1024

// Resolve returns what a program of this machine needs to run as the path at, nil for one
// that is linked statically and for what is not ELF. Libraries are looked for as its loader
// does: in libraryPath, as LD_LIBRARY_PATH has it, in the directories that the file itself
// names, in the usual ones and in those of /etc/ld.so.conf.
func Resolve(file, at, libraryPath string) (*Needs, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, nil // a script, for instance
	}
	defer f.Close()
	loader := Interpreter(f)
	if loader == "" {
		return nil, nil
	}
	home, err := filepath.EvalSymlinks(loader)
	if err != nil {
		return nil, fmt.Errorf("%s is linked dynamically and needs the loader %s, which neither the guest nor this "+
			"machine has; link it statically", file, loader)
	}
	r := resolver{first: filepath.SplitList(libraryPath), home: filepath.Dir(home),
		seen: map[string]bool{filepath.Base(loader): true}}
	r.needs = &Needs{Loader: loader, machine: f.Machine}
	r.visit(f, file, at)
	if len(r.missing) > 0 {
		return nil, fmt.Errorf("%s is linked dynamically and needs %s, which this machine does not have, either; "+
			"link it statically, or set LD_LIBRARY_PATH", file, strings.Join(r.missing, ", "))
	}
	return r.needs, nil
}

// ResolveProgram is Resolve for what must be an ELF program of this machine. Needs is nil for
// one that is linked statically.
func ResolveProgram(file, at, libraryPath string) (*Needs, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("host file %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("%s is not an executable file", file)
	}
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s is not an ELF program (%w); push_file copies scripts and other files", file, err)
	}
	f.Close()
	return Resolve(file, at, libraryPath)
}

// Files returns the loader and the libraries on this machine.
func (n *Needs) Files() []string {
	if n == nil {
		return nil
	}
	files := []string{n.Loader}
	for _, l := range n.Libraries {
		files = append(files, l.Path)
	}
	return files
}

// resolver finds the libraries of one program.
type resolver struct {
	needs   *Needs
	first   []string // of LD_LIBRARY_PATH
	home    string   // the directory of the loader itself
	seen    map[string]bool
	missing []string
}

// visit adds the libraries that a file names, and theirs. at is where the file will be.
func (r *resolver) visit(f *elf.File, file, at string) {
	names, _ := f.ImportedLibraries() // nothing where there is no dynamic section
	for _, name := range names {
		if r.seen[name] || len(r.seen) > maxLibraries {
			continue
		}
		r.seen[name] = true
		found, l := r.find(name, runpath(f), file, at)
		if found == nil {
			r.missing = append(r.missing, name)
			continue
		}
		r.needs.Libraries = append(r.needs.Libraries, l)
		r.visit(found, l.Path, l.At)
		found.Close()
	}
}

// find looks for a library that the file names.
func (r *resolver) find(name string, own []string, file, at string) (*elf.File, Library) {
	if strings.Contains(name, "/") { // as it is when a library without a name was linked
		f := r.open(name)
		return f, Library{Path: name, At: name}
	}
	type place struct {
		dir, at      string
		isConfigured bool
	}
	var places []place
	for _, dir := range r.first {
		places = append(places, place{dir, r.home, !slices.Contains(loaderDirs, dir)})
	}
	for _, dir := range own {
		places = append(places, place{dir: atOrigin(dir, file), at: atOrigin(dir, at)})
	}
	for _, dir := range loaderDirs {
		places = append(places, place{dir: dir, at: dir})
	}
	for _, dir := range configuredDirs("/etc/ld.so.conf", 0) {
		places = append(places, place{dir, r.home, !slices.Contains(loaderDirs, dir)})
	}
	for _, p := range places {
		if !filepath.IsAbs(p.dir) {
			continue
		}
		if f := r.open(filepath.Join(p.dir, name)); f != nil {
			return f, Library{filepath.Join(p.dir, name), filepath.Join(p.at, name), p.isConfigured}
		}
	}
	return nil, Library{}
}

// open opens a library for the machine of the program, nil if it is not there.
func (r *resolver) open(file string) *elf.File {
	f, err := elf.Open(file)
	if err != nil {
		return nil
	}
	if f.Machine != r.needs.machine {
		f.Close()
		return nil
	}
	return f
}

// Interpreter returns the loader of a program, "" for one that is linked statically.
func Interpreter(f *elf.File) string {
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

// runpath returns the directories that a file itself has its libraries looked for in, with
// $ORIGIN in them. DT_RPATH counts only where there is no DT_RUNPATH.
func runpath(f *elf.File) (dirs []string) {
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		texts, _ := f.DynString(tag)
		for _, text := range texts {
			dirs = append(dirs, filepath.SplitList(text)...)
		}
		if len(dirs) > 0 {
			break
		}
	}
	return dirs
}

// atOrigin returns a directory of runpath for a file with a path.
func atOrigin(dir, file string) string {
	origin := path.Dir(file)
	return path.Clean(strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir))
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

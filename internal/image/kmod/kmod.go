// Package kmod reads a kernel's module tree (/lib/modules/RELEASE) and computes
// which module files have to be loaded, in which order, for a set of modules.
//
// It works with and without depmod's index: a tree that was only unpacked from a
// package has none, and then the modules' own "depends" fields are used. It
// loads nothing into a kernel and writes no files.
package kmod

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"provium/internal/image/decompress"
)

// Limits on what is read from a tree, in bytes and in entries.
const (
	maxIndex   = 64 << 20
	maxModule  = 256 << 20
	maxModinfo = 1 << 20
	maxFiles   = 1 << 17
)

// Files of depmod and of the kernel's build.
const (
	fileBuiltin     = "modules.builtin"
	fileBuiltinInfo = "modules.builtin.modinfo"
	fileDeps        = "modules.dep"
	fileAlias       = "modules.alias"
)

// ErrNoTree means that a directory is no module tree.
var ErrNoTree = errors.New("no kernel modules there")

// MissingError reports a module that is neither built in nor a file of the tree.
type MissingError struct {
	// Name is the module as it was asked for.
	Name string
	// Dir is the directory searched.
	Dir string
	// Needer is the module that depends on it, empty if it was asked for.
	Needer string
}

func (e *MissingError) Error() string {
	if e.Needer != "" {
		return fmt.Sprintf("kernel module `%s` (needed by `%s`) is not in %s", e.Name, e.Needer, e.Dir)
	}
	return fmt.Sprintf("kernel module `%s` is not in %s and not built into the kernel", e.Name, e.Dir)
}

// Module is one file to load.
type Module struct {
	// Name is the canonical name, with underscores.
	Name string
	// Path is the file's path relative to the tree, or an absolute one of a file that is not in it.
	Path string
	// Params are the module's parameters, as on a modprobe command line.
	Params string
	// Data is the uncompressed module.
	Data []byte
	// Soft is set if nothing that was asked for needs the module to load: it is a soft
	// dependency, or one of those depends on it.
	Soft bool
}

// Tree is an opened module tree. It is read-only and safe for concurrent use.
type Tree struct {
	dir     string
	files   map[string]string   // name → path below dir
	deps    map[string][]string // path → paths it depends on; nil without an index
	builtin map[string]bool
	aliases func() *aliases // read once
}

// Empty returns the tree of a kernel without modules, which was looked for in dir.
func Empty(dir string) *Tree {
	return &Tree{dir: dir, aliases: func() *aliases { return &aliases{} }}
}

// Index returns the paths of the files, which need not exist, that have told what is in the
// tree.
func (t *Tree) Index() []string {
	var out []string
	for _, name := range [...]string{fileBuiltin, fileDeps, fileAlias, fileBuiltinInfo} {
		out = append(out, filepath.Join(t.dir, name))
	}
	return out
}

// Dir returns the directory of the tree.
func (t *Tree) Dir() string { return t.dir }

// Open reads the index of the tree in dir, or finds the modules by walking it.
// ErrNoTree is wrapped if dir does not exist or holds no modules and no list of
// built-in ones.
func Open(dir string) (*Tree, error) {
	t := &Tree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}}
	t.aliases = sync.OnceValue(t.readAliases)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = ErrNoTree
		}
		return nil, fmt.Errorf("open module tree %s: %w", dir, err)
	}
	known := false
	err := eachLine(filepath.Join(dir, fileBuiltin), func(line string) error {
		t.builtin[Name(line)] = true
		known = true
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open module tree %s: %w", dir, err)
	}
	err = t.readIndex()
	if errors.Is(err, fs.ErrNotExist) {
		err = t.walk()
	}
	if err != nil {
		return nil, fmt.Errorf("open module tree %s: %w", dir, err)
	}
	if len(t.files) == 0 && !known {
		return nil, fmt.Errorf("open module tree %s: %w", dir, ErrNoTree)
	}
	return t, nil
}

// Name returns the canonical name of a module file or of a module as users write it.
func Name(s string) string {
	s = path.Base(strings.TrimSpace(s))
	s, _, _ = strings.Cut(s, ".ko")
	return strings.ReplaceAll(s, "-", "_")
}

// Split divides a wanted entry into the canonical module name and parameters.
func Split(entry string) (name, params string) {
	name, params, _ = strings.Cut(strings.TrimSpace(entry), " ")
	return Name(name), strings.TrimSpace(params)
}

func eachLine(file string, f func(line string) error) error {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer r.Close()
	sc := bufio.NewScanner(io.LimitReader(r, maxIndex))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); line != "" && line[0] != '#' {
			if err := f(line); err != nil {
				return err
			}
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

// readIndex reads modules.dep: "path: dependency dependency ...".
func (t *Tree) readIndex() error {
	deps := map[string][]string{}
	err := eachLine(filepath.Join(t.dir, fileDeps), func(line string) error {
		file, rest, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("modules.dep: bad line %q", line)
		}
		file, err := t.local(file)
		if err != nil {
			return err
		}
		list := strings.Fields(rest)
		for i := range list {
			if list[i], err = t.local(list[i]); err != nil {
				return err
			}
		}
		deps[file] = list
		t.files[Name(file)] = file
		return nil
	})
	if err != nil {
		return err
	}
	// An empty index beside real modules is that of a depmod that failed.
	if len(deps) == 0 {
		return fs.ErrNotExist
	}
	t.deps = deps
	return nil
}

// local makes a path of the index relative to the tree; old indexes have absolute
// ones.
func (t *Tree) local(p string) (string, error) {
	if filepath.IsAbs(p) {
		if i := strings.Index(p, "/"+filepath.Base(t.dir)+"/"); i >= 0 {
			p = p[i+len(filepath.Base(t.dir))+2:]
		}
	}
	if !filepath.IsLocal(p) {
		return "", fmt.Errorf("modules.dep: path %q leads out of the tree", p)
	}
	return p, nil
}

func (t *Tree) walk() error {
	return filepath.WalkDir(t.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// "build" and "source" are links to the kernel's sources.
		base := d.Name()
		if d.IsDir() || !strings.HasSuffix(base, ".ko") && !strings.Contains(base, ".ko.") {
			return nil
		}
		rel, err := filepath.Rel(t.dir, p)
		if err != nil {
			return err
		}
		if len(t.files) >= maxFiles {
			return fmt.Errorf("more than %d modules", maxFiles)
		}
		if _, ok := t.files[Name(base)]; !ok {
			t.files[Name(base)] = rel
		}
		return nil
	})
}

// Builtin reports whether the module is part of the kernel itself.
func (t *Tree) Builtin(name string) bool { return t.builtin[Name(name)] }

// Has reports whether the module is built in or a file of the tree.
func (t *Tree) Has(name string) bool {
	_, ok := t.files[Name(name)]
	return ok || t.Builtin(name)
}

// Closure returns the module files to load for the wanted modules, every one
// behind those it depends on, without what is built in. A wanted entry may have
// parameters behind the name: "scsi_debug dev_size_mb=64". An absolute path is that of a file
// which needs not be in the tree, and stands before one of its name that is. Modules in loaded are
// taken to be there already. A module that does not exist gives a *MissingError.
// Soft dependencies are looked for by name and by alias, and left out where they are not
// found or are no modules. An alias that is wanted stands for all its modules.
func (t *Tree) Closure(wanted []string, loaded []Module) ([]Module, error) {
	c := &closure{tree: t, state: map[string]int{}, needs: map[string][]string{},
		params: map[string]string{}, given: map[string]string{}}
	for _, m := range loaded {
		c.state[m.Name] = done
	}
	for _, w := range wanted {
		name, params := Split(w)
		if strings.ContainsFunc(w, unicode.IsControl) {
			return nil, fmt.Errorf("kernel module %q: control characters are not allowed", w)
		}
		if params != "" {
			c.params[name] = params
		}
		if file := givenFile(w); file != "" {
			c.given[name] = file
			delete(c.state, name)
		}
	}
	for _, w := range wanted {
		name, _ := Split(w)
		if err := c.want(name); err != nil {
			return nil, err
		}
	}
	if c.hostErr != nil {
		return nil, c.hostErr
	}
	for i := range c.out {
		c.out[i].Params = c.params[c.out[i].Name]
	}
	return c.out, nil
}

// States of a module while the closure is computed.
const (
	visiting = 1
	done     = 2
)

type closure struct {
	tree   *Tree
	state  map[string]int
	needs  map[string][]string // hard dependencies
	params map[string]string
	given  map[string]string // files that are not the tree's
	out    []Module
	// hostErr is why something that may be missing could not be looked for.
	hostErr error
}

// byAlias returns the modules that an alias stands for, and whether the kernel itself has
// it.
func (c *closure) byAlias(name string) (modules []string, builtin bool) {
	a := c.tree.aliases()
	if c.hostErr == nil {
		c.hostErr = a.hostErr
	}
	return a.find(name)
}

// want adds a module, or those of an alias.
func (c *closure) want(name string) error {
	_, isFile := c.file(name)
	if !isFile && !c.tree.builtin[name] {
		if list, builtin := c.byAlias(name); len(list) > 0 || builtin {
			for _, m := range list {
				if err := c.add(m, "", false); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return c.add(name, "", false)
}

// add adds a module behind its dependencies. A soft one need not load in the guest.
func (c *closure) add(name, needer string, soft bool) error {
	if c.state[name] == done || c.tree.builtin[name] && c.given[name] == "" {
		if !soft {
			c.harden(name)
		}
		return nil
	}
	if c.state[name] == visiting {
		return fmt.Errorf("kernel module `%s` depends on itself", name)
	}
	file, ok := c.file(name)
	if !ok {
		return &MissingError{Name: name, Dir: c.tree.dir, Needer: needer}
	}
	data, err := load(c.tree.place(file))
	if err != nil {
		return fmt.Errorf("read kernel module %s: %w", c.tree.place(file), err)
	}
	info, err := modinfo(data)
	if err != nil {
		return fmt.Errorf("read kernel module %s: %w", c.tree.place(file), err)
	}
	need := info.depends
	if c.tree.deps != nil && c.given[name] == "" {
		need = nil
		// The index lists the nearest dependency first.
		for _, d := range slices.Backward(c.tree.deps[file]) {
			need = append(need, Name(d))
		}
	}
	c.state[name], c.needs[name] = visiting, need
	c.addSoft(info.softPre)
	for _, n := range need {
		if err := c.add(n, name, soft); err != nil {
			c.state[name] = 0
			return err
		}
	}
	c.state[name] = done
	c.out = append(c.out, Module{Name: name, Path: file, Data: data, Soft: soft})
	c.addSoft(info.softPost)
	return nil
}

// isHostError reports whether a file could not be read, which says nothing about it. A
// missing one is no such error.
func isHostError(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist)
}

// addSoft adds soft dependencies, as far as they are there.
func (c *closure) addSoft(names []string) {
	for _, n := range names {
		list := []string{n}
		if !c.tree.Has(n) {
			list, _ = c.byAlias(n)
		}
		for _, m := range list {
			if c.state[m] == visiting {
				continue
			}
			if err := c.add(m, "", true); isHostError(err) && c.hostErr == nil {
				c.hostErr = err
			}
		}
	}
}

// harden notes that a module is needed that was soft until now.
func (c *closure) harden(name string) {
	i := slices.IndexFunc(c.out, func(m Module) bool { return m.Name == name })
	if i < 0 || !c.out[i].Soft {
		return
	}
	c.out[i].Soft = false
	for _, n := range c.needs[name] {
		c.harden(n)
	}
}

// givenFile returns the absolute path of a wanted entry, "" for one that is looked for by its name.
func givenFile(entry string) string {
	file, _, _ := strings.Cut(strings.TrimSpace(entry), " ")
	if !filepath.IsAbs(file) {
		return ""
	}
	return file
}

// file returns where a module is: in the tree, or a file that was given.
func (c *closure) file(name string) (file string, ok bool) {
	if file = c.given[name]; file != "" {
		return file, true
	}
	file, ok = c.tree.files[name]
	return file, ok
}

// place returns the path of a module's file.
func (t *Tree) place(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(t.dir, file)
}

func load(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxModule+1))
	if err != nil {
		return nil, err
	}
	return decompress.Bytes(raw, maxModule)
}

type modInfo struct {
	depends  []string
	softPre  []string
	softPost []string
	aliases  []string
}

// modinfo reads the "key=value" strings in the .modinfo section.
func modinfo(data []byte) (modInfo, error) {
	var info modInfo
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return info, fmt.Errorf("this is no kernel module: %w", noEOF(err))
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return info, errors.New("no .modinfo section: this is no kernel module")
	}
	if s.Size > maxModinfo {
		return info, fmt.Errorf(".modinfo section of %d bytes is too large", s.Size)
	}
	text, err := s.Data()
	if err != nil {
		return info, err
	}
	for _, kv := range strings.Split(string(text), "\x00") {
		key, value, _ := strings.Cut(kv, "=")
		switch key {
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d != "" {
					info.depends = append(info.depends, Name(d))
				}
			}
		case "softdep":
			var to *[]string
			for _, w := range strings.Fields(value) {
				switch {
				case w == "pre:":
					to = &info.softPre
				case w == "post:":
					to = &info.softPost
				case strings.HasSuffix(w, ":"):
					to = nil
				case to != nil:
					*to = append(*to, Name(w))
				}
			}
		case "alias":
			info.aliases = append(info.aliases, value)
		}
	}
	return info, nil
}

// noEOF keeps the end of a short file from looking like a regular end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

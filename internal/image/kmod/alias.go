package kmod

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// aliases are the names by which a kernel asks for modules, beside their own.
type aliases struct {
	builtin  map[string]bool     // of what is built in
	exact    map[string][]string // alias → modules
	patterns []aliasPattern      // with wildcards
	hostErr  error               // why some could not be read
}

type aliasPattern struct{ glob, module string }

// find returns the modules that an alias stands for, and whether the kernel itself has it.
func (a *aliases) find(name string) (modules []string, builtin bool) {
	modules = slices.Clone(a.exact[name])
	for _, p := range a.patterns {
		if ok, err := path.Match(p.glob, name); err == nil && ok && !slices.Contains(modules, p.module) {
			modules = append(modules, p.module)
		}
	}
	return modules, a.builtin[name]
}

// readAliases reads depmod's index, or the modules themselves. A damaged module has no
// aliases: modules that are asked for by alias need not be there.
func (t *Tree) readAliases() *aliases {
	a := &aliases{builtin: map[string]bool{}, exact: map[string][]string{}}
	a.readBuiltin(filepath.Join(t.dir, fileBuiltinInfo))
	err := eachLine(filepath.Join(t.dir, fileAlias), func(line string) error {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			a.add(f[1], Name(f[2]))
		}
		return nil
	})
	if !errors.Is(err, fs.ErrNotExist) {
		a.record(err)
		return a
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		if file := t.files[name]; providesAlgorithms(file) {
			data, err := load(t.place(file))
			a.record(err)
			if err != nil {
				continue
			}
			info, err := modinfo(data)
			if err != nil {
				continue
			}
			for _, alias := range info.aliases {
				a.add(alias, name)
			}
		}
	}
	return a
}

// providesAlgorithms reports whether a module is where the kernel's sources have hashes,
// ciphers and compressions. Reading all modules of a tree without an index takes seconds,
// and others are not asked for by alias.
func providesAlgorithms(file string) bool {
	parts := strings.Split(filepath.ToSlash(file), "/")
	return slices.Contains(parts, "crypto") || slices.Contains(parts, "lib")
}

// readBuiltin reads the aliases of what is built in: "module.alias=name", each with a zero
// byte behind it.
func (a *aliases) readBuiltin(file string) {
	f, err := os.Open(file)
	if err != nil {
		a.record(err)
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIndex))
	a.record(err)
	for entry := range strings.SplitSeq(string(text), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		if strings.HasSuffix(key, ".alias") {
			a.builtin[aliasName(value)] = true
		}
	}
}

// record keeps the first error of the host.
func (a *aliases) record(err error) {
	if isHostError(err) && a.hostErr == nil {
		a.hostErr = err
	}
}

func (a *aliases) add(alias, module string) {
	alias = aliasName(alias)
	switch {
	case strings.ContainsRune(alias, ':'): // of devices, which are not asked for by name
	case strings.ContainsAny(alias, "*?["):
		a.patterns = append(a.patterns, aliasPattern{alias, module})
	case !slices.Contains(a.exact[alias], module):
		a.exact[alias] = append(a.exact[alias], module)
	}
}

// aliasName returns the canonical form of an alias.
func aliasName(s string) string { return strings.ReplaceAll(s, "-", "_") }

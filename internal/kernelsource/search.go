package kernelsource

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxEntries    = 300_000 // files and directories that are looked at
	maxCandidates = 8       // files that are tried for the kernel, or a module
)

// Near returns where the debug information of a kernel usually is: the kernel itself where it
// is an ELF file, the vmlinux beside it, and the tree that it was built in, which may be what
// kernel names; of one that is looked
// for in the tree root, its usr/lib/debug. An empty argument stands for nothing.
func Near(kernel, root string) (paths []string) {
	if root != "" {
		debug := filepath.Join(root, "usr/lib/debug")
		if info, err := os.Stat(debug); err == nil && info.IsDir() {
			paths = append(paths, debug)
		}
	}
	if kernel == "" {
		return paths
	}
	dir := filepath.Dir(kernel)
	if info, err := os.Stat(kernel); err == nil && info.IsDir() && isELF(filepath.Join(kernel, "vmlinux")) {
		return append(paths, kernel)
	}
	for _, path := range []string{kernel, filepath.Join(dir, "vmlinux")} {
		if isELF(path) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	tree := filepath.Join(dir, "../../..") // of arch/x86/boot/bzImage
	if ok, _ := filepath.Match("arch/*/boot", strings.TrimPrefix(dir, tree+"/")); ok && isELF(tree+"/vmlinux") {
		paths = append(paths, tree)
	}
	return paths
}

// isELF reports whether a file begins as an ELF file does.
func isELF(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = f.ReadAt(magic[:], 0)
	return err == nil && string(magic[:]) == "\x7fELF"
}

// objectOf returns what a file of that name may be the debug information of: a module, or "" for
// the kernel.
func objectOf(name string) (module string, ok bool) {
	if name == "vmlinux" || strings.HasPrefix(name, "vmlinux-") || name == "vmlinux.debug" {
		return "", true
	}
	name = strings.TrimSuffix(name, ".debug")
	name, ok = strings.CutSuffix(name, ".ko")
	return strings.ReplaceAll(name, "-", "_"), ok
}

// search returns the files below paths that may have the debug information of the wanted
// modules and of the kernel, which is "". A path that is a file comes first, and is taken for
// the kernel's if its name says nothing else.
func search(ctx context.Context, paths []string, wanted map[string]bool) (found map[string][]string, err error) {
	found = map[string][]string{}
	var dirs []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			dirs = append(dirs, path)
		default:
			module, _ := objectOf(filepath.Base(path))
			if !strings.Contains(filepath.Base(path), ".ko") {
				module = ""
			}
			found[module] = append(found[module], path)
		}
	}
	seen := 0
	for _, dir := range dirs {
		below := map[string][]string{}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch seen++; {
			case err != nil:
				return nil // what cannot be read has nothing
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case seen > maxEntries:
				return fs.SkipAll
			case d.IsDir() && d.Name() == ".git":
				return fs.SkipDir
			}
			if module, ok := objectOf(d.Name()); ok && wanted[module] && !d.IsDir() {
				below[module] = append(below[module], path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for module, files := range below {
			// The vmlinux of a tree is above those of its parts.
			slices.SortFunc(files, func(a, b string) int {
				return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), cmp.Compare(a, b))
			})
			found[module] = append(found[module], files...)
		}
	}
	for module, files := range found {
		found[module] = files[:min(len(files), maxCandidates)]
	}
	return found, nil
}

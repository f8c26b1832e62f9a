package run

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"provium/internal/choose"
)

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

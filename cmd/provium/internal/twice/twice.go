// Package twice carries out `provium verify-determinism`: it has tests run twice, and says where
// their guests differ. How they are run, its caller knows, and how runs are compared, package
// determinism.
package twice

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"provium/internal/determinism"
	"provium/internal/terminal"
)

// Run calls run two times, each with a directory below temp for what the guests do, and compares
// that, also of tests that have failed. The code is 1 if the runs differ or a test has failed, and
// that of run if it could not be carried out.
func Run(temp string, stdout, stderr io.Writer, run func(dir string) (code int, err error)) (code int, err error) {
	failed := 0
	dirs := [2]string{filepath.Join(temp, "points-1"), filepath.Join(temp, "points-2")}
	for i, dir := range dirs {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return 0, err
		}
		fmt.Fprintf(stderr, "provium: run %d of 2\n", i+1)
		if code, err := run(dir); err != nil || code > 1 {
			return code, err
		} else if code == 1 {
			failed = 1
		}
	}
	differences, points, err := determinism.Compare(dirs[0], dirs[1])
	if err != nil {
		return 0, err
	}
	for _, d := range differences {
		fmt.Fprintf(stdout, "differs: %s\n", terminal.Escape(d.String()))
	}
	switch {
	case len(differences) > 0:
		return 1, nil
	case points == 0:
		return failed, errors.New("no deterministic guest has run: there is nothing to compare")
	}
	_, err = fmt.Fprintf(stdout, "the same in both runs: %d sync points\n", points)
	return failed, err
}

// Package twice carries out `provium verify-determinism`: it has tests run twice or more often, and says where
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

// Help is that of the command.
const Help = `Run tests twice, or --runs times, and compare what their guests did.

All guests are deterministic, as with --deterministic. In each run they are delayed at
random. At each sync point at which something reaches a guest or comes from it, that, all
that it has printed on its consoles, and all of its memory must be the same in all runs.
The first difference of each guest to the first run is shown, with the operation that was
under way. Exit code 0: all is the same, and the tests have passed. Tests that fail are
compared as well. The digest is of all that was compared: equal runs have equal digests,
also on another day or machine.`

// Run calls run so many times, each with a directory below temp for what the guests do, and compares
// that with the first, also of tests that have failed. It ends with the first run that differs. The code
// is 1 if the runs differ or a test has failed, and that of run if it could not be carried out.
func Run(times int, temp string, stdout, stderr io.Writer, run func(dir string) (code int, err error)) (
	code int, err error) {
	failed, points := 0, 0
	first := filepath.Join(temp, "points-1")
	for i := range times {
		dir := filepath.Join(temp, fmt.Sprint("points-", i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return 0, err
		}
		fmt.Fprintf(stderr, "provium: run %d of %d\n", i+1, times)
		if code, err := run(dir); err != nil || code > 1 {
			return code, err
		} else if code == 1 {
			failed = 1
		}
		if i == 0 {
			continue
		}
		var differences []determinism.Difference
		if differences, points, err = determinism.Compare(first, dir); err != nil {
			return 0, err
		}
		for _, d := range differences {
			fmt.Fprintf(stdout, "differs: %s\n", terminal.Escape(d.String()))
		}
		if len(differences) > 0 {
			return 1, nil
		}
		if err := os.RemoveAll(dir); err != nil {
			return 0, err
		}
	}
	if points == 0 {
		return failed, errors.New("no deterministic guest has run: there is nothing to compare")
	}
	all := "both"
	if times > 2 {
		all = fmt.Sprintf("all %d", times)
	}
	digest, err := determinism.Digest(first)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprintf(stdout, "the same in %s runs: %d sync points, digest %s\n", all, points, digest)
	return failed, err
}

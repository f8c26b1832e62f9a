// Package fulltest says how much of a heavy test is run: a sample, as in `make test`, or all
// of it, as in `make test-full`. It knows no test. Tests ask Wanted, or Of for a number.
package fulltest

import "os"

// Wanted reports whether tests run in full: PROVIUM_TEST_FULL is set.
func Wanted() bool { return os.Getenv("PROVIUM_TEST_FULL") != "" }

// Of returns full if tests run in full, else sample.
func Of(sample, full int) int {
	if Wanted() {
		return full
	}
	return sample
}

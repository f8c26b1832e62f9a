package explore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

func TestCarry(t *testing.T) {
	noRun := errors.New("no run")
	for name, c := range map[string]struct {
		codes []int // of the seeds from 5 on
		err   error // of the last
		tried []uint64
		code  int
		text  string
	}{
		"passes": {[]int{0, 0, 0}, nil, []uint64{5, 6, 7}, 0, "passed with each of 3 seeds, from 5 on\n"},
		"fails": {[]int{0, 1, 0}, nil, []uint64{5, 6}, 1,
			"run with 6\nfailed with seed 6, 2 of 3; " +
				"--deterministic --disturb --seed 6 in place of --explore repeats it\n"},
		"interrupted": {[]int{0, 130, 0}, nil, []uint64{5, 6}, 130, "run with 6\n"},
		"no run":      {[]int{0, 0, 0}, noRun, []uint64{5}, 0, "run with 5\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, log bytes.Buffer
			var tried []uint64
			e := Exploration{First: 5, Count: len(c.codes), Stdout: &out, Stderr: &log,
				Run: func(seed uint64, stdout io.Writer) (int, error) {
					tried = append(tried, seed)
					fmt.Fprintf(stdout, "run with %d\n", seed)
					return c.codes[seed-5], c.err
				}}
			code, err := e.Carry()
			if code != c.code || !errors.Is(err, c.err) || !slices.Equal(tried, c.tried) || out.String() != c.text {
				t.Errorf("code %d, tried %d, %q, %v", code, tried, out.String(), err)
			}
		})
	}
}

// Package explore carries out `provium --explore N`: it has tests run with one seed after another, until
// they fail with one. How they are run, its caller knows.
package explore

import (
	"bytes"
	"fmt"
	"io"
)

// Exploration says what is tried.
type Exploration struct {
	First uint64 // seed
	Count int    // of seeds
	// Run runs the tests with a seed. The code is 1 if one has failed.
	Run            func(seed uint64, stdout io.Writer) (code int, err error)
	Stdout, Stderr io.Writer
}

// Carry tries the seeds. What a run with one has printed is shown if a test has failed in it. The code is 1
// then, and that of Run if it could not be carried out.
func (e *Exploration) Carry() (code int, err error) {
	for i := range e.Count {
		seed := e.First + uint64(i)
		fmt.Fprintf(e.Stderr, "provium: seed %d, %d of %d\n", seed, i+1, e.Count)
		var printed bytes.Buffer
		code, err := e.Run(seed, &printed)
		if code == 0 && err == nil {
			continue
		}
		if _, writing := e.Stdout.Write(printed.Bytes()); err == nil {
			err = writing
		}
		if code == 1 && err == nil {
			_, err = fmt.Fprintf(e.Stdout, "failed with seed %d, %d of %d; --deterministic --disturb --seed %d "+
				"in place of --explore repeats it\n", seed, i+1, e.Count, seed)
		}
		return code, err
	}
	_, err = fmt.Fprintf(e.Stdout, "passed with each of %d seeds, from %d on\n", e.Count, e.First)
	return 0, err
}

// Package evidence has a run keep the artifacts of its failed tests: the place for them, and what a runner and
// the process that supervises it know of a failure.
//
// Files and their README are those of package artifacts, what guests leave behind is collected by package salvage.
// Start with Options.Open, in the process of the run, and NewCollector, in that of a test file.
package evidence

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"provium/internal/artifacts"
	"provium/internal/tempdir"
)

// Options say where the evidence of failed tests goes.
type Options struct {
	Dir string // "" keeps none
	// Last says that Dir keeps the last run that failed only, and up to Limit bytes; 0 is 1 GiB.
	Last  bool
	Limit int64
	// Optional says that a directory that cannot be used is only noted.
	Optional bool
	Dump     bool // the memory of guests that hang or panic is kept, too
	// Deterministic says that the run has --deterministic.
	Deterministic bool
	Disturb       bool   // likewise, --disturb
	Recorded      bool   // likewise, --record
	Kernel, QEMU  string // as the flags of the run have them
	Picked        string // --profile, with commas between them
	// Profiles are the digests of the profiles of a test that is replayed; see artifacts.Record.
	Profiles map[string]string
}

// Keeper is the place for the evidence of one run.
type Keeper struct {
	Place artifacts.Place

	base    string       // of the place, where that is one of several
	temp    *tempdir.Dir // the place, there
	release func()
}

// Open checks the directory and removes the evidence of earlier runs. The caller must call Close.
func (o Options) Open(stderr io.Writer) (*Keeper, error) {
	k := &Keeper{release: func() {}}
	if o.Dir == "" {
		return k, nil
	}
	err := k.open(o)
	if err == nil {
		return k, nil
	}
	k.release()
	err = fmt.Errorf("--artifacts: %w", err)
	if !o.Optional {
		return nil, err
	}
	fmt.Fprintf(stderr, "provium: note: %v; no evidence of failures is kept (--artifacts DIR names another place)\n",
		err)
	return &Keeper{release: func() {}}, nil
}

func (k *Keeper) open(o Options) (err error) {
	if !o.Last {
		k.Place = artifacts.Place{Dir: o.Dir}
		if err := k.Place.Check(); err != nil {
			return err
		}
		k.release, err = k.Place.Claim()
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	if k.temp, err = tempdir.New(o.Dir); err != nil {
		return err
	}
	k.base, k.Place = o.Dir, artifacts.Place{Dir: k.temp.Path(), Limit: cmp.Or(o.Limit, artifacts.CacheLimit)}
	return nil
}

// isEmpty reports whether nothing was kept.
func (k *Keeper) isEmpty() bool { return k.Place.Dir == "" || len(k.Place.Folders()) == 0 }

// Tell says where the evidence is, if there is some.
func (k *Keeper) Tell(stderr io.Writer) {
	if !k.isEmpty() {
		fmt.Fprintf(stderr, "provium: evidence of what failed: %s (`provium replay DIR` runs one again)\n",
			filepath.Join(k.Place.Dir, "*"))
	}
}

// Close ends the use of the place. Of those in the user's cache only the last one with evidence is left.
func (k *Keeper) Close() {
	k.release()
	switch {
	case k.temp == nil:
	case k.isEmpty():
		k.temp.Remove()
	default:
		tempdir.Sweep(k.base)
		k.temp.Keep()
	}
}

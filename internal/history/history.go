// Package history remembers how long test files took, what they used, and what they booted.
//
// It is a hint only: what is lost, damaged or from another machine makes a run slower, and
// changes no result. What follows from it is decided in package sched.
//
// Start reading at Read.
package history

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Record is what is known of a file.
type Record struct {
	// Seconds is how long the file ran, waits for the pool not counted, CPUSeconds the CPU
	// time that it used, guests included.
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	// Boots are the cached boots that the file asked for, as those of templates.Boots; nil: that is not known.
	Boots map[string]bool `json:"boots"`
}

// maxBoots is how many boots of a file are remembered.
const maxBoots = 32

// CPUs returns how many CPUs the file used on average, 0 if that is not known.
func (r Record) CPUs() float64 {
	if !r.valid() || r.Seconds < 0.1 {
		return 0
	}
	return r.CPUSeconds / r.Seconds
}

func (r Record) valid() bool {
	ok := func(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }
	return ok(r.Seconds) && ok(r.CPUSeconds) && r.Seconds > 0
}

// most is how many files are remembered before those are forgotten that are no longer there:
// each run reads all of them, twice.
const most = 500

// History is what is known of files, by their canonical paths.
type History map[string]Record

// Of returns what is known of the file at path in the project at dir. Of a file that never ran it is
// what another copy of the project has shown, the longest if there are more: a clone starts with the
// order of the one before it.
func (h History) Of(dir, path string) Record {
	r, ok := h[path]
	below, err := filepath.Rel(dir, path)
	if ok || err != nil || !filepath.IsLocal(below) {
		return r
	}
	for name, other := range h {
		if other.Seconds > r.Seconds && strings.HasSuffix(name, string(filepath.Separator)+below) {
			r = other
		}
	}
	return r
}

// With returns both histories; of a file that both know, what other knows. Where that is too much for a file of
// MaxBytes, it is other alone.
func (h History) With(other History) History {
	all := maps.Clone(h)
	if all == nil {
		all = History{}
	}
	maps.Copy(all, other)
	size := 0
	for name, r := range all {
		size += len(name) + recordBytes + len(r.Boots)*bootBytes
	}
	if size > MaxBytes {
		return other
	}
	return all
}

// MaxBytes is how long the file of a history is at most, in bytes: that of some ten thousand test files.
const MaxBytes = 2 << 20

// recordBytes and bootBytes are about how many bytes a record and each of its boots need in the file, the record's name
// not counted.
const (
	recordBytes = 100
	bootBytes   = 50
)

type state struct {
	Files History `json:"files"`
}

// Read returns the history of a file. One that is not there or damaged is empty.
func Read(path string) History {
	text, err := os.ReadFile(path)
	var s state
	if err != nil || json.Unmarshal(text, &s) != nil || s.Files == nil {
		return History{}
	}
	maps.DeleteFunc(s.Files, func(_ string, r Record) bool { return !r.valid() })
	return s.Files
}

// Update adds what a run has learned to the history at path, in which other runs may have
// written meanwhile. When there are too many, files are forgotten that are no longer there.
func Update(path string, learned History) error {
	all := Read(path)
	for name, r := range learned {
		if !r.valid() {
			continue
		}
		// One odd run does not overthrow what many have shown.
		if before, ok := all[name]; ok {
			r.Seconds = (r.Seconds + before.Seconds) / 2
			r.CPUSeconds = (r.CPUSeconds + before.CPUSeconds) / 2
		}
		if len(r.Boots) > maxBoots {
			r.Boots = nil
		}
		all[name] = r
	}
	if len(all) > most {
		maps.DeleteFunc(all, func(name string, _ Record) bool {
			_, err := os.Stat(name)
			return err != nil
		})
	}
	return Write(path, all)
}

// Write replaces the history at path.
func Write(path string, all History) error {
	text, err := json.Marshal(state{all})
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".history-*")
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

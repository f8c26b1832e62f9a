package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"provium/internal/jsonerror"
	"provium/internal/report"
)

// rerunFile is the rerun state: the canonical paths of the files that failed, and the tests
// that failed in them. A file without tests is one that failed as a whole.
type rerunFile struct {
	Failed []string            `json:"failed"`
	Tests  map[string][]string `json:"tests,omitempty"`
}

// rerunState are the files that failed, by canonical path, each with the tests that failed in
// it; without any, the whole file did.
type rerunState map[string][]string

// canonical returns a file's absolute path without symbolic links.
func canonical(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

// readRerun returns the state at path, or nil without such a file.
func readRerun(path string) (rerunState, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rerun state: %w", err)
	}
	var file rerunFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("rerun state `%s` is damaged (%v); delete it", path, jsonerror.Plain(err))
	}
	state := rerunState{}
	for _, p := range file.Failed {
		state[p] = file.Tests[p]
	}
	return state, nil
}

// fileOutcome is what a run has shown of a file.
type fileOutcome struct {
	whole bool // it failed as a whole, so all of it is to run again
	ran   bool // it ran to its end
	// failed are the tests that failed, seen those that passed or failed, all those and the
	// ones that were left out.
	failed, seen, all []string
}

// add takes the result of one more run of the file. What failed in any of them has failed.
func (o *fileOutcome) add(r report.FileResult) {
	o.ran = o.ran || r.Status == report.FilePassed || r.Status == report.FileFailed && r.ChunkError == ""
	for _, t := range r.Tests {
		o.all = append(o.all, t.Name)
		if t.Status != report.TestSkipped {
			o.seen = append(o.seen, t.Name)
		}
		if t.Status == report.TestFailed && !slices.Contains(o.failed, t.Name) {
			o.failed = append(o.failed, t.Name)
		}
	}
	if r.ChunkError != "" || r.Status != report.FilePassed && r.Status != report.FileFailed {
		o.whole = true // some tests may not have run
	}
}

// merge returns the failed tests of a file after what a run has shown. failed says whether
// there is anything to run again.
func (o *fileOutcome) merge(before []string, wasFailed bool) (tests []string, failed bool) {
	if o.whole || wasFailed && len(before) == 0 && !o.ran {
		return nil, true
	}
	for _, name := range before { // those that this run left out
		if !slices.Contains(o.seen, name) && (!o.ran || slices.Contains(o.all, name)) {
			tests = append(tests, name)
		}
	}
	tests = append(tests, o.failed...)
	slices.Sort(tests)
	return slices.Compact(tests), len(tests) > 0
}

// updateRerun brings the state at path up to date after a run: what failed enters it, what
// passed leaves it, and what did not run stays as it was. A state that would not change is
// not written. A damaged one is replaced by what this run knows.
func updateRerun(path string, outcomes map[string]*fileOutcome) error {
	before, readErr := readRerun(path)
	state := maps.Clone(before)
	if state == nil {
		state = rerunState{}
	}
	for name, outcome := range outcomes {
		name = canonical(name)
		tests, wasFailed := state[name]
		if tests, failed := outcome.merge(tests, wasFailed); failed {
			state[name] = tests
		} else {
			delete(state, name)
		}
	}
	if readErr == nil && maps.EqualFunc(before, state, slices.Equal) {
		return nil
	}
	return writeRerun(path, state)
}

func writeRerun(path string, state rerunState) error {
	out := rerunFile{Failed: make([]string, 0, len(state)), Tests: map[string][]string{}}
	for p, tests := range state {
		out.Failed = append(out.Failed, p)
		if len(tests) > 0 {
			out.Tests[p] = tests
		}
	}
	slices.Sort(out.Failed)
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".rerun-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(append(text, '\n')); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

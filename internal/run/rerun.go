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
)

// rerunFile is the rerun state: the canonical paths of the files that failed.
type rerunFile struct {
	Failed []string `json:"failed"`
}

// canonical returns a file's absolute path without symbolic links.
func canonical(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

// readRerun returns the files of the state, nil when there is no state.
func readRerun(path string) (map[string]bool, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rerun state: %w", err)
	}
	var state rerunFile
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("rerun state `%s` is damaged (%v); delete it", path, err)
	}
	failed := map[string]bool{}
	for _, p := range state.Failed {
		failed[p] = true
	}
	return failed, nil
}

// UpdateRerun brings the state at path up to date after a run: files that failed
// enter it, other files that ran leave it, and files that did not run stay as
// they were. A state that would not change is not written. A damaged one is
// replaced by what this run knows.
func UpdateRerun(path string, ran, failed []string) error {
	before, readErr := readRerun(path)
	state := maps.Clone(before)
	if state == nil {
		state = map[string]bool{}
	}
	for _, p := range ran {
		delete(state, canonical(p))
	}
	for _, p := range failed {
		state[canonical(p)] = true
	}
	if readErr == nil && maps.Equal(before, state) {
		return nil
	}
	return writeRerun(path, state)
}

func writeRerun(path string, state map[string]bool) error {
	out := rerunFile{Failed: make([]string, 0, len(state))}
	for p := range state {
		out.Failed = append(out.Failed, p)
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

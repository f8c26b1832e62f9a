package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// rerunFile is the rerun state: the canonical paths of the files that failed.
type rerunFile struct {
	Failed []string `json:"failed"`
}

// canonical is a file's absolute path without symbolic links.
func canonical(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

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

// UpdateRerun records the files that failed: those of this run and earlier ones
// that it did not run. A run without failures leaves the state untouched, so
// that a green partial run forgets nothing.
func UpdateRerun(path string, ran, failed []string) error {
	if len(failed) == 0 {
		return nil
	}
	before, err := readRerun(path)
	if err != nil { // damaged: what this run knows is better
		before = nil
	}
	state := map[string]bool{}
	for p := range before {
		state[p] = true
	}
	for _, p := range ran {
		delete(state, canonical(p))
	}
	for _, p := range failed {
		state[canonical(p)] = true
	}
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

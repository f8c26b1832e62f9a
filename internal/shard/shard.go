// Package shard says which test files are in which part of a run, by their paths alone or
// balanced by recorded durations, and finds out which part this machine runs.
//
// It neither finds files nor runs them. Every machine comes to the same parts from the same
// paths and durations. Start reading at Shard.Split.
package shard

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Shard is one of N parts of the files.
type Shard struct{ Index, Count int } // Index from 1; Count 0 is everything

// Split returns the paths that are in the shard. Order and repetition in paths have no
// influence. Without durations it takes, of all paths in sorted order, every Count-th, so
// that parts differ by one file at most. With durations, the longest file goes first, each to
// the part that has least to do so far, the first of several.
func (s Shard) Split(paths []string, d *Durations) map[string]bool {
	sorted := slices.Compact(slices.Sorted(slices.Values(paths)))
	in := map[string]bool{}
	if d != nil && s.Count > 1 {
		for i, part := range d.balance(sorted, s.Count) {
			if part == s.Index-1 {
				in[sorted[i]] = true
			}
		}
		return in
	}
	for i, path := range sorted {
		if s.Count <= 1 || i%s.Count == s.Index-1 {
			in[path] = true
		}
	}
	return in
}

// Selection returns the digest of a set of paths and of what chooses tests in them, "" for all
// tests: of each path, in sorted order, followed by a zero byte, and then of the choice.
func Selection(paths []string, choice string) string {
	h := sha256.New()
	for _, path := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		h.Write(append([]byte(path), 0))
	}
	io.WriteString(h, choice)
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// String is the form of the flag.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// Parse reads I/N.
func Parse(text string) (Shard, error) {
	bad := fmt.Errorf("shard `%s`: expected I/N with 1 <= I <= N", text)
	left, right, ok := strings.Cut(text, "/")
	if !ok {
		return Shard{}, bad
	}
	return newShard(left, right, 1, bad)
}

// newShard returns a shard for two numbers, the index counting from first.
func newShard(index, count string, first int, bad error) (Shard, error) {
	i, ok1 := shardNumber(index)
	n, ok2 := shardNumber(count)
	i += 1 - first
	if !ok1 || !ok2 || i < 1 || i > n {
		return Shard{}, bad
	}
	return Shard{Index: i, Count: n}, nil
}

// shardNumber reads plain digits, at most nine of them.
func shardNumber(text string) (int, bool) {
	if text == "" || len(text) > 9 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// FromEnv finds the variables of CI services that split a run; from names
// those that were used. Half of a pair is an error.
func FromEnv(lookup func(string) (string, bool)) (s Shard, from string, err error) {
	if text, ok := lookup("PROVIUM_SHARD"); ok && text != "" {
		s, err = Parse(text)
		if err != nil {
			err = fmt.Errorf("PROVIUM_SHARD: %w", err)
		}
		return s, "PROVIUM_SHARD", err
	}
	for _, pair := range []struct {
		index, count string
		first        int
	}{
		{"CI_NODE_INDEX", "CI_NODE_TOTAL", 1},
		{"CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0},
		{"BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0},
		{bazelIndex, "TEST_TOTAL_SHARDS", 0},
	} {
		index, haveIndex := lookup(pair.index)
		count, haveCount := lookup(pair.count)
		switch {
		case !haveIndex && !haveCount:
			continue
		case !haveIndex && count == "1":
			continue // GitLab says so of every job that is not split
		case !haveCount:
			return s, "", fmt.Errorf(halfSet, pair.index, index, pair.count)
		case !haveIndex:
			return s, "", fmt.Errorf(halfSet, pair.count, count, pair.index)
		}
		bad := fmt.Errorf("%s=`%s` and %s=`%s` are no valid shard; pass --shard off to ignore them",
			pair.index, index, pair.count, count)
		s, err = newShard(index, count, pair.first, bad)
		return s, pair.index + "/" + pair.count, err
	}
	s, from, err = slurmShard(lookup)
	if index, ok := lookup("JOB_COMPLETION_INDEX"); ok && from == "" && err == nil {
		return s, "", fmt.Errorf("JOB_COMPLETION_INDEX is set (`%s`), and Kubernetes names no total: set "+
			"PROVIUM_SHARD=I/N, I from 1, or pass --shard off", index)
	}
	return s, from, err
}

// bazelIndex is the variable of Bazel's shards.
const bazelIndex = "TEST_SHARD_INDEX"

// StatusFile returns the file that Bazel wants to be touched by a program that has split its
// tests; from is what FromEnv returned. It is "" for others than Bazel.
func StatusFile(lookup func(string) (string, bool), from string) string {
	if !strings.HasPrefix(from, bazelIndex) {
		return ""
	}
	path, _ := lookup("TEST_SHARD_STATUS_FILE")
	return path
}

const halfSet = "%s is set (`%s`) and %s is not; set both, or pass --shard off"

// slurmShard reads a job array, whose numbers start at SLURM_ARRAY_TASK_MIN.
func slurmShard(lookup func(string) (string, bool)) (Shard, string, error) {
	names := [...]string{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"}
	var values [len(names)]string
	have := 0
	for i, n := range names {
		if v, ok := lookup(n); ok {
			values[i] = v
			have++
		}
	}
	switch have {
	case 0:
		return Shard{}, "", nil
	case len(names):
	default:
		return Shard{}, "", fmt.Errorf("of %s some are set and some are not; set all, or pass --shard off",
			strings.Join(names[:], ", "))
	}
	bad := fmt.Errorf("%s=`%s` with %s=`%s` and %s=`%s` is no valid shard; pass --shard off to ignore them",
		names[0], values[0], names[1], values[1], names[2], values[2])
	first, ok := shardNumber(values[1])
	if !ok {
		return Shard{}, "", bad
	}
	s, err := newShard(values[0], values[2], first, bad)
	return s, names[0], err
}

package run

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shard is one of N parts of the files. Which file is in which part follows from
// the paths alone, so that every machine splits alike, and the parts differ by
// one file at most.
type Shard struct{ Index, Count int } // Index from 1; Count 0 is everything

// split returns the paths that are in the shard: of all paths in sorted order,
// every Count-th. Order and repetition in paths have no influence.
func (s Shard) split(paths []string) map[string]bool {
	sorted := slices.Compact(slices.Sorted(slices.Values(paths)))
	in := map[string]bool{}
	for i, path := range sorted {
		if s.Count <= 1 || i%s.Count == s.Index-1 {
			in[path] = true
		}
	}
	return in
}

// String is the form of the flag.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// ParseShard reads I/N.
func ParseShard(text string) (Shard, error) {
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

// ShardFromEnv finds the variables of CI services that split a run; from names
// those that were used. Half of a pair is an error.
func ShardFromEnv(lookup func(string) (string, bool)) (s Shard, from string, err error) {
	if text, ok := lookup("PROVIUM_SHARD"); ok && text != "" {
		s, err = ParseShard(text)
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
	return slurmShard(lookup)
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

package shard

import (
	"fmt"
	"slices"
	"strings"
)

// variables are the two that an engine sets for each part.
type variables struct {
	index, count string
	first        int // the index of the first part
}

// bazel are the variables of Bazel's shards.
var bazel = variables{"TEST_SHARD_INDEX", "TEST_TOTAL_SHARDS", 0}

// engines are GitLab and others that copy its names, CircleCI, Buildkite and Bazel.
var engines = []variables{
	{"CI_NODE_INDEX", "CI_NODE_TOTAL", 1},
	{"CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0},
	{"BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0},
	bazel,
}

const halfSet = "%s is set (`%s`) and %s is not; set both, or pass --shard off"

// String is the form in messages.
func (v variables) String() string { return v.index + "/" + v.count }

// found is a shard, and the variables that name it.
type found struct {
	Shard
	from string
}

// FromEnv finds the variables of CI services that split a run; from names
// those that were used. Half of a pair is an error, and so are services that
// disagree. Empty variables count as not set.
func FromEnv(lookup func(string) (string, bool)) (s Shard, from string, err error) {
	get := func(name string) string {
		text, _ := lookup(name)
		return text
	}
	if text := get("PROVIUM_SHARD"); text != "" {
		s, err = Parse(text)
		if err != nil {
			err = fmt.Errorf("PROVIUM_SHARD: %w", err)
		}
		return s, "PROVIUM_SHARD", err
	}
	var all []found
	for _, v := range engines {
		s, err := v.read(get)
		if err != nil {
			return Shard{}, "", err
		}
		if s.Count > 0 {
			all = append(all, found{s, v.String()})
		}
	}
	s, err = slurmShard(get)
	if err != nil {
		return Shard{}, "", err
	}
	if s.Count > 0 {
		all = append(all, found{s, slurmID})
	}
	s, from, err = choose(all)
	if index := get("JOB_COMPLETION_INDEX"); index != "" && s.Count <= 1 && err == nil {
		return Shard{}, "", fmt.Errorf("JOB_COMPLETION_INDEX is set (`%s`), and Kubernetes names no total: set "+
			"PROVIUM_SHARD=I/N, I from 1, or pass --shard off", index)
	}
	return s, from, err
}

// choose returns the shard that all name. One that is everything, which some engines say of each job that is not split,
// gives way to a part.
func choose(all []found) (Shard, string, error) {
	if len(all) == 0 {
		return Shard{}, "", nil
	}
	if parts := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return f.Count == 1 }); len(parts) > 0 {
		all = parts
	}
	for _, other := range all[1:] {
		if other.Shard != all[0].Shard {
			return Shard{}, "", fmt.Errorf("%s is shard %v and %s is shard %v; set PROVIUM_SHARD=I/N, or pass --shard",
				all[0].from, all[0].Shard, other.from, other.Shard)
		}
	}
	return all[0].Shard, all[0].from, nil
}

// read returns the shard that the variables name; the zero value if they are not set.
func (v variables) read(get func(string) string) (Shard, error) {
	index, count := get(v.index), get(v.count)
	switch {
	case index == "" && (count == "" || count == "1"):
		return Shard{}, nil // GitLab has a total of 1 in every job that is not split
	case count == "":
		return Shard{}, fmt.Errorf(halfSet, v.index, index, v.count)
	case index == "":
		return Shard{}, fmt.Errorf(halfSet, v.count, count, v.index)
	}
	bad := fmt.Errorf("%s=`%s` and %s=`%s` are no valid shard; pass --shard off to ignore them", v.index, index,
		v.count, count)
	return newShard(index, count, v.first, bad)
}

// StatusFile returns the file that Bazel wants to be touched by a program that splits its tests, whichever variables
// say how. It is "" where Bazel has no shards.
func StatusFile(lookup func(string) (string, bool)) string {
	if total, _ := lookup(bazel.count); total == "" {
		return ""
	}
	path, _ := lookup("TEST_SHARD_STATUS_FILE")
	return path
}

// slurmID is the variable of Slurm that has the number of a task of a job array.
const slurmID = "SLURM_ARRAY_TASK_ID"

// slurmShard reads a job array, whose numbers start at SLURM_ARRAY_TASK_MIN. With gaps they would be parts of others.
func slurmShard(get func(string) string) (Shard, error) {
	names := [...]string{slurmID, "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"}
	var values [len(names)]string
	have := 0
	for i, n := range names {
		if values[i] = get(n); values[i] != "" {
			have++
		}
	}
	switch have {
	case 0:
		return Shard{}, nil
	case len(names):
	default:
		return Shard{}, fmt.Errorf("of %s some are set and some are not; set all, or pass --shard off",
			strings.Join(names[:], ", "))
	}
	bad := fmt.Errorf("%s=`%s` with %s=`%s` and %s=`%s` is no valid shard; pass --shard off to ignore them",
		names[0], values[0], names[1], values[1], names[2], values[2])
	first, ok := shardNumber(values[1])
	if !ok {
		return Shard{}, bad
	}
	count, _ := shardNumber(values[2])
	if last, ok := shardNumber(get("SLURM_ARRAY_TASK_MAX")); ok && last-first+1 != count {
		return Shard{}, fmt.Errorf("the job array has %d tasks from %d to %d: start it without gaps, as with "+
			"--array=1-%d, or set PROVIUM_SHARD=I/N", count, first, last, count)
	}
	return newShard(values[0], values[2], first, bad)
}

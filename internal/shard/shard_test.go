package shard

import (
	"fmt"
	"strings"
	"testing"
)

func TestShardSplit(t *testing.T) {
	var paths []string
	for i := range 11 {
		paths = append(paths, fmt.Sprint("f", i))
	}
	for n := 1; n <= 13; n++ {
		seen := map[string]int{}
		for i := 1; i <= n; i++ {
			in := Shard{i, n}.Split(paths, nil)
			if len(in) < len(paths)/n || len(in) > len(paths)/n+1 {
				t.Errorf("%d/%d has %d files", i, n, len(in))
			}
			for p := range in {
				seen[p]++
			}
		}
		for _, p := range paths {
			if seen[p] != 1 {
				t.Errorf("%s is in %d of %d parts", p, seen[p], n)
			}
		}
	}
	if in := (Shard{}).Split(paths, nil); len(in) != len(paths) {
		t.Errorf("no shard has %d files", len(in))
	}
}

func TestParseShard(t *testing.T) {
	for text, want := range map[string]Shard{"1/1": {1, 1}, "2/3": {2, 3}, "3/3": {3, 3}} {
		if got, err := Parse(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "0/3", "4/3", "1", "1/", "/3", "1/0", "-1/3", "+1/3", "1/3/3", "1 /3",
		"1/99999999999999999999"} {
		if got, err := Parse(text); err == nil ||
			!strings.Contains(err.Error(), "shard `"+text+"`: expected I/N") {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestFromEnv(t *testing.T) {
	type env map[string]string
	for name, c := range map[string]struct {
		env  env
		want Shard
		from string
		err  string
	}{
		"none": {env{}, Shard{}, "", ""},
		"own": {env{"PROVIUM_SHARD": "2/3", "CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "9"}, Shard{2, 3},
			"PROVIUM_SHARD", ""},
		"own, empty": {env{"PROVIUM_SHARD": ""}, Shard{}, "", ""},
		"own, bad": {env{"PROVIUM_SHARD": "x"}, Shard{}, "PROVIUM_SHARD",
			"PROVIUM_SHARD: shard `x`: expected I/N"},
		"from one": {env{"CI_NODE_INDEX": "3", "CI_NODE_TOTAL": "3"}, Shard{3, 3},
			"CI_NODE_INDEX/CI_NODE_TOTAL", ""},
		"circle": {env{"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "2"}, Shard{1, 2},
			"CIRCLE_NODE_INDEX/CIRCLE_NODE_TOTAL", ""},
		"buildkite": {env{"BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "2"}, Shard{2, 2},
			"BUILDKITE_PARALLEL_JOB/BUILDKITE_PARALLEL_JOB_COUNT", ""},
		"slurm": {env{"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5",
			"SLURM_ARRAY_TASK_COUNT": "4"}, Shard{3, 4}, "SLURM_ARRAY_TASK_ID", ""},
		"bazel": {env{"TEST_SHARD_INDEX": "0", "TEST_TOTAL_SHARDS": "3"}, Shard{1, 3},
			"TEST_SHARD_INDEX/TEST_TOTAL_SHARDS", ""},
		"half of bazel": {env{"TEST_SHARD_INDEX": "0"}, Shard{}, "",
			"TEST_SHARD_INDEX is set (`0`) and TEST_TOTAL_SHARDS is not"},
		"kubernetes": {env{"JOB_COMPLETION_INDEX": "0", "PROVIUM_SHARD": "1/4"}, Shard{1, 4}, "PROVIUM_SHARD", ""},
		"kubernetes without a total": {env{"JOB_COMPLETION_INDEX": "0"}, Shard{}, "",
			"JOB_COMPLETION_INDEX is set (`0`), and Kubernetes names no total"},
		"not split": {env{"CI_NODE_TOTAL": "1"}, Shard{}, "", ""},
		"only the total": {env{"CI_NODE_TOTAL": "3"}, Shard{}, "",
			"CI_NODE_TOTAL is set (`3`) and CI_NODE_INDEX is not; set both, or pass --shard off"},
		"only the index": {env{"CIRCLE_NODE_INDEX": "0"}, Shard{}, "",
			"CIRCLE_NODE_INDEX is set (`0`) and CIRCLE_NODE_TOTAL is not"},
		"beyond": {env{"CIRCLE_NODE_INDEX": "2", "CIRCLE_NODE_TOTAL": "2"}, Shard{}, "",
			"CIRCLE_NODE_INDEX=`2` and CIRCLE_NODE_TOTAL=`2` are no valid shard"},
		"no number": {env{"CI_NODE_INDEX": "a", "CI_NODE_TOTAL": "2"}, Shard{}, "", "are no valid shard"},
		"part of slurm": {env{"SLURM_ARRAY_TASK_ID": "7"}, Shard{}, "",
			"of SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_MIN, SLURM_ARRAY_TASK_COUNT some are set and some are not"},
		"slurm with stride": {env{"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "1",
			"SLURM_ARRAY_TASK_COUNT": "3"}, Shard{}, "", "no valid shard"},
		"slurm, bad": {env{"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "-1",
			"SLURM_ARRAY_TASK_COUNT": "3"}, Shard{}, "", "no valid shard"},
	} {
		t.Run(name, func(t *testing.T) {
			got, from, err := FromEnv(func(name string) (string, bool) { v, ok := c.env[name]; return v, ok })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || got != c.want || from != c.from {
				t.Errorf("got %v from %q, %v", got, from, err)
			}
		})
	}
}

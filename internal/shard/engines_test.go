package shard

import (
	"strings"
	"testing"
)

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
		"slurm without gaps": {env{"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_MAX": "8",
			"SLURM_ARRAY_TASK_COUNT": "4"}, Shard{3, 4}, "SLURM_ARRAY_TASK_ID", ""},
		"slurm with gaps": {env{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "7",
			"SLURM_ARRAY_TASK_COUNT": "4"}, Shard{}, "",
			"the job array has 4 tasks from 1 to 7: start it without gaps, as with --array=1-4"},
		"empty": {env{"CI_NODE_INDEX": "", "CI_NODE_TOTAL": "", "SLURM_ARRAY_TASK_ID": "", "JOB_COMPLETION_INDEX": ""},
			Shard{}, "", ""},
		"one of them empty": {env{"CI_NODE_INDEX": "", "CI_NODE_TOTAL": "4"}, Shard{}, "",
			"CI_NODE_TOTAL is set (`4`) and CI_NODE_INDEX is not"},
		"kubernetes beside everything": {env{"JOB_COMPLETION_INDEX": "2", "CIRCLE_NODE_INDEX": "0",
			"CIRCLE_NODE_TOTAL": "1"}, Shard{}, "", "Kubernetes names no total"},
		"circle, not split": {env{"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "1"}, Shard{1, 1},
			"CIRCLE_NODE_INDEX/CIRCLE_NODE_TOTAL", ""},
		"two that disagree": {env{"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "4", "SLURM_ARRAY_TASK_ID": "1",
			"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, Shard{}, "",
			"CI_NODE_INDEX/CI_NODE_TOTAL is shard 2/4 and SLURM_ARRAY_TASK_ID is shard 1/3; set PROVIUM_SHARD=I/N"},
		"two that agree": {env{"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "4", "BUILDKITE_PARALLEL_JOB": "1",
			"BUILDKITE_PARALLEL_JOB_COUNT": "4"}, Shard{2, 4}, "CI_NODE_INDEX/CI_NODE_TOTAL", ""},
		"one in a job that is not split": {env{"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "1",
			"TEST_SHARD_INDEX": "1", "TEST_TOTAL_SHARDS": "3"}, Shard{2, 3}, "TEST_SHARD_INDEX/TEST_TOTAL_SHARDS", ""},
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

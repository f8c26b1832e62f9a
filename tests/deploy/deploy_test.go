// Package deploy tests the files with which other engines run shards: their format, and the
// commands in them, which run with a stand-in for provium.
package deploy

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	kubejson "sigs.k8s.io/json"
	kubeyaml "sigs.k8s.io/yaml"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy", path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// calls runs a script with a provium that notes its arguments and its shard, in a directory
// with the event streams of two shards.
func calls(t *testing.T, script string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	stand := "#!/bin/sh\necho \"$PROVIUM_SHARD|$*\" >>\"$CALLS\"\n"
	if err := os.WriteFile(filepath.Join(dir, "provium"), []byte(stand), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	noted := filepath.Join(dir, "calls")
	cmd.Env = append([]string{"PATH=" + dir + ":" + os.Getenv("PATH"), "CALLS=" + noted}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	checkFlags(t, string(text))
	return string(text)
}

var flag = regexp.MustCompile(`(?:^| )(--[a-z-]+)`)

// checkFlags compares the flags of a command with those of the program's help.
func checkFlags(t *testing.T, command string) {
	t.Helper()
	name := "help.txt"
	if strings.Contains(command, "report ") {
		name = "help-report.txt"
	}
	help, err := os.ReadFile("../../cmd/provium/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range flag.FindAllStringSubmatch(command, -1) {
		if !regexp.MustCompile(`(?m)^ .*` + m[1] + `( |$)`).Match(help) {
			t.Errorf("%s: provium has no flag %s", strings.TrimSpace(command), m[1])
		}
	}
}

// decode decodes a manifest as Kubernetes does: every field must be known, also by its case.
func decode(t *testing.T, text []byte, to any) {
	t.Helper()
	text, err := kubeyaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	strict, err := kubejson.UnmarshalStrict(text, to)
	if err != nil || len(strict) > 0 {
		t.Errorf("%v, %v in\n%s", err, strict, text)
	}
}

// command returns what a job runs, after checks that hold for all jobs here.
func command(t *testing.T, job *batchv1.Job) string {
	t.Helper()
	pod := job.Spec.Template.Spec
	if job.APIVersion != "batch/v1" || job.Kind != "Job" || len(pod.Containers) != 1 ||
		pod.RestartPolicy != corev1.RestartPolicyNever {
		t.Fatalf("%+v", job)
	}
	c := pod.Containers[0]
	if !slices.Equal(c.Command, []string{"sh", "-c"}) || len(c.Args) != 1 || len(pod.Volumes) != 1 ||
		pod.Volumes[0].PersistentVolumeClaim.ClaimName != "provium-results" || c.VolumeMounts[0].Name != "results" {
		t.Fatalf("%+v", pod)
	}
	return c.Args[0]
}

func TestKubernetes(t *testing.T) {
	parts := bytes.Split(read(t, "kubernetes/shards.yaml"), []byte("---\n"))
	if len(parts) != 2 {
		t.Fatalf("%d manifests", len(parts))
	}
	var claim corev1.PersistentVolumeClaim
	decode(t, parts[0], &claim)
	if claim.Kind != "PersistentVolumeClaim" || claim.Name != "provium-results" {
		t.Errorf("%+v", claim)
	}
	var shards, merge batchv1.Job
	decode(t, parts[1], &shards)
	decode(t, read(t, "kubernetes/merge.yaml"), &merge)
	script := command(t, &shards)
	n := int(*shards.Spec.Completions)
	if *shards.Spec.CompletionMode != batchv1.IndexedCompletion || int(*shards.Spec.Parallelism) != n ||
		*shards.Spec.BackoffLimitPerIndex != 0 {
		t.Errorf("%+v", shards.Spec)
	}
	for i := range n {
		want := fmt.Sprintf("%d/%d|--save-events /results/shard-%d.events\n", i+1, n, i)
		if got := calls(t, script, fmt.Sprint("JOB_COMPLETION_INDEX=", i)); got != want {
			t.Errorf("pod %d: %q, want %q", i, got, want)
		}
	}
	if got := calls(t, command(t, &merge)); !strings.HasPrefix(got, "|report /results/shard-") ||
		!strings.Contains(got, "--exit-code") {
		t.Errorf("%q", got)
	}
}

// TestKubernetesWait runs the line of the docs that waits for the shards, with a stand-in for kubectl: it ends when the
// job has, whichever way, and not before.
func TestKubernetesWait(t *testing.T) {
	text, err := os.ReadFile("../../docs/machines-many.md")
	if err != nil {
		t.Fatal(err)
	}
	wait := regexp.MustCompile(`(?m)^until kubectl .*$`).FindString(string(text))
	if !strings.Contains(wait, "sleep 5") {
		t.Fatalf("the docs wait with %q", wait)
	}
	for _, last := range []string{"SuccessCriteriaMet Complete", "FailureTarget Failed", "Failed"} {
		dir := t.TempDir()
		// Each call shows the next line.
		stand := "#!/bin/sh\necho x >>calls\nsed -n \"$(wc -l <calls)p\" states\n"
		states := "\nFailureTarget\nSuccessCriteriaMet\n" + last + "\n"
		for name, text := range map[string]string{"kubectl": stand, "states": states} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(wait, "sleep 5", ":", 1))
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil || strings.Count(string(calls), "x") != 4 {
			t.Errorf("%s: %v after %q: %s", last, err, calls, out)
		}
	}
}

func TestSlurm(t *testing.T) {
	script := string(read(t, "slurm/shards.sbatch"))
	if !strings.HasPrefix(script, "#!/bin/sh\n") || !strings.Contains(script, "\n#SBATCH --array=1-4\n") {
		t.Errorf("%s", script)
	}
	got := calls(t, script, "SLURM_ARRAY_JOB_ID=17", "SLURM_ARRAY_TASK_ID=3")
	if got != "|--save-events results/17/shard-3.events\n" {
		t.Errorf("%q", got)
	}
	got = calls(t, "set -- 17\n"+string(read(t, "slurm/merge.sbatch")))
	if !strings.HasPrefix(got, "|report results/17/shard-") || !strings.Contains(got, "--exit-code") {
		t.Errorf("%q", got)
	}
}

// pipeline decodes a file whose schema is not known here.
func pipeline(t *testing.T, path string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal(read(t, path), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestGitHub(t *testing.T) {
	jobs := pipeline(t, "github/provium.yml")["jobs"].(map[string]any)
	shard, merge := jobs["shard"].(map[string]any), jobs["merge"].(map[string]any)
	if merge["needs"] != "shard" || merge["if"] != "always()" {
		t.Errorf("%v", merge)
	}
	matrix := shard["strategy"].(map[string]any)["matrix"].(map[string]any)["shard"].([]any)
	for i, job := range []map[string]any{shard, merge} {
		found := false
		for _, step := range job["steps"].([]any) {
			run, _ := step.(map[string]any)["run"].(string)
			if !strings.HasPrefix(run, "provium ") {
				continue
			}
			found = true
			if i == 0 {
				want := fmt.Sprintf("--shard 2/%d --save-events shard-2.events", len(matrix))
				if got := calls(t, strings.ReplaceAll(run, "${{ matrix.shard }}", "2")); got != "|"+want+"\n" {
					t.Errorf("%q, want %q", got, want)
				}
			} else if got := calls(t, run); !strings.Contains(got, "report shard-*.events --exit-code") {
				t.Errorf("%q", got)
			}
		}
		if !found {
			t.Errorf("%v runs no provium", job)
		}
	}
}

func TestGitLab(t *testing.T) {
	jobs := pipeline(t, "gitlab/provium.gitlab-ci.yml")
	shard, merge := jobs["shard"].(map[string]any), jobs["merge"].(map[string]any)
	if shard["parallel"] != 4 || merge["when"] != "always" {
		t.Errorf("%v", jobs)
	}
	if got := calls(t, shard["script"].([]any)[0].(string), "CI_NODE_INDEX=2"); got !=
		"|--save-events shard-2.events\n" {
		t.Errorf("%q", got)
	}
	got := calls(t, merge["script"].([]any)[0].(string))
	if !strings.Contains(got, "report shard-*.events --exit-code") {
		t.Errorf("%q", got)
	}
}

func TestDockerfileCopiesWhatIsBuilt(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	context := "*\n" // nothing else of the repository is sent to the builder
	for line := range strings.Lines(string(read(t, "Dockerfile"))) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "COPY" {
			continue
		}
		for _, path := range words[1 : len(words)-1] {
			found = true
			context += "!" + path + "\n"
			if !strings.HasPrefix(path, "bin/") || !strings.Contains(string(makefile), "./cmd/"+filepath.Base(path)) {
				t.Errorf("`make build` does not make %s", path)
			}
		}
	}
	if !found {
		t.Error("nothing is copied")
	}
	comments := regexp.MustCompile(`(?m)^#.*\n`)
	if got := comments.ReplaceAllString(string(read(t, "Dockerfile.dockerignore")), ""); got != context {
		t.Errorf("the context is\n%s, want\n%s", got, context)
	}
}

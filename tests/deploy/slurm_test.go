package deploy

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// slurmConf is a cluster of one node on the loopback, in a network of its own. Two shards run
// at a time.
const slurmConf = `ClusterName=test
SlurmctldHost=%[1]s(127.0.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser=root
StateSaveLocation=%[2]s/state
SlurmdSpoolDir=%[2]s/spool
SlurmctldPidFile=%[2]s/slurmctld.pid
SlurmdPidFile=%[2]s/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_min_interval=1
SlurmdParameters=config_overrides
PluginDir=%[3]s
NodeName=%[1]s NodeAddr=127.0.0.1 CPUs=4 RealMemory=16384
PartitionName=all Nodes=%[1]s Default=YES MaxTime=INFINITE State=UP
`

// slurmScript starts the daemons and runs the scripts of deploy/ as docs/machines-many.md does.
const slurmScript = `set -u
ip link set lo up
ip address add 192.0.2.1/32 dev lo # getaddrinfo finds nothing where there are addresses of the loopback only
slurmctld-wlm -D -c >"$STATE/slurmctld.log" 2>&1 &
slurmd-wlm -D -N "$NODE" -d "$SLURM/usr/sbin/slurmstepd-wlm" >"$STATE/slurmd.log" 2>&1 &
job=$(timeout 400 sbatch --parsable --wait "$DEPLOY/shards.sbatch") || echo "shards: $?"
mkdir -p results && ln -s "$job" results/array
exec timeout 100 sbatch --parsable --wait "$DEPLOY/merge.sbatch" "$job"
`

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// results returns the tests of a JUnit file and how they ended.
func results(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Suites []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range doc.Suites {
		for _, c := range s.Cases {
			out = append(out, fmt.Sprintf("%s: %s: failed %t, skipped %t", s.Name, c.Name, c.Failure != nil,
				c.Skipped != nil))
		}
	}
	slices.Sort(out)
	return out
}

// project copies examples, of which one has a test that fails, and returns their directory.
func project(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "project")
	for _, name := range []string{"provium.toml", "hello.test.lua", "sandbox.test.lua", "disk-rules.test.lua",
		"fixture.test.lua", "setups"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-r", "../../examples/"+name, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	failing := `test("fails", function(t) t:assert_eq(1, 2) end)` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "failing.test.lua"), []byte(failing), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSlurmArray runs examples as an array of four shards on a real Slurm, and as one run: the
// results are the same.
func TestSlurmArray(t *testing.T) {
	// What is started ends with us, and sees itself alone.
	apart := []string{"unshare", "-n", "-p", "--fork", "--kill-child", "--mount-proc"}
	slurm, bin := absolute(t, "../../dist/slurm"), os.Getenv("PROVIUM_BIN")
	switch _, err := os.Stat(slurm); {
	case err != nil:
		t.Skip("Slurm is not unpacked: scripts/setup does that where its packages can be had")
	case bin == "":
		t.Skip("PROVIUM_BIN does not name the program")
	case os.Geteuid() != 0:
		t.Skip("Slurm starts the jobs of others as root only")
	}
	if out, err := exec.Command(apart[0], append(apart[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("there can be no network apart here: %s", out)
	}
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	libraries := slurm + "/usr/lib/" + triplet
	for _, need := range []string{libraries + "/slurm-wlm/auth_none.so", libraries + "/slurm-wlm/cred_none.so",
		slurm + "/usr/sbin/slurmctld-wlm"} {
		if _, err := os.Stat(need); err != nil {
			t.Skipf("this Slurm is made otherwise: %v", err)
		}
	}
	dir, state := project(t), t.TempDir()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	node, _, _ := strings.Cut(host, ".")
	conf := fmt.Sprintf(slurmConf, node, state, libraries+"/slurm-wlm")
	for _, d := range []string{"state", "spool"} {
		if err := os.Mkdir(filepath.Join(state, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(state+"/slurm.conf", []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "CI=", "SLURM_CONF="+state+"/slurm.conf", "SLURM="+slurm, "STATE="+state, "NODE="+node,
		"DEPLOY="+absolute(t, "../../deploy/slurm"),
		"PATH="+strings.Join([]string{filepath.Dir(bin), slurm + "/usr/bin", slurm + "/usr/sbin", os.Getenv("PATH")},
			":"))
	whole := exec.CommandContext(t.Context(), bin, "--no-ksm", "--junit", "whole.xml")
	whole.Dir, whole.Env = dir, env
	if out, err := whole.CombinedOutput(); whole.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	array := exec.CommandContext(t.Context(), apart[0], append(apart[1:], "sh", "-c", slurmScript)...)
	array.Dir, array.Env = dir, append(env, "LD_LIBRARY_PATH="+libraries+":"+libraries+"/slurm-wlm")
	out, err := array.CombinedOutput()
	_, missing := os.Stat(dir + "/results/array/all.xml")
	if array.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "shards: 1\n") || missing != nil {
		t.Errorf("the array and its merge end with %v, want 1 for the failed test: %s", err, out)
		logs, _ := filepath.Glob(dir + "/*.log")
		for _, log := range append(logs, state+"/slurmctld.log", state+"/slurmd.log") {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", filepath.Base(log), text)
		}
		t.FailNow()
	}
	want, got := results(t, dir+"/whole.xml"), results(t, dir+"/results/array/all.xml")
	if len(want) < 10 || !slices.Equal(want, got) {
		t.Errorf("one run:\n%s\nfour shards:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	for _, file := range []string{"shard-1.events", "shard-2.events", "shard-3.events", "shard-4.events",
		"durations.json"} {
		if _, err := os.Stat(filepath.Join(dir, "results", "array", file)); err != nil {
			t.Error(err)
		}
	}
}

//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// loadedFiles are the suites that must pass on a busy machine.
var loadedFiles = []string{"vm-files", "process", "snapshot", "streams", "clock", "file"}

// busyLoops is how many loops run beside them, and loadedCPUs on how many CPUs all that is.
const (
	busyLoops  = 8
	loadedCPUs = 2
)

// load runs suites of ours beside busy loops.
func (v *verifier) load(ctx context.Context, _ int, t *tally) error {
	files := map[string]string{"provium.toml": "[profiles.host]\n"} // without the builds of other profiles
	for _, f := range loadedFiles {
		if !v.only.MatchString(f) {
			continue
		}
		name := f + ".test.lua"
		t.add("suites", 1)
		text, err := os.ReadFile(filepath.Join("tests", name))
		if err != nil {
			return err
		}
		files["tests/"+name] = string(text)
	}
	p, err := v.project(files)
	if err != nil {
		return err
	}
	var all, few unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := 0; few.Count() < loadedCPUs && cpu < 8*len(all); cpu++ {
		if all.IsSet(cpu) {
			few.Set(cpu)
		}
	}
	pin := func(cmd *exec.Cmd) error {
		if err := cmd.Start(); err != nil {
			return err
		}
		return unix.SchedSetaffinity(cmd.Process.Pid, &few)
	}
	for range busyLoops {
		loop := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := pin(loop); err != nil {
			return err
		}
		defer func() {
			_ = loop.Process.Kill()
			_ = loop.Wait() // it was killed
		}()
	}
	// Processes inherit the CPUs of what starts them.
	var out bytes.Buffer
	run := p.command(&out)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `sleep 0.1; exec "$@"`, "sh"}, run.Args...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = run.Dir, run.Env, &out, &out
	began := time.Now()
	err = pin(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	t.add("seconds", int(time.Since(began).Seconds()))
	if err != nil {
		t.add("failed", 1)
		v.complain("%v\n%s", err, out.Bytes())
	}
	return nil
}

func loadRows(t *tally) []row {
	bad, result := t.Counts["failed"], "passed"
	if bad > 0 {
		result = "failed"
	}
	tried := fmt.Sprintf("%d suites of guests beside %d busy loops on %d CPUs", t.Counts["suites"], busyLoops,
		loadedCPUs)
	return []row{hold(bad, tried, "%s, in %d s", result, t.Counts["seconds"])}
}

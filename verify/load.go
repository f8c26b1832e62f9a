//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// loadedFiles are the suites that must pass on a busy machine.
var loadedFiles = []string{"vm-run", "vm-files", "process", "snapshot", "network", "disk"}

// busyLoops is how many loops run beside them, and loadedCPUs on how many CPUs all that is.
const (
	busyLoops  = 8
	loadedCPUs = 2
)

// load runs suites of ours beside busy loops.
func (v *verifier) load(ctx context.Context, _ int) error {
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
	args := []string{"--cpu-overcommit", "8"}
	for _, f := range loadedFiles {
		args = append(args, "tests/"+f+".test.lua")
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `sleep 0.1; exec "$@"`, "sh", v.program}, args...)...)
	began := time.Now()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := pin(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	bad, result := 0, "passed"
	if err != nil {
		bad, result = 1, "failed"
		v.complain("%v\n%s", err, out.Bytes())
	}
	v.hold(bad, fmt.Sprintf("%d suites of guests beside %d busy loops on %d CPUs", len(loadedFiles), busyLoops,
		loadedCPUs), "%s, in %.0f s", result, time.Since(began).Seconds())
	return nil
}

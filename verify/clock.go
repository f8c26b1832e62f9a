//go:build verify

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed clock.lua
var clockText string

// clockPackages have tests of limits.
var clockPackages = []string{"deadline", "console", "guest", "instance", "lab", "script", "script/api", "sched", "run"}

// clockTests is a regular expression of the tests that run while the clock jumps: those of limits and waits. Left out
// are those whose subject is the wall clock, and those that measure what the host is busy with.
const clockTests = "Timeout|Limit|Wait|Silen|Stall|Barrier|Endless|Fair|NoAnswer|GivenUp|Expect|Never|Deadline|" +
	"^Test(After|Left|Slowest|Hold)$"

// clock has tests of limits, and the program, run in a guest whose clock jumps: only a guest's may.
func (v *verifier) clock(ctx context.Context, _ int, t *tally) error {
	var list strings.Builder
	for _, p := range clockPackages {
		if !v.only.MatchString(p) {
			continue
		}
		path := filepath.Join(v.dir, strings.ReplaceAll(p, "/", "-")+".test")
		build := exec.CommandContext(ctx, "go", "test", "-trimpath", "-ldflags=-s -w", "-c", "-o", path,
			"./internal/"+p)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the tests of %s: %w\n%s", p, err, out)
		}
		fmt.Fprintf(&list, "{package = %q, path = %q}, ", p, path)
	}
	p, err := v.project(map[string]string{"provium.toml": "[profiles.host]\n",
		"clock.test.lua": fmt.Sprintf("local only, program, binaries = %q, %q, {%s}\n%s", clockTests, v.program, &list,
			clockText)})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := p.command(&out, "--timeout", "2400")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	ended := cmd.Wait()
	o := read(out.Bytes())
	for _, logs := range o.logs {
		for _, line := range logs {
			for name, prefix := range map[string]string{"passed": "tests that passed: ", "jumps": "jumps: "} {
				if value, found := strings.CutPrefix(line, prefix); found {
					n, err := strconv.Atoi(value)
					if err != nil {
						return err
					}
					t.add(name, n)
				}
			}
		}
	}
	t.add("seconds", int(time.Since(began).Seconds()))
	if ended != nil || o.passed == 0 {
		t.add("bad", max(1, o.failed))
		v.complain("while the clock jumps: %v\n%s", ended, out.Bytes())
	}
	if _, left := awaitEnd(); len(left) > 0 {
		t.add("bad", 1)
		v.complain("while the clock jumps: %v survive", left)
	}
	return os.RemoveAll(p.dir)
}

func clockRows(t *tally) []row {
	return []row{hold(t.Counts["bad"], fmt.Sprintf("tests of limits, and a run of the program, on a machine (a guest) "+
		"whose clock jumps by years, %d times", t.Counts["jumps"]), "%d passed, in %d s; failed: %d",
		t.Counts["passed"], t.Counts["seconds"], t.Counts["bad"])}
}

//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"provium/internal/hostfault"
)

// sweepPackages have tests in which each system call fails once.
var sweepPackages = []string{"./internal/lab", "./internal/fixture", "./internal/image"}

var sweepLine = regexp.MustCompile(`host faults: (\d+) of \d+ calls, (\d+) rounds, (\d+) failed`)

var sweepName = regexp.MustCompile(`--- \w+: (\w+HostFaults) `)

// sweeps runs the tests in which each system call of an operation fails with each error.
func (v *verifier) sweeps(ctx context.Context, _ int, t *tally) error {
	out, err := v.goTest(ctx, []string{hostfault.EnvAll + "=" + v.piece}, "HostFaults$", sweepPackages...)
	operations := 0
	for _, m := range sweepLine.FindAllStringSubmatch(out, -1) {
		operations++
		for i, name := range []string{"calls", "rounds", "failed"} {
			n, err := strconv.Atoi(m[i+1])
			if err != nil {
				return err
			}
			t.add(name, n)
		}
	}
	if err != nil {
		t.atLeast("failed", 1)
		v.complain("%v\n%s", err, out)
	}
	if operations == 0 {
		return fmt.Errorf("no sweep was made: %w\n%s", err, out)
	}
	for _, m := range sweepName.FindAllStringSubmatch(out, -1) {
		t.atLeast(operationPrefix+m[1], 1)
	}
	return nil
}

// operationPrefix begins the names of the counts of operations, which may be swept in pieces.
const operationPrefix = "operation "

func sweepsRows(t *tally) []row {
	failed := t.Counts["failed"]
	var operations []string
	for name := range t.Counts {
		if test, ok := strings.CutPrefix(name, operationPrefix); ok {
			operations = append(operations, strings.TrimSuffix(strings.TrimPrefix(test, "Test"), "HostFaults"))
		}
	}
	slices.Sort(operations)
	return []row{hold(failed, fmt.Sprintf("each of %d system calls of %d operations (%s) fails with each of its "+
		"errors, once and from then on", t.Counts["calls"], len(operations), strings.Join(operations, ", ")),
		"%d faults; hangs, half entries and wrong passes: %d", t.Counts["rounds"], failed)}
}

// goTest runs tests of ours by a pattern, and returns what they print.
func (v *verifier) goTest(ctx context.Context, env []string, pattern string, packages ...string) (string, error) {
	args := []string{"test", "-trimpath", "-p", "1", "-count", "1", "-v", "-timeout", "60m", "-run", pattern}
	if only := v.only.String(); only != "" {
		args[len(args)-1] = only + ".*(" + pattern + ")"
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// damagePattern finds the tests that damage entries of the caches.
const damagePattern = "Damage|ReadOnly|CacheRefuses|CacheServesNoOther|SpotCheck|ReadAgainWhenChanged"

// damagePackages have caches.
var damagePackages = []string{"./internal/cachedir", "./internal/image/...", "./internal/snapshot",
	"./internal/fixture", "./internal/run"}

// damageLine is what a test says that damages every kind of file in every way.
var damageLine = regexp.MustCompile(`damaged cache files: (\d+) of`)

// caches runs the tests that damage cached files of every kind.
func (v *verifier) caches(ctx context.Context, _ int, t *tally) error {
	out, err := v.goTest(ctx, nil, damagePattern, damagePackages...)
	t.add("tests", strings.Count(out, "--- PASS: Test"))
	for _, m := range damageLine.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return err
		}
		t.add("files", n)
	}
	if err != nil {
		t.add("bad", 1+strings.Count(out, "--- FAIL"))
		v.complain("%v\n%s", err, out)
	}
	return nil
}

func cachesRows(t *tally) []row {
	bad := t.Counts["bad"]
	return []row{hold(bad, "cached files that are cut off, changed, replaced, made unreadable, or of another user",
		"wrong content served %d; %d files were damaged, and more in %d tests", bad, t.Counts["files"],
		t.Counts["tests"])}
}

// callLimit is how long a run of a second may take with a call that fails.
const callLimit = 2 * time.Minute

const (
	slowShare = 4 // one run in so many has no call that fails, but a disk that is slow
	slowWrite = 20 * time.Millisecond
)

// calls has random system calls of whole runs fail, with caches that are full or empty.
func (v *verifier) calls(ctx context.Context, times int, t *tally) error {
	p, err := v.busyProject()
	if err != nil {
		return err
	}
	if err := p.forget(); err != nil {
		return err
	}
	var total [2]uint64 // calls of a warm and of a cold run
	for _, cold := range []int{1, 0} {
		out, f, err := v.faultyRun(ctx, p, hostfault.One{N: never})
		if err != nil || out.passed != busyTests {
			return fmt.Errorf("a run whose calls are watched: %w\n%s", err, out.text)
		}
		total[cold] = f.Calls
	}
	good, err := p.readImages()
	if err != nil {
		return err
	}
	t.atLeast("warm", int(total[0]))
	t.atLeast("cold", int(total[1]))
	for i := range times {
		if v.late() {
			break
		}
		t.add("tried", 1)
		cold := 0
		if i%coldShare == 0 {
			cold = 1
			if err := p.forget(); err != nil {
				return err
			}
		}
		one, slow := v.drawFault(i, total[cold], t)
		began := time.Now()
		out, f, err := v.faultyRun(ctx, p, one)
		took := time.Since(began)
		t.atLeast("longest", int(took.Seconds()))
		t.add("slow calls", f.Slowed)
		t.add("slow calls of QEMU", f.SlowedToo)
		complain := func(format string, args ...any) {
			t.add("bad", 1)
			v.complain("call %d, %s: %s\n%s", one.N, f.What, fmt.Sprintf(format, args...), out.text)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case took > callLimit:
			complain("it took %v", took)
		case err != nil:
			t.add("failed", 1)
			if slow {
				complain("it failed on a slow disk: %v", err)
			}
			if strings.TrimSpace(out.text) == "" {
				complain("it failed without a word")
			}
		case out.passed != busyTests:
			complain("exit code 0, and %d tests have passed", out.passed)
		default:
			t.add("passed", 1)
		}
		if _, left := awaitEnd(); len(left) > 0 {
			complain("%v survive", left)
		}
		entries, err := p.halfEntries(ctx, good)
		if err != nil {
			return err
		}
		for _, e := range entries {
			complain("%s", e)
		}
	}
	if _, _, err := p.run(ctx); err != nil {
		t.add("bad", 1)
		v.complain("after all: %v", err)
	}
	return nil
}

// drawFault returns what happens to the calls of a run, of which there are so many.
func (v *verifier) drawFault(run int, calls uint64, t *tally) (one hostfault.One, slow bool) {
	if run%slowShare == slowShare-1 {
		t.add("slow", 1)
		return hostfault.One{N: never, Slow: slowWrite, SlowToo: "qemu-"}, true
	}
	return hostfault.One{N: 1 + v.random.Uint64N(calls), Choice: v.random.Uint64N(16), Lasting: run%2 == 0}, false
}

// never is the number of a call that no run comes to.
const never = 1 << 62

func callsRows(t *tally) []row {
	bad := t.Counts["bad"]
	tried := fmt.Sprintf("a random system call fails in each of %d runs of the program (of %d calls with full caches, "+
		"and of %d with empty ones)", t.Counts["tried"], t.Counts["warm"], t.Counts["cold"])
	if slow := t.Counts["slow"]; slow > 0 {
		tried += fmt.Sprintf("; in %d of them none does, but writes to files take %v longer (%d), and so do "+
			"those of QEMU and what it reads (%d)", slow, slowWrite, t.Counts["slow calls"],
			t.Counts["slow calls of QEMU"])
	}
	return []row{hold(bad, tried, "%d runs failed and said so, %d passed with all tests; hangs, survivors, half "+
		"entries and wrong passes: %d; the longest took %d s", t.Counts["failed"], t.Counts["passed"], bad,
		t.Counts["longest"])}
}

// faultyRun runs all files with one fault.
func (v *verifier) faultyRun(ctx context.Context, p *project, one hostfault.One) (outcome, hostfault.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return outcome{}, hostfault.Result{}, err
	}
	var out bytes.Buffer
	cmd := p.command(&out)
	cmd.Args = append([]string{self, supervised, p.program}, cmd.Args[1:]...)
	cmd.Path = self
	cmd.WaitDelay = endLimit
	result, err := hostfault.Run(ctx, cmd, p.program, one, callLimit)
	return read(out.Bytes()), result, err
}

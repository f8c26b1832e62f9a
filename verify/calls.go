//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"provium/internal/hostfault"
)

// sweepPackages have tests in which each system call fails once.
var sweepPackages = []string{"./internal/lab", "./internal/fixture", "./internal/image"}

var sweepLine = regexp.MustCompile(`host faults: (\d+) calls, (\d+) rounds, (\d+) failed`)

// sweeps runs the tests in which each system call of an operation fails with each error.
func (v *verifier) sweeps(ctx context.Context, _ int) error {
	out, err := v.goTest(ctx, []string{hostfault.EnvAll + "=1"}, "HostFaults$", sweepPackages...)
	operations, calls, rounds, failed := 0, 0, 0, 0
	for _, m := range sweepLine.FindAllStringSubmatch(out, -1) {
		operations++
		for i, sum := range []*int{&calls, &rounds, &failed} {
			n, err := strconv.Atoi(m[i+1])
			if err != nil {
				return err
			}
			*sum += n
		}
	}
	if err != nil {
		failed = max(failed, 1)
		v.complain("%v\n%s", err, out)
	}
	if operations == 0 {
		return fmt.Errorf("no sweep was made: %w\n%s", err, out)
	}
	v.hold(failed, fmt.Sprintf("each of %d system calls of %d operations (snapshot, restore, boot cache, fixture "+
		"build, image build) fails with each of its errors, once and from then on", calls, operations),
		"%d faults; hangs, half entries and wrong passes: %d", rounds, failed)
	return nil
}

// goTest runs tests of ours by a pattern, and returns what they print.
func (v *verifier) goTest(ctx context.Context, env []string, pattern string, packages ...string) (string, error) {
	args := []string{"test", "-trimpath", "-p", "1", "-count", "1", "-v", "-timeout", "60m", "-run", pattern}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// damagePattern finds the tests that damage entries of the caches.
const damagePattern = "Damage|ReadOnly|CacheRefuses|CacheServesNoOther|SpotCheck|ReadAgainWhenChanged"

// caches runs the tests that damage cached files of every kind.
func (v *verifier) caches(ctx context.Context, _ int) error {
	out, err := v.goTest(ctx, nil, damagePattern, "./internal/...")
	bad, tried := 0, strings.Count(out, "--- PASS: Test")
	if err != nil {
		bad = 1 + strings.Count(out, "--- FAIL")
		v.complain("%v\n%s", err, out)
	}
	v.hold(bad, "cached files that are cut off, changed, replaced, made unreadable, or of another user",
		"wrong content served %d, in %d tests", bad, tried)
	return nil
}

// callLimit is how long a run of a second may take with a call that fails.
const callLimit = 2 * time.Minute

// calls has random system calls of whole runs fail, with caches that are full or empty.
func (v *verifier) calls(ctx context.Context, times int) error {
	p, err := v.busyProject()
	if err != nil {
		return err
	}
	if err := p.forget(); err != nil {
		return err
	}
	var total [2]uint64 // calls of a warm and of a cold run
	for _, cold := range []int{1, 0} {
		out, f, err := v.faultyRun(ctx, p, hostfault.One{N: 1 << 62})
		if err != nil || out.passed != busyTests {
			return fmt.Errorf("a run whose calls are watched: %w\n%s", err, out.text)
		}
		total[cold] = f.Calls
	}
	good, err := p.readImages()
	if err != nil {
		return err
	}
	bad, failed, passed, longest := 0, 0, 0, time.Duration(0)
	tried := 0
	for i := range times {
		if v.late() {
			break
		}
		tried++
		cold := 0
		if i%coldShare == 0 {
			cold = 1
			if err := p.forget(); err != nil {
				return err
			}
		}
		one := hostfault.One{N: 1 + v.random.Uint64N(total[cold]), Choice: v.random.Uint64N(16), Lasting: i%2 == 0}
		began := time.Now()
		out, f, err := v.faultyRun(ctx, p, one)
		took := time.Since(began)
		longest = max(longest, took)
		complain := func(format string, args ...any) {
			bad++
			v.complain("call %d, %s: %s\n%s", one.N, f.What, fmt.Sprintf(format, args...), out.text)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case took > callLimit:
			complain("it took %v", took)
		case err != nil:
			failed++
			if strings.TrimSpace(out.text) == "" {
				complain("it failed without a word")
			}
		case out.passed != busyTests:
			complain("exit code 0, and %d tests have passed", out.passed)
		default:
			passed++
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
		bad++
		v.complain("after all: %v", err)
	}
	v.hold(bad, fmt.Sprintf("a random system call fails in each of %d runs of the program (of %d and %d calls)", tried,
		total[0], total[1]), "%d runs failed and said so, %d passed with all tests; hangs, survivors, half entries "+
		"and wrong passes: %d; the longest took %.0f s", failed, passed, bad, longest.Seconds())
	return nil
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

//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// busyFiles have a run of every kind of work on the host: builds, boots, the caches,
// snapshots, disks, networks, programs of the host.
var busyFiles = map[string]string{
	"provium.toml": `
[provium]
roots = ["."]
[profiles.host]
boot_compressed = false
[profiles.built]
boot_compressed = false
build = "sleep 86399 >/dev/null 2>&1 & echo built"
`,
	"made.fixture.lua": `
local vm = provium:vm("made", "host"):boot()
vm:write_file("/tmp/made", "by the fixture")
return vm:snapshot()
`,
	"fixture.test.lua": `
test("a fixture", function(t)
  t:assert_eq(provium:vm_fixture("made"):read_file("/tmp/made"), "by the fixture")
end)
`,
	"guest.test.lua": `
local vm = provium:vm("a", "built", {disks = {{scratch = "16M", id = "d"}}})
provium:bridge("net"):attach(vm)
vm:boot()
test("a snapshot", function(t)
  vm:write_file("/tmp/x", "kept")
  local s = vm:snapshot()
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:read_file("/tmp/x"), "kept")
  t:assert_eq(vm:fork():read_file("/tmp/x"), "kept")
end)
`,
	"host.test.lua": `
test("programs of the host", function(t)
  os.execute("sleep 86399 >/dev/null 2>&1 &")
  t:assert_eq(io.popen("(sleep 86399 >/dev/null 2>&1 &); echo out"):read("a"), "out\n")
end)
`,
}

// busyTests is how many tests they have.
const busyTests = 3

// coldShare is how many kills come to one with empty caches.
const coldShare = 3

// checkEvery is how many kills come to a run that must pass.
const checkEvery = 25

// kills kills runs at random moments, with caches that are full or empty.
func (v *verifier) kills(ctx context.Context, times int, t *tally) error {
	p, err := v.busyProject()
	if err != nil {
		return err
	}
	cold, warm, err := v.wholeRuns(ctx, p, t)
	if err != nil {
		return err
	}
	good, err := p.readImages()
	if err != nil {
		return err
	}
	for i := range times {
		last := i == times-1 || v.late()
		limit := &warm // about how long a run takes
		if i%coldShare == coldShare-1 {
			limit = &cold
			if err := p.forget(); err != nil {
				return err
			}
		}
		after := time.Duration(v.random.Int64N(int64(*limit)))
		began := time.Now()
		running, err := p.kill(after)
		if err != nil {
			return err
		}
		if !running {
			*limit = time.Since(began)
			t.add("over", 1)
		}
		took, left := awaitEnd()
		t.Times = append(t.Times, took)
		if len(left) > 0 {
			t.add("survivors", len(left))
			v.complain("kill %d after %v: %v survive", i, after, left)
		}
		entries, err := p.halfEntries(ctx, good)
		if err != nil {
			return err
		}
		for _, e := range entries {
			v.complain("kill %d after %v: %s", i, after, e)
		}
		t.add("half", len(entries))
		if i%checkEvery == checkEvery-1 || last {
			if _, _, err := p.run(ctx); err != nil {
				return fmt.Errorf("after kill %d: %w", i, err)
			}
			if _, left := awaitEnd(); len(left) > 0 {
				t.add("survivors", len(left))
				v.complain("a run after kill %d has left %v", i, left)
			}
		}
		if last {
			break
		}
	}
	return nil
}

func killsRows(t *tally) []row {
	if len(t.Times) == 0 {
		return nil
	}
	ends := slices.Sorted(slices.Values(t.Times))
	survivors, half := t.Counts["survivors"], t.Counts["half"]
	return []row{
		hold(survivors, fmt.Sprintf("%d kills of a run at a random moment (SIGKILL; %d were over by then)", len(ends),
			t.Counts["over"]), "survivors %d; everything was gone after %v in the median, %v at most", survivors,
			ends[len(ends)/2].Round(time.Millisecond), ends[len(ends)-1].Round(time.Millisecond)),
		hold(half, "the caches after each of them", "half entries %d; the next run passed", half),
	}
}

// wholeRuns runs the files with empty and with full caches, and returns how long that takes.
func (v *verifier) wholeRuns(ctx context.Context, p *project, t *tally) (cold, warm time.Duration, err error) {
	if err := p.forget(); err != nil {
		return 0, 0, err
	}
	if _, cold, err = p.run(ctx); err != nil {
		return 0, 0, err
	}
	if _, warm, err = p.run(ctx); err != nil {
		return 0, 0, err
	}
	if _, left := awaitEnd(); len(left) > 0 {
		v.complain("a run that has ended has left %v", left)
		t.add("survivors", len(left))
	}
	return cold, warm, nil
}

// busyProject returns a project of the files above, the same each time.
func (v *verifier) busyProject() (*project, error) {
	var err error
	if v.busy == nil {
		v.busy, err = v.project(busyFiles)
	}
	return v.busy, err
}

// kill starts a run and kills it. It reports whether the run was still going on.
func (p *project) kill(after time.Duration) (running bool, err error) {
	var out bytes.Buffer
	cmd := p.command(&out)
	cmd.WaitDelay = endLimit // of what survives with its output
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
		return false, nil
	case <-time.After(after):
	}
	if err := cmd.Process.Kill(); err != nil {
		<-ended
		return false, nil // it has just ended
	}
	<-ended
	return true, nil
}

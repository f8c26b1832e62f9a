//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// partShare is how many kills come to one of which a part of the run is killed first.
const partShare = 4

// guestLimit is how long a guest may outlive a process of ours.
const guestLimit = 500 * time.Millisecond

// guestsLimit is how long a kill of a part waits for guests below one.
const guestsLimit = 2 * time.Second

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
		first := func(int) {}
		if i%partShare == 0 {
			first = func(run int) { v.killPart(run, t) }
		}
		running, err := p.kill(after, first)
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
	guests := append([]time.Duration{0}, slices.Sorted(slices.Values(t.Parts))...)
	parts := 0
	for _, k := range kinds {
		parts += t.Counts["killed "+k.name]
	}
	return []row{
		hold(survivors, fmt.Sprintf("%d kills of a run at a random moment (SIGKILL; %d were over by then)", len(ends),
			t.Counts["over"]), "survivors %d; everything was gone after %v in the median, %v at most", survivors,
			ends[len(ends)/2].Round(time.Millisecond), ends[len(ends)-1].Round(time.Millisecond)),
		hold(t.Counts["late guests"], fmt.Sprintf(
			"%d kills of a part of a run: runners %d, fork servers %d, templates %d, others %d", parts,
			t.Counts["killed runners"], t.Counts["killed fork servers"], t.Counts["killed templates"],
			t.Counts["killed others"]), "%d guests below them; gone after %v in the median, %v at most (wanted: %v)",
			len(t.Parts), guests[len(guests)/2].Round(time.Millisecond),
			guests[len(guests)-1].Round(time.Millisecond), guestLimit),
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

// killPart kills a process of a run that has guests below it, and waits for the end of those.
func (v *verifier) killPart(run int, t *tally) {
	all, found := awaitGuests(run)
	if len(found) == 0 {
		return
	}
	kind := slices.Sorted(maps.Keys(found))[v.random.IntN(len(found))]
	victim := found[kind][v.random.IntN(len(found[kind]))]
	family := append([]process{victim}, below(all, victim.pid)...)
	guests := map[int]bool{}
	for _, g := range byKind(family[1:], run)["guests"] {
		guests[g.pid] = true
	}
	fds := make([]unix.PollFd, len(family)) // pidfds
	for i, p := range family {
		fds[i] = unix.PollFd{Fd: -1, Events: unix.POLLIN}
		if fd, err := unix.PidfdOpen(p.pid, 0); err == nil {
			defer unix.Close(fd)
			fds[i].Fd = int32(fd)
		} else {
			delete(guests, p.pid)
		}
	}
	began := time.Now()
	if unix.Kill(victim.pid, unix.SIGKILL) != nil {
		return
	}
	t.add("killed "+kind, 1)
	ends := awaitEnds(fds, endLimit)
	for i, p := range family {
		if !guests[p.pid] {
			continue
		}
		took := endLimit
		if !ends[i].IsZero() {
			took = ends[i].Sub(began)
		}
		t.Parts = append(t.Parts, took)
		if took > guestLimit {
			t.add("late guests", 1)
			v.complain("a guest outlives its killed %s by %v:%s", kind, took.Round(time.Millisecond),
				chain(family, ends, began))
		}
		if took >= endLimit {
			t.add("survivors", 1)
		}
	}
}

// awaitGuests waits for a moment at which a part of a run has guests below it, for a while. It returns the processes of
// then, and by their kinds those that have guests below them; without such all parts.
func awaitGuests(run int) (all []process, found map[string][]process) {
	for until := time.Now().Add(guestsLimit); ; time.Sleep(time.Millisecond) {
		all = descendants()
		kinds := byKind(all, run)
		delete(kinds, "guests")
		found = map[string][]process{}
		for kind, list := range kinds {
			for _, p := range list {
				if len(byKind(below(all, p.pid), run)["guests"]) > 0 {
					found[kind] = append(found[kind], p)
				}
			}
		}
		if len(found) > 0 {
			return all, found
		}
		if len(kinds) == 0 || time.Now().After(until) {
			return all, kinds
		}
	}
}

// awaitEnds waits for the ends of processes, whose pidfds it is given, and returns the moments at which it has seen
// them.
func awaitEnds(fds []unix.PollFd, limit time.Duration) []time.Time {
	ends := make([]time.Time, len(fds))
	until := time.Now().Add(limit)
	for slices.ContainsFunc(fds, func(p unix.PollFd) bool { return p.Fd >= 0 }) && time.Now().Before(until) {
		n, err := unix.Poll(fds, int(time.Until(until)/time.Millisecond)+1)
		if err != nil || n <= 0 {
			continue // EINTR, or the limit
		}
		now := time.Now()
		for i := range fds {
			if fds[i].Revents != 0 {
				ends[i], fds[i].Fd = now, -1
			}
		}
	}
	return ends
}

// chain says when each of some processes has ended.
func chain(family []process, ends []time.Time, began time.Time) string {
	var out strings.Builder
	for i, p := range family {
		after := "-"
		if !ends[i].IsZero() {
			after = ends[i].Sub(began).Round(time.Millisecond).String()
		}
		fmt.Fprintf(&out, " %s(%d below %d) %s", p.command, p.pid, p.parent, after)
	}
	return out.String()
}

// below returns the processes that descend from one.
func below(all []process, pid int) (out []process) {
	for _, p := range all {
		if p.parent == pid {
			out = append(append(out, p), below(all, p.pid)...)
		}
	}
	return out
}

// kill starts a run and kills it, after something else was done to it. It reports whether the run still went on.
func (p *project) kill(after time.Duration, first func(run int)) (running bool, err error) {
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
	first(cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		<-ended
		return false, nil // it has just ended
	}
	<-ended
	return true, nil
}

//go:build verify

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cacheDisk is a disk with the caches of the user, on which nothing can be kept. mount is a script, whose
// first argument is the directory of the caches, which another directory beside it has a copy of.
type cacheDisk struct {
	name, mount string
	pass        int    // how many tests must pass at least
	says        string // what a run must say, and each test that fails
}

// cacheDisks need no rights: they are mounted in namespaces of their own.
var cacheDisks = [...]cacheDisk{
	{"full", `mount -t tmpfs tmpfs "$1" -o size=$(($(du -sk "$1.copy" | cut -f1) + 256))k
		cp -a "$1.copy/." "$1"; dd if=/dev/zero of="$1/fill" bs=4k 2>/dev/null || :`,
		2, "no space left on device"}, // a fixture has no other place
	{"read-only", `mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"`, disksTests, "read-only file system"},
}

// disksText has a guest from the boot cache, one of a fixture, and a snapshot.
const disksText = `
local vm = provium:vm("v", "host", {memory = "128M"}):boot()
test("boot", function(t) t:assert_eq(vm:run("echo alive").stdout, "alive\n") end)
test("fixture", function(t) t:assert_eq(provium:vm_fixture("made"):read_file("/tmp/made"), "by the fixture") end)
test("restore", function(t)
  local s = vm:snapshot()
  vm:write_file("/tmp/x", "later")
  vm:shutdown()
  vm:restore(s)
  t:assert(not pcall(function() vm:stat("/tmp/x") end))
end)
`

// disksTests is how many tests it has.
const disksTests = 3

// disks has runs keep their caches on a disk that is full, and on one that cannot be written. What they boot
// is there, what they make is not: tests must pass, or fail for that reason and say so.
func (v *verifier) disks(ctx context.Context, _ int, t *tally) error {
	p, err := v.project(map[string]string{"provium.toml": "[provium]\nroots = [\".\"]\n\n[profiles.host]\n",
		"disks.test.lua": disksText, "made.fixture.lua": busyFiles["made.fixture.lua"]})
	if err != nil {
		return err
	}
	if _, _, err := p.run(ctx); err != nil { // makes the images
		return err
	}
	for _, made := range []string{"boots", "fixtures"} {
		if err := os.RemoveAll(filepath.Join(p.caches, "provium", made)); err != nil {
			return err
		}
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", p.caches, p.caches+".copy").CombinedOutput(); err != nil {
		return fmt.Errorf("copy the caches: %w: %s", err, out)
	}
	for _, d := range cacheDisks {
		if !v.only.MatchString(d.name) {
			continue
		}
		var out bytes.Buffer
		run := p.command(&out)
		script := "set -e; " + d.mount + `; shift; exec "$@"`
		cmd := exec.CommandContext(ctx, "unshare", append([]string{"-rm", "sh", "-c", script, "sh", p.caches},
			run.Args...)...)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = run.Dir, run.Env, &out, &out
		err := cmd.Run()
		t.add("runs", 1)
		o := read(out.Bytes())
		t.add("passed", o.passed)
		wrong := o.passed < d.pass || (err == nil) != (o.passed == disksTests) ||
			!strings.Contains(out.String(), d.says)
		for _, message := range o.messages {
			wrong = wrong || !strings.Contains(message, d.says)
		}
		if wrong {
			t.add("bad", 1)
			v.complain("caches on a %s disk: %v\n%s", d.name, err, out.Bytes())
		}
		if _, left := awaitEnd(); len(left) > 0 {
			t.add("bad", 1)
			v.complain("caches on a %s disk: %v survive", d.name, left)
		}
	}
	return nil
}

func disksRows(t *tally) []row {
	return []row{hold(t.Counts["bad"], "whole runs with their caches on a full disk, and on a read-only one",
		"%d runs; %d tests passed; wrong verdicts, silence and survivors: %d", t.Counts["runs"], t.Counts["passed"],
		t.Counts["bad"])}
}

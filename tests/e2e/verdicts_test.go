package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// crashModule adds a profile to the project whose guests have the module that makes kernels fail.
func (p *project) crashModule() {
	p.t.Helper()
	show := exec.Command(p.bin, "image", "show", "--profile", "host")
	show.Dir, show.Env = p.dir, p.env
	text, err := show.Output()
	if err != nil {
		p.t.Fatal(err)
	}
	release := regexp.MustCompile(`(?m)^  kernel .*, (\S+)$`).FindSubmatch(text)
	if release == nil {
		p.t.Fatalf("no release of a kernel in %q", text)
	}
	module, err := exec.Command("../setups/crash/build", string(release[1])).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 3 {
		p.t.Skip("the headers of the kernel or a compiler are not to be had")
	} else if err != nil {
		p.t.Fatal(err)
	}
	p.write("provium.toml", hostProfile+fmt.Sprintf("modules = [%q]\n", bytes.TrimSpace(module)))
}

// TestHangOfTheOnlyCPU has a guest hang with interrupts off: its test ends at its limit, with the registers, the
// stack and the kernel's log, although nothing in the guest can say any of that.
func TestHangOfTheOnlyCPU(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.crashModule()
	p.write("tests/x.test.lua", `
local vm = provium:vm("a", "host", {memory = "128M"}):boot()
test("hangs", {timeout = 3}, function()
  vm:run("echo the last word > /dev/kmsg")
  vm:run("echo deaf > /proc/crash")
end)
test("next", function() provium:vm("b", "host"):boot():run("true"):assert_ok() end)
`)
	r := p.run()
	r.expect(1, "1 passed, 1 failed", "timed out after 3s in vm:run", "RAX=", "called by, as far as its stack shows:",
		"crash_write+0x", "the last word")
	if !regexp.MustCompile(`runs the kernel with interrupts off, RIP 0x[0-9a-f]{16} \(crash_deaf\+`).
		Match(r.stdout.Bytes()) {
		t.Errorf("the failure does not say where the CPU is\n%s", r.report())
	}
}

// TestPanicIsSaidOnce has a kernel panic in a test and in the build of a fixture, on a console that shows all and on a
// quiet one: the output has its report once each time.
func TestPanicIsSaidOnce(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/bad.fixture.lua", `
local vm = provium:vm("inner", "host", {memory = "128M"}):boot()
vm:run("echo c > /proc/sysrq-trigger; sleep 1000")
return vm:snapshot()
`)
	p.write("tests/quiet.test.lua", `
test("panics", function(t)
  provium:vm("a", "host", {memory = "128M"}):boot():run("echo c > /proc/sysrq-trigger; sleep 1000")
end)
`)
	p.write("tests/loud.test.lua", strings.Replace(readText(t, filepath.Join(p.dir, "tests/quiet.test.lua")),
		`"128M"`, `"128M", kernel_cmdline_append = "loglevel=7"`, 1))
	p.write("tests/fixture.test.lua", `test("panics", function(t) provium:vm_fixture("bad") end)`)
	for _, name := range []string{"quiet", "loud", "fixture"} {
		r := p.run("tests/" + name + ".test.lua")
		r.expect(1, "0 passed, 1 failed", "Kernel panic - not syncing: sysrq triggered crash")
		out := r.stdout.String()
		for text, most := range map[string]int{"Call Trace:": 1, "sysrq_handle_crash+0x": 1,
			"] Kernel panic - not syncing: sysrq triggered crash": 1} {
			if n := strings.Count(out, text); n != most {
				t.Errorf("%s: %q is said %d times\n%s", name, text, n, r.report())
			}
		}
	}
}

// TestEvidenceThatCannotBeKept has the folder of evidence unwritable, which is refused before a test runs, and full:
// the test fails for its own reason, and what was left out is said.
func TestEvidenceThatCannotBeKept(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/x.test.lua", `
test("fails", function(t)
  t:attach("large.bin", ("x"):rep(1000000))
  error("its own reason")
end)
`)
	r := p.run("--artifacts", "/proc/kept")
	r.expect(2, "--artifacts: ")
	if strings.Contains(r.stdout.String(), "its own reason") {
		t.Errorf("a test ran\n%s", r.report())
	}
	kept := filepath.Join(p.dir, "kept")
	p.small(kept, "64k")
	p.run("--artifacts", kept).expect(1, "its own reason", "0 passed, 1 failed", "no space left on device")
}

// TestResultsThatCannotBeWritten has no room for an attachment beside the JUnit file: all else is written, and the exit
// code says that something is missing.
func TestResultsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/x.test.lua", `
test("fails", function(t)
  t:attach("large.bin", ("x"):rep(1000000))
  t:attach("small.txt", "kept")
  error("its own reason")
end)
`)
	out, events := filepath.Join(p.dir, "out"), filepath.Join(p.dir, "events.jsonl")
	p.small(out, "128k")
	r := p.run("--junit", filepath.Join(out, "j.xml"), "--save-events", events, "--events-format", "jsonl")
	r.expect(2, "0 passed, 1 failed", "large.bin: no space left on device")
	junit := readText(t, filepath.Join(out, "j.xml"))
	wantXML(t, junit)
	if !strings.Contains(junit, "its own reason") || !strings.Contains(junit, "small.txt") {
		t.Errorf("not all of the results are in %s", junit)
	}
	left, err := filepath.Glob(filepath.Join(out, "j-attachments", "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("%q, %v", left, err)
	}
	if !strings.Contains(readText(t, events), `"run_completed"`) {
		t.Error("the stream of events does not end")
	}
	p.run("--rerun-failed").expect(1, "its own reason") // it is remembered
}

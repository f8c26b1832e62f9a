package e2e

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// inGuest is a test file whose only test is in the middle of an operation of a
// guest once it has written "ready".
const inGuest = `
local vm = provium:vm("victim", "host"):boot()
test("stuck in the guest", function()
  io.write("ready\n") io.flush()
  vm:run("sleep 86399")
end)
test("another", function() end)
`

func TestKilledProgramLeavesNoProcess(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", inGuest)
	r := p.start()
	r.await("ready")
	guests := slices.ContainsFunc(p.processes(), func(s string) bool { return strings.Contains(s, "guest=victim") })
	if !guests {
		t.Errorf("the guest's process was not found among %q", p.processes())
	}
	r.signal(syscall.SIGKILL)
	r.wait()
	p.expectNoProcess()
	// What it could not remove, the next run does.
	left, err := os.ReadDir(p.temp)
	if err != nil || len(left) == 0 {
		t.Fatalf("want a temporary directory of the killed run, got %v, %v", left, err)
	}
	p.write("tests/a.test.lua", "")
	p.run().expect(0)
}

func TestInterruptedRun(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", "test('done', function() end)\n")
	p.write("tests/b.test.lua", inGuest)
	p.write("tests/c.test.lua", "test('never', function() end)\n")
	r := p.start("--jobs", "1")
	r.await("ready")
	r.signal(syscall.SIGINT)
	r.wait().expect(1, "PASS tests/a.test.lua (1 passed", "tests/b.test.lua (0 passed, 1 failed, 1 skipped)",
		"interrupted", `vm:run("sleep 86399")`, "1 passed, 1 failed, 1 skipped")
	if strings.Contains(r.stdout.String(), "c.test.lua") {
		t.Errorf("a file was started after the interrupt\n%s", r.report())
	}
}

func TestGuestsOfBadFilesEnd(t *testing.T) {
	t.Parallel() // it mostly waits
	p := newProject(t, hostProfile)
	// The runner is killed while its guest runs.
	p.write("tests/crash.test.lua", `
provium:vm("orphan", "host"):boot()
test("crash", function() os.execute("kill -9 $PPID") end)
`)
	// The file's time is over in the middle of an operation.
	p.write("tests/late.test.lua", inGuest)
	// QEMU is killed in the middle of an operation.
	p.write("tests/killed.test.lua", inGuest)
	r := p.start("--timeout", "12", "--jobs", "1")
	r.await("ready")
	for _, process := range p.processes() {
		if pid, rest, _ := strings.Cut(process, " "); strings.Contains(rest, "guest=victim") {
			kill(t, pid)
		}
	}
	r.await("ready")
	r.wait().expect(1, "CRASH tests/crash.test.lua (0 passed, 1 failed, 0 skipped)",
		"FAIL tests/killed.test.lua (1 passed, 1 failed, 0 skipped)", "qemu ended: signal: killed",
		"TIME tests/late.test.lua (0 passed, 1 failed, 1 skipped)", "the file's limit of 12s (--timeout) has passed")
}

func TestTestLimitInGuest(t *testing.T) {
	t.Parallel() // it mostly waits
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
local vm = provium:vm("patient", "host"):boot()
test("too slow", {timeout = "700ms"}, function()
  vm:run("sleep 86399")
end)
test("the command is gone and the guest is well", function(t)
  t:assert_eq(vm:run("pidof sleep").exit_code, 1)
end)
test("a guest that does not answer", {timeout = "700ms"}, function()
  vm:run("kill -STOP $PPID; sleep 86399")
end)
test("is dead soon", function(t)
  wait_until(function() return vm:state() == "dead" end, {timeout = "60s", desc = "the guest is given up"})
  t:assert_contains(t:assert_raises(function() vm:run("true") end), "dead")
end)
`)
	p.run().expect(1, "(2 passed, 2 failed, 0 skipped)",
		`timed out after 0.7s in vm:run("sleep 86399") at tests/a.test.lua:4`)
}

func TestBootErrors(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.run("image", "build", "--profile", "host", "--out", "host").expect(0)

	p.write("garbage", "this is neither a kernel nor an initramfs\n")
	p.write("truncated", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01")
	p.write("newc", "070701"+strings.Repeat("zzzzzzzz", 13))
	p.write("provium.toml", hostProfile+`
[profiles.no-kernel]
kernel = "no/such/kernel"
cmdline = "quiet"

[profiles.no-initrd]
initrd = "no/such/initrd"

[profiles.no-kernel-file]
kernel = "garbage"
cmdline = "quiet"

[profiles.no-console]
kernel = "host/kernel"
cmdline = "quiet"

[profiles.garbage]
initrd = "garbage"

[profiles.truncated]
initrd = "truncated"

[profiles.broken-cpio]
initrd = "newc"

[profiles.rdinit]
cmdline = "quiet rdinit=/bin/sh"

[profiles.no-module]
modules = ["no_such_module"]

[profiles.no-overlay]
agent_overlay_path = "no/such/overlay"

[profiles.machine]
machine = "no-such-machine"
`)
	p.write("tests/a.test.lua", `
local function fails(profile, ...)
  local needles = {...}
  test(profile, function(t)
    local vm = provium:vm("v", profile)
    local err = t:assert_raises(function() vm:boot() end)
    t:log(err)
    for _, needle in ipairs(needles) do t:assert_contains(err, needle) end
    t:assert_eq(vm:state(), "created")
  end)
end
fails("no-kernel", "profile `+"`no-kernel`"+`", "no/such/kernel", "no such file", "leave `+"`kernel`"+` out")
fails("no-initrd", "no/such/initrd", "no such file", "leave initrd out")
fails("no-kernel-file", "garbage", "bzImage or vmlinux")
fails("no-console", "host/kernel", "virtio console", "CONFIG_VIRTIO_CONSOLE")
fails("garbage", "garbage", "initrd")
fails("truncated", "truncated", "initrd")
fails("broken-cpio", "newc", "initrd")
fails("rdinit", "rdinit=/bin/sh", "inject_agent = false")
fails("no-module", "no_such_module")
fails("no-overlay", "no/such/overlay", "agent_overlay_path")
fails("machine", "unsupported machine type")
`)
	p.run("-v").expect(0)
	p.run("--kernel", "no/such/kernel").expect(1, "no/such/kernel")
}

// TestUnreadableFiles is about kernels of distributions, and disks, that only root may
// read: what is named is an error, other kernels are skipped with a note.
func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile+`
[profiles.named]
kernel = "boot/vmlinuz"
cmdline = "quiet"

[profiles.found]
root = "."
`)
	p.dropPrivileges()
	for _, name := range []string{"boot/vmlinuz", "disk.img"} {
		if err := os.Chmod(p.write(name, "x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	p.write("tests/a.test.lua", `
test("named", function(t)
  local err = t:assert_raises(function() provium:vm("v", "named"):boot() end)
  for _, needle in ipairs{"boot/vmlinuz", "permission denied", "chmod a+r"} do t:assert_contains(err, needle) end
end)
test("found", function(t)
  local err = t:assert_raises(function() provium:vm("v", "found"):boot() end)
  for _, needle in ipairs{"skipped", "boot/vmlinuz", "permission denied"} do t:assert_contains(err, needle) end
end)
test("disk", function(t)
  local vm = provium:vm("v", "named")
  for _, opts in ipairs{{image = "disk.img"}, {image = "disk.img", readonly = true}, {template = "disk.img"}, {image = "disk.img", format = "qcow2"}} do
    local err = t:assert_raises(function() vm:attach_disk(opts) end)
    for _, needle in ipairs{"vm:attach_disk", "disk.img", "permission denied"} do t:assert_contains(err, needle) end
  end
end)
`)
	p.run("-v").expect(0)
}

func kill(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

package e2e

import (
	"regexp"
	"testing"
)

// TestBacktraceOfASpinningCPU has one of two CPUs spin in a module with interrupts off: the failure has its registers
// and what its stack shows, although the kernel can say nothing of it.
func TestBacktraceOfASpinningCPU(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.crashModule()
	p.write("tests/x.test.lua", `
local vm = provium:vm("a", "host", {cpus = 2, memory = "128M"}):boot()
test("spins", {timeout = 2}, function() vm:run("echo deaf > /proc/crash") end)
`)
	r := p.run()
	// The other CPU answers until it waits for the first one.
	r.expect(1, "timed out after 2s in vm:run", "RAX=", "called by, as far as its stack shows:",
		"crash_write+0x", " [crash]", "proc_reg_write+0x", "vfs_write+0x", "ksys_write+0x")
	// The other one may be anywhere in the kernel.
	cpu := regexp.MustCompile(`(?m)^ +CPU [01] runs the kernel with interrupts off, RIP 0x[0-9a-f]{16} ` +
		`\(crash_deaf\+0x[0-9a-f]+/0x[0-9a-f]+ \[crash\]\)$`)
	if len(cpu.FindAll(r.stdout.Bytes(), -1)) != 1 {
		t.Errorf("want one CPU in the module, with interrupts off\n%s", r.report())
	}
}

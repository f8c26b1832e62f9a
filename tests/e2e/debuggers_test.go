package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"provium/internal/fulltest"
)

// drgnScript prints what a person looks for first in a core: the last record of the kernel's log, the task that runs
// on the first CPU, and the stacks of the CPU and of tasks that sleep: they must not be the CPU's.
const drgnScript = `
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.printk import get_printk_records
print("last record:", get_printk_records(prog)[-1].text.decode())
print("running:", per_cpu(prog["runqueues"], 0).curr.comm.string_().decode())
print("tasks:", *(t.comm.string_().decode() for t in for_each_task(prog)))
print("the CPU:", prog.stack_trace(per_cpu(prog["runqueues"], 0).curr.pid.value_()))
print("asleep:", prog.stack_trace(find_task(prog, 2)))
print("first:", prog.stack_trace(1))
`

// TestDebuggersOpenACore has drgn and crash read the memory that --dump keeps of a guest whose kernel panics. They need
// the kernel's debug information, of 590 MB, for which Debian's package is downloaded once (283 MB): the test runs in
// full only. PROVIUM_VMLINUX names one that is there.
func TestDebuggersOpenACore(t *testing.T) {
	t.Parallel()
	if !fulltest.Wanted() {
		t.Skip("runs in make test-full")
	}
	for _, name := range []string{"crash", "drgn"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	p := newProject(t, hostProfile)
	p.write("tests/x.test.lua", `
test("panics", function(t)
  provium:vm("a", "host", {memory = "128M"}):boot():run("echo c > /proc/sysrq-trigger; sleep 1000")
end)
`)
	kept := filepath.Join(p.dir, "kept")
	p.run("--dump", "--artifacts", kept).expect(1, "sysrq triggered crash")
	files, err := filepath.Glob(filepath.Join(kept, "*", "core-a.zst"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	memory := unpackCore(t, files[0])
	release := regexp.MustCompile(`OSRELEASE=(\d\S+)`).FindSubmatch(memory)
	if release == nil {
		t.Fatal("the core's note does not name the kernel")
	}
	core, vmlinux := filepath.Join(p.dir, "core"), debugKernel(t, string(release[1]))
	if err := os.WriteFile(core, memory, 0o600); err != nil {
		t.Fatal(err)
	}

	script := filepath.Join(p.dir, "look.py")
	if err := os.WriteFile(script, []byte(drgnScript), 0o600); err != nil {
		t.Fatal(err)
	}
	wantAll(t, tool(t, "", "drgn", "-q", "-c", core, "-s", vmlinux, script),
		`last record: ---\[ end Kernel panic - not syncing: sysrq triggered crash \]---`, `running: sh\n`,
		`tasks: provium-agent kthreadd .* sh\n`, `the CPU: (?s:.* panic .* sysrq_handle_crash .* vfs_write )`,
		`asleep: (?s:.* __schedule .* kthreadd )`,
		`first: #0 +context_switch `)
	wantAll(t, tool(t, "sys\nbt\nlog\nquit\n", "crash", "-s", "--no_scroll", vmlinux, core),
		`PANIC: "Kernel panic - not syncing: sysrq triggered crash"`, `COMMAND: "sh"`,
		`#\d+ \[\w+\] sysrq_handle_crash at`, `\] sysrq: Trigger a crash\n`,
		`RELEASE: `+regexp.QuoteMeta(string(release[1])))
}

// debugKernel returns the vmlinux of a kernel of Debian. It stays in dist/, alone of its kind.
func debugKernel(t *testing.T, release string) string {
	t.Helper()
	if path := os.Getenv("PROVIUM_VMLINUX"); path != "" {
		return path
	}
	kept, err := filepath.Abs("../../dist/debug-kernel")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(kept, "vmlinux-"+release)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	tool(t, "", "sh", "-ec", `
rm -rf "$1" "$1.tmp"
mkdir -p "$1.tmp"
cd "$1.tmp"
apt-get download -q "linux-image-$2-dbg"
dpkg-deb --fsys-tarfile linux-image-*-dbg_*.deb | tar -x --strip-components=5 "./usr/lib/debug/boot/vmlinux-$2"
rm -- *.deb
mv "$1.tmp" "$1"`, "sh", kept, release)
	return path
}

// tool runs a program of the host and returns what it prints.
func tool(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func wantAll(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("no %s in\n%s", p, text)
		}
	}
}

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// crashFile makes the kernel of a recorded guest panic, since a value was written before.
const crashFile = `test("panics", function(t)
  local vm = provium:vm("n1", "host"):boot()
  vm:run("mkdir /cg; mount -t cgroup2 none /cg; echo +memory >/cg/cgroup.subtree_control; mkdir /cg/x")
  vm:run("echo 4M >/cg/x/memory.max; echo 1 >/proc/sys/vm/panic_on_oom")
  t:mark("quiet")
  vm:run("echo 2 >/proc/sys/vm/panic_on_oom")
  vm:run("echo $$ >/cg/x/cgroup.procs; tail /dev/zero")
end)
`

// TestDebugGoesBackFromAPanic records a panic, runs it again, and has gdb go back to the write that has caused it.
func TestDebugGoesBackFromAPanic(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("gdb is not installed: `provium debug` is NOT tested (`make setup` installs it)")
	}
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", crashFile)
	p.run("tests/a.test.lua", "--record").expect(1, "compulsory panic_on_oom")
	folders, err := filepath.Glob(filepath.Join(p.dir, "artifacts", "*", "guest-n1.json"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	dir := filepath.Dir(folders[0])
	p.run("debug", dir, "--list").expect(0, "mark  quiet  tests/a.test.lua:5", "panic  the kernel's panic")
	p.run("debug", dir, "--replay", "--at", "quiet").expect(0, "it stands at instruction")
	p.run("debug", dir, "--at", "nowhere").expect(2, "has no moment `nowhere`; it has:")
	p.write("script", `bt 2
watch *(int*)&sysctl_panic_on_oom
reverse-continue
bt 2
reverse-stepi
printf "before the write: %d\n", *(int*)&sysctl_panic_on_oom
`)
	r := p.run("debug", dir, "--", "-batch", "-x", filepath.Join(p.dir, "script"))
	r.expect(0)
	wanted := `(?s)Breakpoint 1, .* in panic \(\).*out_of_memory.*in do_proc_dointvec\w* \(\).*before the write: 1\n`
	if !regexp.MustCompile(wanted).MatchString(r.stdout.String()) {
		t.Error(r.report())
	}
	if newer, err := filepath.Abs("../../dist/qemu-trixie/qemu-system-x86_64"); err == nil {
		if _, err := os.Stat(newer); err == nil && version(t, newer) != version(t, "qemu-system-x86_64") {
			p.run("debug", dir, "--replay", "--qemu", newer).expect(2, "only the same can run it again")
		}
	}
	cutLog(t, dir)
	p.run("debug", dir, "--replay").expect(2, "the log ends before the end of the recording")
	// One byte that is another.
	log := filepath.Join(dir, "guest-n1.log.zst")
	text, err := os.ReadFile(log)
	if err == nil {
		text[len(text)/2] ^= 1
		err = os.WriteFile(log, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.run("debug", dir).expect(2, "guest-n1.log.zst is damaged")
}

// cutLog has a log end in its middle, and the description of the recording agree.
func cutLog(t *testing.T, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	about, log := filepath.Join(dir, "guest-n1.json"), filepath.Join(dir, "guest-n1.log.zst")
	text, err := os.ReadFile(about)
	check(err)
	m := map[string]json.RawMessage{}
	check(json.Unmarshal(text, &m))
	packed, err := os.ReadFile(log)
	check(err)
	unpack, err := zstd.NewReader(nil)
	check(err)
	defer unpack.Close()
	whole, err := unpack.DecodeAll(packed, nil)
	check(err)
	half := whole[:len(whole)/2]
	sum := sha256.Sum256(half)
	m["log_bytes"], m["log_digest"] = fmt.Append(nil, len(half)), fmt.Appendf(nil, "%q", hex.EncodeToString(sum[:]))
	pack, err := zstd.NewWriter(nil)
	check(err)
	check(os.WriteFile(log, pack.EncodeAll(half, nil), 0o600))
	text, err = json.Marshal(m)
	check(err)
	check(os.WriteFile(about, text, 0o600))
}

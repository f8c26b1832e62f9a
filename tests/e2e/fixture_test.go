package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const fixtureProject = "[provium]\nroots = [\"tests\"]\ncache_dir = \"cache\"\n\n" +
	"[profiles.host]\nboot_compressed = false\n"

// slowFixture says when it is half way, and goes on when the file go is there.
const slowFixture = `
local vm = provium:vm("box", "host"):boot()
vm:write_file("/tmp/made", "made")
io.stderr:write("half way\n")
wait_until(function()
  local f = io.popen("test -e go && echo yes")
  local text = f:read("a")
  f:close()
  return text ~= ""
end, {timeout = 240})
return vm:snapshot()
`

const usesSlow = `
local vm = provium:vm_fixture("slow")
test("restored", function(t) t:assert_eq(vm:read_file("/tmp/made"), "made") end)
`

func (p *project) entries() (names []string) {
	p.t.Helper()
	all, err := filepath.Glob(filepath.Join(p.dir, "cache", "*.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// Two runs want one fixture: one builds it, the other waits, and both restore.
func TestFixtureIsBuiltOnce(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/slow.fixture.lua", slowFixture)
	p.write("tests/a.test.lua", usesSlow)
	// Its limits would be over if waiting counted: those of a third run are, which have
	// begun later.
	const limit = "15s"
	p.write("tests/b.test.lua", "test(\"x\", {timeout = \""+limit+
		"\"}, function()\n  provium:vm_fixture(\"slow\"):read_file(\"/tmp/made\")\nend)\n")
	p.write("tests/c.test.lua", "test(\"x\", {timeout = \""+limit+
		"\"}, function()\n  wait_until(function() return false end, {timeout = 240})\nend)\n")
	first := p.start("tests/a.test.lua")
	first.awaitNote("half way")
	second := p.start("--save-events", "events", "--timeout", limit, "tests/b.test.lua")
	waitForEvent(t, second, filepath.Join(p.dir, "events"), "fixture_build_waiting")
	p.run("tests/c.test.lua").expect(1, "timed out after "+limit)
	p.write("go", "")
	first.wait().expect(0, "1 passed, 0 failed")
	second.wait().expect(0, "1 passed, 0 failed")
	events, err := os.ReadFile(filepath.Join(p.dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(events)
	if !strings.Contains(text, "tests/a.test.lua") || !strings.Contains(text, "fixture_cache_hit") ||
		strings.Contains(text, "fixture_build_started") {
		t.Errorf("the second run's events:\n%q", text)
	}
	if n := len(p.entries()); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// waitForEvent waits until the saved stream of a run has an event of that kind.
func waitForEvent(t *testing.T, r *run, path, kind string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `until grep -qas "$1" "$2"; do sleep 0.1; done`, "sh", kind, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-done
		t.Fatalf("no event %s\n%s", kind, r.report())
	}
}

// A builder that is killed leaves nothing that could be taken for a fixture, and
// nobody waits for it.
func TestKilledBuilder(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/slow.fixture.lua", slowFixture)
	p.write("tests/a.test.lua", usesSlow)
	first := p.start()
	first.awaitNote("half way")
	second := p.start("--save-events", "events")
	waitForEvent(t, second, filepath.Join(p.dir, "events"), "fixture_build_waiting")
	first.signal(syscall.SIGKILL)
	first.wait()
	second.awaitNote("half way")
	if n := len(p.entries()); n != 0 {
		t.Errorf("%d entries of a build that was killed", n)
	}
	p.write("go", "")
	second.wait().expect(0, "1 passed, 0 failed")
	if n := len(p.entries()); n != 1 {
		t.Errorf("%d entries", n)
	}
	p.run().expect(0, "1 passed, 0 failed") // and removes what the killed run has left
}

// What is damaged on disk is reported, and built again.
func TestDamagedFixture(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/slow.fixture.lua", slowFixture)
	p.write("tests/a.test.lua", usesSlow)
	p.write("go", "")
	p.run().expect(0, "1 passed")
	for _, damage := range []func(path string) error{
		func(path string) error { return os.Truncate(path, 1<<20) },
		func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("damaged"), 30<<20)
			return err
		},
		func(path string) error { return os.WriteFile(path, []byte("foreign"), 0o600) },
	} {
		snaps, err := filepath.Glob(filepath.Join(p.dir, "cache", "*.snap"))
		if err != nil || len(snaps) != 1 {
			t.Fatal(snaps, err)
		}
		if err := damage(snaps[0]); err != nil {
			t.Fatal(err)
		}
		p.run().expectRemoved("slow")
		p.run().expect(0, "1 passed")
	}
}

// expectRemoved checks that a test passed, and that the damaged entry of a fixture was reported: by the file that uses
// it, or by the check of an entry by chance that each run does beside it.
func (r *run) expectRemoved(fixture string) {
	r.p.t.Helper()
	const byChance = "provium: a cached file was damaged, and is removed: "
	if strings.Contains(r.stderr.String(), byChance) {
		r.expect(0, "1 passed")
		return
	}
	r.expect(0, "1 passed", "fixture `"+fixture+"`: its cache entry cannot be used and is removed")
}

const labFixture = `
local vm = provium:vm("box", "host"):boot()
vm:write_file("/tmp/made", "made")
provium:bridge("net"):add_latency(7)
provium:lab("sub"):vm("low", "host"):boot():write_file("/tmp/made", "made low")
return provium:snapshot("kept") -- the path, where it stays
`

const usesLab = `
local lab = provium:lab_fixture("lab")
test("restored", function(t)
  t:assert_eq(lab.box:read_file("/tmp/made"), "made")
  t:assert_eq(lab.sub.low:read_file("/tmp/made"), "made low")
  t:assert_eq(lab.net:latency_ms(), 7)
end)
`

// A fixture that is built on a lab, and what is damaged of a lab.
func TestLabFixture(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/lab.fixture.lua", labFixture)
	p.write("tests/low.fixture.lua", "return provium:lab_fixture(\"lab\").sub.low:snapshot()\n")
	p.write("tests/a.test.lua", usesLab)
	p.write("tests/b.test.lua",
		"test(\"x\", function(t) t:assert_eq(provium:vm_fixture(\"low\"):read_file(\"/tmp/made\"), "+
			"\"made low\") end)\n")
	p.run().expect(0, "2 passed")
	p.run("fixture", "list").expect(0, "lab  ", "vm   ", "2 entries, ")
	if _, err := os.Stat(filepath.Join(p.dir, "kept", "lab.json")); err != nil {
		t.Error(err)
	}
	dirs, err := filepath.Glob(filepath.Join(p.dir, "cache", "*.lab"))
	if err != nil || len(dirs) != 1 {
		t.Fatal(dirs, err)
	}
	for name, damage := range map[string]func(path string) error{
		"lab.json":     func(path string) error { return replace(path, "\"latency_ms\": 7", "\"latency_ms\": 8") },
		"sub/low.snap": func(path string) error { return os.Truncate(path, 1<<20) },
		"box.snap":     os.Remove,
	} {
		if err := damage(filepath.Join(dirs[0], name)); err != nil {
			t.Fatal(err)
		}
		p.run("tests/a.test.lua").expectRemoved("lab")
	}
	p.write("tests/lab.fixture.lua", labFixture+"\n")
	p.run("fixture", "stale").expect(0, "lab.fixture.lua` changed", "2 stale fixture(s)")
	p.run("fixture", "rebuild", "lab").expect(0, "built: lab")
	p.run("fixture", "stale").expect(0, "low: ", "1 stale fixture(s)")
}

func replace(path, what, by string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed := strings.Replace(string(text), what, by, 1)
	if changed == string(text) {
		return fmt.Errorf("`%s` does not hold %q", path, what)
	}
	return os.WriteFile(path, []byte(changed), 0o600)
}

// A build depends on the images of disks that it cannot have changed, and reads
// files below the project wherever the command is given.
func TestFixtureDependencies(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("image", strings.Repeat("disk", 1<<18))
	p.write("text", "text")
	p.write("tests/base.fixture.lua", `
local vm = provium:vm("box", "host", {disks = {{template = "image"}, {path = "image", readonly = true}, {scratch = "1M"}}}):boot()
local f <close> = assert(io.open("text"))
vm:write_file("/text", f:read("a"))
assert(vm:run("head -c 4 /dev/vda").stdout == "disk")
return vm:snapshot()
`)
	p.cwd = "tests"
	p.run("fixture", "build", "base").expect(0, "built: base")
	p.cwd = ""
	p.run("fixture", "stale").expect(0, "0 stale fixture(s)")
	p.write("image", strings.Repeat("disc", 1<<18))
	p.run("fixture", "stale").expect(0, "/image` changed", "1 stale fixture(s)")
	p.write("image", strings.Repeat("disk", 1<<18))
	p.write("text", "other")
	p.run("fixture", "stale").expect(0, "/text` changed", "1 stale fixture(s)")
}

func TestFixtureCommands(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/tool.txt", "1\n")
	p.write("tests/base.fixture.lua",
		"local vm = provium:vm(\"box\", \"host\"):boot()\nvm:push_file(\"tool.txt\", \"/tool\")\n"+
			"return vm:snapshot()\n")
	p.write("tests/a.test.lua",
		"test(\"x\", function(t) t:assert_eq(provium:vm_fixture(\"base\"):read_file(\"/tool\"), \"1\\n\") end)\n")
	p.run("fixture", "list").expect(0, "0 entries, 0.00MiB")
	p.run("fixture", "stale").expect(0, "base: never built", "1 stale fixture(s)")
	p.run("fixture", "build", "base").expect(0, "built: base")
	p.run("fixture", "build", "tests/base.fixture.lua").expect(0, "already built: base")
	p.run("fixture", "stale").expect(0, "0 stale fixture(s)")
	p.run("fixture", "list").expect(0, "vm ", "base", "1 entries, ")
	p.write("tests/tool.txt", "2\n")
	p.run("fixture", "stale").expect(0, "tests/tool.txt` changed", "1 stale fixture(s)")
	p.write("tests/tool.txt", "1\n")
	p.run("fixture", "stale").expect(0, "0 stale fixture(s)")
	p.run("prepare").expect(0, "booting profile `host`", "fixture `base` is already built")
	p.run("fixture", "rebuild", "base").expect(0, "built: base")
	p.run().expect(0, "1 passed")
	p.run("fixture", "clean").expect(0, "removed 1 entries")
	p.run("fixture", "list").expect(0, "0 entries")
	p.run("fixture", "build", "absent").expect(2, "unknown fixture `absent` (known: base)")
	p.run("fixture", "build").expect(2, "expected the name of one fixture")
	p.run("list", "--fixtures").expect(0, "tests/base.fixture.lua")
}

// What cannot be prepared does not keep the rest from it.
func TestPrepareGoesOn(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject+"[profiles.broken]\nkernel = \"missing\"\ncmdline = \"quiet\"\n")
	p.write("tests/bad.fixture.lua", "error(\"the set-up went wrong\")\n")
	p.write("tests/good.fixture.lua", "return provium:vm(\"box\", \"host\"):boot():snapshot()\n")
	p.write("tests/a.test.lua", "test(\"y\", function() provium:vm_fixture(\"absent\") provium:vm_fixture(\"bad\") "+
		"provium:vm_fixture(\"good\") end)\n")
	p.run("prepare").expect(2, "provium: profile `broken` does not boot: ",
		"unknown fixture `absent` (known: bad, good)",
		"fixture `bad`: build failed: ", "the set-up went wrong", "built fixture `good`")
	p.write("tests/a.test.lua", "test(\"y\", function() provium:vm_fixture(\"good\") end)\n")
	p.run("prepare").expect(0, "fixture `good` is already built")
}

// A directory that cannot be used is an error of the build.
func TestUnusableFixtureCache(t *testing.T) {
	t.Parallel()
	p := newProject(t, strings.Replace(fixtureProject, "\"cache\"", "\"provium.toml/cache\"", 1))
	p.write("tests/base.fixture.lua", "return provium:vm(\"box\", \"host\"):boot():snapshot()\n")
	p.write("tests/a.test.lua", "test(\"x\", function(t) provium:vm_fixture(\"base\") end)\n")
	p.run().expect(1, "fixture cache: ", "not a directory")
}

// A full disk fails the build and leaves nothing that takes room.
func TestFixtureDiskFull(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	cache := filepath.Join(p.dir, "cache")
	p.small(cache, "4m")
	p.write("tests/vm.fixture.lua", "return provium:vm(\"box\", \"host\"):boot():snapshot()\n")
	p.write("tests/lab.fixture.lua", "provium:vm(\"box\", \"host\"):boot()\nreturn provium:snapshot()\n")
	p.write("tests/a.test.lua", "test(\"vm\", function() provium:vm_fixture(\"vm\") end)\ntest(\"lab\", function() "+
		"provium:lab_fixture(\"lab\") end)\n")
	p.run().expect(1, "0 passed, 2 failed", "fixture `vm`: build failed", "fixture `lab`: build failed",
		"no space left on device")
	left, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if !strings.HasSuffix(e.Name(), ".lock") {
			t.Errorf("left: %s", e.Name())
		}
	}
	if err := unix.Mount("tmpfs", cache, "tmpfs", unix.MS_REMOUNT, "size=1g"); err != nil {
		t.Fatal(err)
	}
	p.run().expect(0, "2 passed")
}

// A fixture that is built on another one holds what it changed, and is made anew
// with that one.
func TestFixtureOverFixture(t *testing.T) {
	t.Parallel()
	p := newProject(t, fixtureProject)
	p.write("tests/base.fixture.lua",
		"local vm = provium:vm(\"box\", \"host\"):boot()\nvm:write_file(\"/one\", \"1\")\nreturn vm:snapshot()\n")
	p.write("tests/derived.fixture.lua",
		"local vm = provium:vm_fixture(\"base\")\nvm:write_file(\"/two\", \"2\")\nreturn vm:snapshot()\n")
	p.write("tests/top.fixture.lua",
		"local vm = provium:vm_fixture(\"derived\")\nvm:write_file(\"/three\", \"3\")\nreturn vm:snapshot()\n")
	p.write("tests/a.test.lua", "test(\"x\", function(t) local vm = provium:vm_fixture(\"top\")\n"+
		"t:assert_eq(vm:read_file(\"/one\") .. vm:read_file(\"/two\") .. vm:read_file(\"/three\"), \"123\") end)\n")
	p.run().expect(0, "1 passed")
	p.run().expect(0, "1 passed")
	complete := 0
	for _, path := range p.entries() {
		size, err := exec.Command("du", "-k", strings.TrimSuffix(path, ".json")+".snap").Output()
		if err != nil {
			t.Fatal(err)
		}
		kib, err := strconv.Atoi(strings.Fields(string(size))[0])
		if err != nil {
			t.Fatal(err)
		}
		if kib > 60<<10 {
			complete++
		}
	}
	if n := len(p.entries()); n != 3 || complete != 1 {
		t.Errorf("%d entries, %d of them complete", n, complete)
	}
	p.run("fixture", "rebuild", "base").expect(0, "built: base")
	p.run().expect(0, "1 passed")
}

// TestTwoRunsOnOneCache has two runs fill a cache at once: both pass, the entry is there once and whole, and
// neither run has anything to say of it. Kernels are those of the user's cache.
func TestTwoRunsOnOneCache(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	cache := filepath.Join(p.dir, "caches", "provium")
	home, err := os.UserCacheDir()
	images := filepath.Join(home, "provium", "images")
	for _, dir := range []string{images, cache} {
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
	}
	if err == nil {
		err = os.Symlink(images, filepath.Join(cache, "images"))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "XDG_CACHE_HOME="+filepath.Dir(cache))
	for _, name := range []string{"a", "b"} {
		p.write("tests/"+name+".test.lua", `
local vm = provium:vm("v", "host", {memory = "192M"}):boot()
test("boots", function(t) t:assert_eq(vm:run("cat /proc/sys/kernel/ostype").stdout, "Linux\n") end)`)
	}
	first, second := p.start("tests/a.test.lua"), p.start("tests/b.test.lua")
	for _, r := range []*run{first, second} {
		r.wait().expect(0, "1 passed, 0 failed")
		if said := r.stderr.String(); strings.Contains(said, "cache") || strings.Contains(said, "damaged") {
			t.Errorf("a run has something to say of the cache\n%s", r.report())
		}
	}
	entries, err := os.ReadDir(filepath.Join(cache, "boots"))
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Ext(e.Name()))
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"", ".ok", ".snap"}) { // the first are the turns
		t.Errorf("%v, %v", entries, err)
	}
	p.run("boots", "list").expect(0, "1 entries", "192")
}

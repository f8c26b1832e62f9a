package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const fixtureProject = "[provium]\nroots = [\"tests\"]\ncache_dir = \"cache\"\n\n[profiles.host]\n"

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
	p := newProject(t, fixtureProject)
	p.write("tests/slow.fixture.lua", slowFixture)
	p.write("tests/a.test.lua", usesSlow)
	p.write("tests/b.test.lua", usesSlow)
	first := p.start("tests/a.test.lua")
	first.awaitNote("half way")
	second := p.start("--save-events", "events", "tests/b.test.lua")
	waitForEvent(t, second, filepath.Join(p.dir, "events"), "fixture_build_waiting")
	p.write("go", "")
	first.wait().expect(0, "1 passed, 0 failed")
	second.wait().expect(0, "1 passed, 0 failed")
	events, err := os.ReadFile(filepath.Join(p.dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(events)
	if !strings.Contains(text, "tests/a.test.lua") || !strings.Contains(text, "fixture_cache_hit") || strings.Contains(text, "fixture_build_started") {
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
	p := newProject(t, fixtureProject)
	p.write("tests/slow.fixture.lua", slowFixture)
	p.write("tests/a.test.lua", usesSlow)
	first := p.start()
	first.awaitNote("half way")
	first.signal(syscall.SIGKILL)
	first.wait()
	p.expectNoProcess()
	if n := len(p.entries()); n != 0 {
		t.Errorf("%d entries of a build that was killed", n)
	}
	p.write("go", "")
	p.run().expect(0, "1 passed, 0 failed")
	if n := len(p.entries()); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// What is damaged on disk is told of, and built again.
func TestDamagedFixture(t *testing.T) {
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
		p.run().expect(0, "1 passed", "fixture `slow`: its cache entry cannot be used and is removed")
		p.run().expect(0, "1 passed")
	}
}

func TestFixtureCommands(t *testing.T) {
	p := newProject(t, fixtureProject)
	p.write("tests/tool.txt", "1\n")
	p.write("tests/base.fixture.lua", "local vm = provium:vm(\"box\", \"host\"):boot()\nvm:push_file(\"tool.txt\", \"/tool\")\nreturn vm:snapshot()\n")
	p.write("tests/a.test.lua", "test(\"x\", function(t) t:assert_eq(provium:vm_fixture(\"base\"):read_file(\"/tool\"), \"1\\n\") end)\n")
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

// A directory that cannot be used is told of by the build.
func TestUnusableFixtureCache(t *testing.T) {
	p := newProject(t, strings.Replace(fixtureProject, "\"cache\"", "\"provium.toml/cache\"", 1))
	p.write("tests/base.fixture.lua", "return provium:vm(\"box\", \"host\"):boot():snapshot()\n")
	p.write("tests/a.test.lua", "test(\"x\", function(t) provium:vm_fixture(\"base\") end)\n")
	p.run().expect(1, "fixture cache: ", "not a directory")
}

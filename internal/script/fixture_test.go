package script

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"provium/internal/admission"
	"provium/internal/event"
	"provium/internal/fixture"
	"provium/internal/lua"
	"provium/internal/script/fixtures"
)

// fixtureEvents are those of fixtures, in order.
func (o outcome) fixtureEvents() (list []string) {
	for _, e := range o.events {
		switch e := e.(type) {
		case event.FixtureBuildStarted:
			list = append(list, "started "+e.Path)
		case event.FixtureBuildDone:
			list = append(list, fmt.Sprintf("done %s %d", e.Path, e.SnapshotBytes))
		case event.FixtureBuildWaiting:
			list = append(list, "waiting "+e.Path)
		case event.FixtureCacheHit:
			list = append(list, "hit "+e.Path)
		}
	}
	return list
}

func runFixtures(t *testing.T, files map[string]string) outcome {
	t.Helper()
	dir := t.TempDir()
	return runFile(t, context.Background(), write(t, files), func(c *Config) {
		c.Fixtures = &fixture.Cache{Dir: filepath.Join(dir, "cache"), Program: "test"}
		c.Host.File = testPath
	})
}

// Builds that fail end as well, from the inside out, and are tried again.
func TestEventsOfFailedBuilds(t *testing.T) {
	o := runFixtures(t, map[string]string{
		testPath: `test("it", function(t)
			for _ = 1, 2 do
				local err = t:assert_raises(function() provium:vm_fixture("outer") end)
				t:assert_contains(err, "outer\x60: build failed: ")
				t:assert_contains(err, "inner\x60: build failed: ")
				t:assert_contains(err, "no luck")
			end
		end)`,
		"tests/outer.fixture.lua": "return provium:vm_fixture('inner'):snapshot()",
		"tests/inner.fixture.lua": "assert(test == nil) error('no luck')",
	})
	o.passed(t, "it")
	once := []string{"started outer", "started inner", "done inner 0", "done outer 0"}
	if got := o.fixtureEvents(); !slices.Equal(got, append(once, once...)) {
		t.Errorf("%q", got)
	}
}

// Two tasks want what one of them builds; as that fails, the other one builds.
func TestWaitersBuildAfterAFailure(t *testing.T) {
	o := runFixtures(t, map[string]string{
		testPath: `test("it", function(t)
			local function try()
				t:assert_contains(t:assert_raises(function() provium:lab_fixture("x") end), "no luck")
			end
			parallel({try, try})
		end)`,
		// Long enough for the other task to look at the lock.
		"tests/x.fixture.lua": "local n = 0 wait_until(function() n = n + 1 return n > 5 end, {interval = '100ms'}) " +
			"error('no luck')",
	})
	o.passed(t, "it")
	got := o.fixtureEvents()
	if at := slices.Index(got, "waiting x"); at < 0 ||
		!slices.Equal(slices.Delete(slices.Clone(got), at, at+1),
			[]string{"started x", "done x 0", "started x", "done x 0"}) {
		t.Errorf("%q", got)
	}
}

// A fixture that never ends is stopped by the limit of the test that wants it.
func TestEndlessFixture(t *testing.T) {
	o := runFixtures(t, map[string]string{
		testPath: `test("endless", {timeout = "300ms"}, function() provium:vm_fixture("x") end)
			test("after", function() end)`,
		"tests/x.fixture.lua": "while true do pcall(error, 'x') end",
	})
	e := o.failed(t, "endless", "timed out after 0.3s", `lab:vm_fixture("x")`)
	if strings.Contains(e.Reason, "cache entry") {
		t.Error(e.Reason)
	}
	o.passed(t, "after")
	if got := o.fixtureEvents(); !slices.Equal(got, []string{"started x", "done x 0"}) {
		t.Errorf("%q", got)
	}
}

// panicOn is a standard output that panics when a line is printed.
func panicOn(line string) writerFunc {
	return func(p []byte) {
		if strings.TrimSpace(string(p)) == line {
			panic("broken " + line)
		}
	}
}

// A failure of Provium itself in a build poisons the file, whatever the test makes of it.
func TestPanicInABuildPoisons(t *testing.T) {
	for name, source := range map[string]string{
		"raised":    `provium:vm_fixture("outer")`,
		"swallowed": `pcall(provium.vm_fixture, provium, "outer")`,
		"wanted":    `t:assert_raises(function() provium:vm_fixture("outer") end)`,
	} {
		dir := t.TempDir()
		files := map[string]string{
			testPath:                  `test("it", function(t) ` + source + ` end) test("after", function() end)`,
			"tests/outer.fixture.lua": "pcall(provium.vm_fixture, provium, 'inner') error('outer')",
			"tests/inner.fixture.lua": "print('boom')",
		}
		o := runFile(t, context.Background(), write(t, files), func(c *Config) {
			c.Fixtures = &fixture.Cache{Dir: filepath.Join(dir, "cache"), Program: "test"}
			c.Stdout = panicOn("boom")
		})
		e := o.failed(t, "it", "internal error: ", "panic in print: broken boom", "goroutine ")
		if n := strings.Count(e.Reason, "\ngoroutine "); n != 1 {
			t.Errorf("%s: %d stacks in\n%s", name, n, e.Reason)
		}
		o.failed(t, "after", poisonedReason)
		if !o.Poisoned {
			t.Errorf("%s: not poisoned", name)
		}
	}
}

func TestPanicInTheChunkPoisons(t *testing.T) {
	for name, source := range map[string]string{
		"own":       `print("boom")`,
		"build":     `provium:vm_fixture("x")`,
		"swallowed": `pcall(provium.vm_fixture, provium, "x")`,
	} {
		files := map[string]string{testPath: source + ` test("it", function() end)`,
			"tests/x.fixture.lua": "print('boom')"}
		dir := t.TempDir()
		o := runFile(t, context.Background(), write(t, files), func(c *Config) {
			c.Fixtures = &fixture.Cache{Dir: filepath.Join(dir, "cache"), Program: "test"}
			c.Stdout = panicOn("boom")
		})
		if !o.Poisoned || !strings.Contains(o.ChunkError, "broken boom") ||
			!strings.Contains(o.ChunkError, "goroutine ") {
			t.Errorf("%s: poisoned %v, chunk error %s", name, o.Poisoned, o.ChunkError)
		}
		if len(o.events) > 3 || o.registered != nil {
			t.Errorf("%s: events %v, registered %v", name, o.events, o.registered)
		}
	}
}

// testEnv is an Env of a project with fixtures, on a host of fake machines.
func testEnv(t *testing.T, project string) Env {
	return Env{
		Project: project, Roots: []string{filepath.Join(project, "tests")},
		Host:     testHost(t),
		Fixtures: &fixture.Cache{Dir: filepath.Join(t.TempDir(), "cache"), Program: "test"},
	}
}

func TestBuildFixtureReportsWhyItFails(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"raises":  {"\nerror('no luck')", "fixture `x`: build failed: tests/x.fixture.lua:2: no luck"},
		"syntax":  {"x = =", "fixture `x`: build failed: tests/x.fixture.lua:1:"},
		"nothing": {"return", "it returned nothing: it must end in `return vm:snapshot()`"},
		"other":   {"return 7", "it returned a number: it must end in"},
		"text":    {"return '/tmp'", "where no lab:snapshot(dir) of it went"},
		"cycle":   {"provium:lab_fixture('x')", "fixtures need each other: `x` -> `x`"},
		"panic":   {"print('boom')", "\ngoroutine "},
	} {
		project := write(t, map[string]string{"tests/x.fixture.lua": c.source})
		env := testEnv(t, project)
		env.Stdout = panicOn("boom")
		source, _, err := fixtures.Find(env.Roots, "x")
		if err != nil {
			t.Fatal(err)
		}
		built, err := BuildFixture(context.Background(), env, source)
		if built || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: built %v, error %v, want %q", name, built, err, c.want)
		}
		var crash *lua.PanicError
		if errors.As(err, &crash) != (name == "panic") {
			t.Errorf("%s: %T", name, err)
		}
	}
}

// Builds and runs leave the hooks of their host as they were.
func TestHostIsLeftAsItWas(t *testing.T) {
	project := write(t, map[string]string{
		testPath: `provium:claim({cpus = 1})
			test("it", function(t) pcall(provium.vm_fixture, provium, "x") end)`,
		"tests/x.fixture.lua": "error('no luck')",
	})
	env := testEnv(t, project)
	pool := &gatePool{make(chan struct{}, 9), make(chan struct{}, 9)}
	pool.granted <- struct{}{}
	env.Host.Pool = pool
	source, _, err := fixtures.Find(env.Roots, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := BuildFixture(context.Background(), env, source); err == nil {
		t.Error("it was built")
	}
	if r := Run(context.Background(),
		Config{Env: env, Path: testPath, AbsPath: filepath.Join(project, testPath)}); r.Passed != 1 {
		t.Errorf("%+v", r)
	}
	if env.Host.Pool != admission.Pool(pool) {
		t.Errorf("the pool is a %T", env.Host.Pool)
	}
}

// A lab given to a fixture function counts for that call only.
func TestFixtureFunctionKeepsItsLab(t *testing.T) {
	o := runFixtures(t, map[string]string{testPath: `
		local other
		test("makes it", function() other = provium:lab("other") end)
		test("uses it", function(t)
			local f = provium.vm_fixture
			t:assert_contains(t:assert_raises(function() f(other, "a") end),
				"lab \x60other\x60 belongs to test \x60makes it\x60, which has ended")
			t:assert_contains(t:assert_raises(function() f("b") end), "fixture \x60b\x60 not found")
			t:assert_contains(t:assert_raises(function() f(provium, "c") end), "fixture \x60c\x60 not found")
		end)`})
	o.passed(t, "makes it")
	o.passed(t, "uses it")
}

func TestFixtureNames(t *testing.T) {
	o := runFixtures(t, map[string]string{testPath: `test("it", function(t)
		local function refused(name, want)
			t:assert_contains(t:assert_raises(function() provium:vm_fixture(name) end), want)
		end
		refused(nil, "lab:vm_fixture: argument 1 (name) must be a string, got nil")
		refused("", "must not be empty")
		refused("/x", "is absolute")
		refused("../x", "leaves its root")
		refused("x.fixture.lua", "leave .fixture.lua out of the name")
	end)`})
	o.passed(t, "it")
	without := run(t, `test("it", function(t) provium:vm_fixture("x") end)`)
	without.failed(t, "it", "there are no fixtures here")
}

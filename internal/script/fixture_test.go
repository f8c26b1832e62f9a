package script

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"provium/internal/event"
	"provium/internal/fixture"
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
			local function try() t:assert_contains(t:assert_raises(function() provium:lab_fixture("x") end), "no luck") end
			parallel({try, try})
		end)`,
		// Long enough for the other task to look at the lock.
		"tests/x.fixture.lua": "local n = 0 wait_until(function() n = n + 1 return n > 5 end, {interval = '100ms'}) error('no luck')",
	})
	o.passed(t, "it")
	got := o.fixtureEvents()
	if at := slices.Index(got, "waiting x"); at < 0 || !slices.Equal(slices.Delete(slices.Clone(got), at, at+1), []string{"started x", "done x 0", "started x", "done x 0"}) {
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

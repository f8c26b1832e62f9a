package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckCommand(t *testing.T) {
	p := newCLI(t, map[string]string{
		"provium.toml":     autoConfig,
		"tests/a.test.lua": "local vm = provium:vm('a', 'hots')\nvm:rum()\n",
		"tests/" + strings.Repeat("long-", 20) + ".test.lua": "local = 1\n",
		"tests/good.test.lua":                                "provium:vm_fixture('base')\nrequire('lib'):anything()\n",
		"tests/base.fixture.lua":                             "return provium:vm('a', 'host'):boot()",
		"tests/lib.lua":                                      "return {}",
		"tests/other.lua":                                    "nosuch()",
	})
	code, stdout, stderr := p.run("check")
	want := `tests/a.test.lua:1: unknown profile ` + "`hots` (did you mean `host`?)" + `
tests/a.test.lua:2: unknown method ` + "`rum` of vm (did you mean `run`?)" + `
tests/` + strings.Repeat("long-", 20) + `.test.lua:1: <name> expected near '='
`
	if code != 1 || stdout != want || stderr != "provium: 3 found in 5 files\n" {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := p.run("check", "tests/good.test.lua"); code != 0 || stdout != "" || stderr != "" {
		t.Errorf("good: %d, %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := p.run("check", "tests/other.lua"); code != 1 ||
		!strings.Contains(stdout, "tests/other.lua:1: unknown variable `nosuch`") {
		t.Errorf("other: %d, %s", code, stdout)
	}
	for _, path := range []string{"nothing", "nothing.lua", "home"} {
		if err := os.MkdirAll(filepath.Join(p.dir, "home"), 0o755); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := p.run("check", path); code != 2 || stderr == "" {
			t.Errorf("%s: %d, %s", path, code, stderr)
		}
	}
	if len(p.started) > 0 {
		t.Error("something was run")
	}
}

// Nothing is found in the project's own tests and examples, but for the fixture that is wrong
// on purpose.
func TestCheckOfOurOwn(t *testing.T) {
	for dir, want := range map[string]string{
		"../..":          "tests/setups/bad/syntax.fixture.lua:1: unexpected symbol near 'return'\n",
		"../../examples": "",
	} {
		p := newCLI(t, nil)
		abs, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		p.dir = abs
		if _, stdout, stderr := p.run("check"); stdout != want {
			t.Errorf("%s:\n%s%s", dir, stdout, stderr)
		}
	}
}

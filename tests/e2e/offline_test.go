package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// offline makes a project whose package manager reaches nothing, and returns how often that
// was asked for package lists.
func offline(t *testing.T) (p *project, updates func() int) {
	t.Helper()
	for _, pattern := range []string{"/boot/vmlinuz*", "/lib/modules/*/vmlinuz"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Skip("this host has a kernel:", found[0])
		}
	}
	p = newProject(t, hostProfile)
	log := filepath.Join(p.dir, "asked")
	for _, name := range []string{"apt-cache", "apt-get", "dpkg-deb"} {
		path := p.write("fake/"+name, "#!/bin/sh\necho \"$@\" >>"+log+"\necho 'E: nothing is reached' >&2\nexit 100\n")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.env = append(p.env, "PATH="+filepath.Join(p.dir, "fake")+":"+os.Getenv("PATH"),
		"XDG_CACHE_HOME="+filepath.Join(p.dir, "cache"))
	return p, func() int {
		text, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(text), "update\n")
	}
}

// TestNoKernelEndsTheRun: without a kernel and without a network no file starts, and the
// network is tried once for all of them.
func TestNoKernelEndsTheRun(t *testing.T) {
	t.Parallel()
	p, updates := offline(t)
	for _, name := range []string{"a", "b", "c"} {
		p.write("tests/"+name+".test.lua", "test('boots', function() provium:vm('v', 'host'):boot() end)\n")
	}
	p.write("tests/f.fixture.lua", "return provium:vm('v', 'host'):boot():snapshot()\n")
	p.write("tests/fixture.test.lua", "test('restores', function() provium:vm_fixture('f') end)\n")
	p.write("tests/plain.test.lua", "test('boots nothing', function() end)\n")
	r := p.run("--save-events", "events", "--events-format", "jsonl")
	r.expect(2, "profile `host`: no kernel to boot", "E: nothing is reached", "Provide a kernel", "--kernel PATH")
	if n := updates(); n != 1 || r.stdout.String() != "" {
		t.Errorf("%d times asked for lists\n%s", n, r.report())
	}
	if text, err := os.ReadFile(filepath.Join(p.dir, "events")); err != nil || strings.Contains(string(text),
		"file_dispatched") {
		t.Errorf("%v: a file started\n%s", err, text)
	}
	p.run("tests/fixture.test.lua").expect(2, "no kernel to boot")
	p.run("prepare").expect(2, "no kernel to boot")
	p.run("tests/plain.test.lua").expect(0, "1 passed")
	p.run("--vmm", "local", "tests/a.test.lua").expect(0, "1 passed")
}

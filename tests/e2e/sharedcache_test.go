package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDamagedSharedCache runs beside a shared cache whose chunks have a bit that is another: they are refused, and
// the run passes without them.
func TestDamagedSharedCache(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/a.test.lua", `
test("boots", function(t) t:assert_eq(provium:vm("a", "host"):boot():run("echo x").stdout, "x\n") end)
`)
	shared := filepath.Join(p.dir, "shared")
	p.freshCache("one")
	p.run().expect(0, "1 passed")
	p.run("cache", "push", "oci:"+shared).expect(0, "pushed boot")
	p.freshCache("two")
	p.run("--cache", "oci:"+shared).expect(0, "1 passed")
	damaged := 0
	err := filepath.WalkDir(shared, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		blob, err := os.ReadFile(path)
		if err != nil || len(blob) < 16<<10 {
			return err
		}
		damaged++
		blob[len(blob)/2] ^= 1
		return os.WriteFile(path, blob, 0o600)
	})
	if err != nil || damaged == 0 {
		t.Fatal(damaged, err)
	}
	p.freshCache("three")
	p.run("--cache", "oci:"+shared).expect(0, "1 passed", "is damaged")
}

// freshCache has the following runs have caches of their own, with the kernels that this user has downloaded.
func (p *project) freshCache(name string) {
	p.t.Helper()
	cache := filepath.Join(p.dir, name)
	p.env = append(p.env, "XDG_CACHE_HOME="+cache)
	old, err := os.UserCacheDir()
	if err != nil {
		p.t.Fatal(err)
	}
	kernels, err := filepath.Glob(filepath.Join(old, "provium", "images", "kernels", "linux-image-*"))
	if err != nil || len(kernels) == 0 {
		return // the host has one, or they are downloaded
	}
	to := filepath.Join(cache, "provium", "images", "kernels")
	if err := os.MkdirAll(to, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if out, err := exec.Command("cp", append([]string{"-a", "-t", to}, kernels...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
}

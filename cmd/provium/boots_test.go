package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/snapshot"
)

// putBoot makes an entry of the boot cache.
func (c *cli) putBoot(key string, g snapshot.Guest, age time.Duration) {
	c.t.Helper()
	cache := &snapshot.Cache{Dir: filepath.Join(c.vars["HOME"], ".cache", "provium", "boots")}
	ram, err := os.CreateTemp(c.t.TempDir(), "ram")
	if err != nil {
		c.t.Fatal(err)
	}
	defer ram.Close()
	if err := ram.Truncate(1 << 20); err != nil {
		c.t.Fatal(err)
	}
	w, err := cache.Create(key, 1<<20)
	if err != nil {
		c.t.Fatal(err)
	}
	defer w.Abort()
	err = w.CopyRAM(ram)
	if err == nil {
		_, err = w.Commit(&snapshot.Manifest{Machine: snapshot.Machine{Memory: 1 << 20, CPUs: 2}, Guest: g, Key: key})
	}
	made := time.Now().Add(-age)
	if err := errors.Join(err, os.Chtimes(cache.Path(key), made, made)); err != nil {
		c.t.Fatal(err)
	}
}

func TestBoots(t *testing.T) {
	c := newCLI(t, nil)
	expect := func(code int, texts []string, args ...string) {
		t.Helper()
		got, stdout, stderr := c.run(args...)
		if got != code {
			t.Errorf("%v: %d, want %d; %s", args, got, code, stderr)
		}
		for _, text := range texts {
			if !strings.Contains(stdout+stderr, text) {
				t.Errorf("%v: no %q in\n%s%s", args, text, stdout, stderr)
			}
		}
	}
	expect(0, []string{"0 entries, 0.00MiB\n"}, "boots", "list")
	c.putBoot("a", snapshot.Guest{Profile: "web", Kernel: "6.1.0\x1b[2J"}, 26*time.Hour)
	c.putBoot("b", snapshot.Guest{Profile: "host"}, 3*time.Hour)
	c.putBoot("c", snapshot.Guest{Profile: "host"}, 0)
	boots := filepath.Join(c.vars["HOME"], ".cache", "provium", "boots")
	for name, text := range map[string]string{"c.snap": "x", "a.ok": "0"} { // damaged, and used now
		if err := os.WriteFile(filepath.Join(boots, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect(0, []string{"  web               6.1.0\\x1b[2J  1.00MiB, 2 vCPU  made 1d ago    used just now\n",
		"  host              ?             1.00MiB, 2 vCPU  made 3h ago    never used\n", "  (cannot be read)  ",
		"\n3 entries, "},
		"boots", "list")
	expect(0, []string{"removed 3 entries, "}, "boots", "clean")
	if left, err := os.ReadDir(boots); len(left) > 0 || err != nil {
		t.Error(left, err)
	}
	expect(2, []string{"expected one of clean, list"}, "boots")
	expect(2, []string{"unknown command `boots lst`; did you mean `list`? (valid: clean, list)"}, "boots", "lst")
	expect(2, []string{"unknown command `fixture lst`; did you mean `list`?"}, "fixture", "lst")
	expect(2, []string{"unknown command `image nothing` (valid: "}, "image", "nothing")
}

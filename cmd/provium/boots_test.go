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

// TestSharedCache moves booted guests from one user to another by way of a directory.
func TestSharedCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shared")
	ref := "oci:" + dir
	has := func(c *cli, code int, texts []string, args ...string) {
		t.Helper()
		got, stdout, stderr := c.run(args...)
		if got != code && code >= 0 {
			t.Errorf("%v: %d, want %d; %s", args, got, code, stderr)
		}
		for _, text := range texts {
			if !strings.Contains(stdout+stderr, text) {
				t.Errorf("%v: no %q in\n%s%s", args, text, stdout, stderr)
			}
		}
	}
	files := map[string]string{"provium.toml": autoConfig, "tests/a.test.lua": `test("a", function() end)`}
	one, two := newCLI(t, files), newCLI(t, files)
	one.putBoot("aa", snapshot.Guest{Profile: "host", Kernel: "6.1\x1b[2J"}, time.Hour)
	one.putBoot("bb", snapshot.Guest{Profile: "host"}, time.Hour)
	has(one, 0, []string{"0 entries, 0.00MiB\n", "nothing was pushed to `oci:"}, "cache", "ls", ref)
	has(two, 0, []string{"nothing was pushed to `oci:", "pulled 0 entries"}, "cache", "pull", ref)
	has(one, 0, []string{`pushed boot aa (host 6.1\x1b[2J)`, "pushed 2 entries, 0 were there, 0 left out, 0 failed"},
		"cache", "push", ref)
	has(one, 0, []string{"pushed 0 entries, 2 were there"}, "cache", "push", ref)
	has(one, 0, []string{"  boot     aa  host", "2 entries, "}, "cache", "ls", ref)
	has(two, 0, []string{"pulled boot aa", "pulled boot bb", "pulled 2 entries, 0 were there"}, "cache", "pull", ref)
	has(two, 0, []string{`host  6.1\x1b[2J`, "2 entries, "}, "boots", "list")
	has(two, 0, []string{"pulled 0 entries, 2 were there"}, "cache", "pull", ref)
	// A run fills its caches, and goes on where a cache cannot be had. How it ends is not looked at.
	has(two, 0, []string{"2 entries"}, "boots", "clean")
	run := []string{"--no-preflight", "--no-ksm", "--test", "nothing", "--allow-empty", "--cache"}
	has(two, -1, []string{"shared cache: pulled 2 entries, "}, append(run, ref)...)
	broken := t.TempDir()
	if err := os.WriteFile(broken+"/index.json", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	has(two, -1, []string{"warning: shared cache `oci:", "index.json", "; the run goes on without it"},
		append(run, "oci:"+broken)...)
	has(two, 2, []string{"the directory is missing"}, append(run, "oci:")...)
	has(two, 2, []string{"expected one REF"}, "cache", "pull")
	has(two, 2, []string{"neither `HOST/NAME[:TAG]` nor `oci:DIR`"}, "cache", "push", "UPPER")
	// What is damaged is named, and the rest is brought.
	has(two, 0, nil, "boots", "clean")
	blobs, err := filepath.Glob(dir + "/blobs/sha256/*")
	if err != nil || len(blobs) == 0 {
		t.Fatalf("%v, %v", blobs, err)
	}
	for _, path := range blobs {
		text, err := os.ReadFile(path)
		if err == nil && len(text) > 0 && text[0] == 0x28 { // zstd
			text[len(text)-1] ^= 1
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	has(two, 2, []string{"is damaged", "pulled 0 entries, 0 were there, 0 left out, 2 failed"}, "cache", "pull", ref)
	has(two, -1, []string{"is damaged; the run goes on without it"}, append(run, ref)...)
	has(two, 0, []string{"0 entries"}, "boots", "list")
}

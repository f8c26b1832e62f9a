package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCacheDirectories starts runs with caches of all kinds, and looks at which directories
// they use and what is noted.
func TestCacheDirectories(t *testing.T) {
	for _, c := range []struct {
		name string
		// prepare changes the environment; it returns an error that this user cannot help.
		prepare func(p *cli) error
		home    string // the user's cache directory, below the test's; "" is a temporary one
		note    string // part of the only note; "" where there is no note
	}{
		{"new", func(p *cli) error { return nil }, "home/.cache", ""},
		{"XDG_CACHE_HOME", func(p *cli) error { return p.setVar("XDG_CACHE_HOME", p.dir+"/xdg") }, "xdg", ""},
		{"relative XDG_CACHE_HOME", func(p *cli) error { return p.setVar("XDG_CACHE_HOME", "xdg") }, "home/.cache", ""},
		{"no HOME", func(p *cli) error { return p.setVar("HOME", "") }, "", "neither HOME nor XDG_CACHE_HOME is set"},
		{"HOME is a symlink", func(p *cli) error {
			return errors.Join(os.MkdirAll(p.dir+"/real", 0o755), os.Symlink("real", p.dir+"/home"))
		}, "home/.cache", ""},
		{"others can write", func(p *cli) error { return openTo(p.dir+"/home/.cache/provium", 0o777) }, "home/.cache",
			"/home/.cache/provium could be written by others (mode 0777)"},
		{"the group can write", func(p *cli) error { return openTo(p.dir+"/home/.cache", 0o775) }, "home/.cache",
			"/home/.cache could be written by others (mode 0775)"},
		{"others can write a part", func(p *cli) error { return openTo(p.dir+"/home/.cache/provium/boots", 0o757) },
			"home/.cache", "/home/.cache/provium/boots could be written by others (mode 0757)"},
		{"others can write HOME", func(p *cli) error { return openTo(p.dir+"/home", 0o777) }, "",
			"/home can be written by others (mode 0777): it is not used for the cache"},
		{"of another user", func(p *cli) error {
			return errors.Join(openTo(p.dir+"/home/.cache/provium", 0o755),
				os.Chown(p.dir+"/home/.cache/provium", 1234, 1234))
		}, "", "/home/.cache/provium belongs to another user (uid 1234): it is not used for the cache"},
		{"behind the link of another user", func(p *cli) error {
			return errors.Join(openTo(p.dir+"/home/.cache/real", 0o755),
				os.Symlink("real", p.dir+"/home/.cache/provium"), os.Lchown(p.dir+"/home/.cache/provium", 1234, 1234))
		}, "", "/home/.cache/provium belongs to another user (uid 1234)"},
	} {
		p := newCLI(t, map[string]string{"provium.toml": autoConfig})
		// Below a directory that nobody else can enter nothing is loose.
		if err := errors.Join(os.Chmod(p.dir, 0o755), os.Chmod(filepath.Dir(p.dir), 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := c.prepare(p); errors.Is(err, os.ErrPermission) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		_, _, stderr := p.run()
		if len(p.started) != 1 {
			t.Errorf("%s: nothing started: %s", c.name, stderr)
			continue
		}
		o := p.started[0]
		if notes := strings.Count(stderr, "provium: note: "); !strings.Contains(stderr, c.note) || (notes == 0) !=
			(c.note == "") || notes > 1 {
			t.Errorf("%s: notes: %s", c.name, stderr)
		}
		for name, dir := range map[string]string{"images": o.ImageCache, "boots": o.BootCache,
			"fixtures": o.Config.CacheDir} {
			want := filepath.Join(p.dir, c.home, "provium", name)
			if c.home == "" {
				want = "/tmp/provium-run-"
			}
			if !strings.HasPrefix(dir, want) {
				t.Errorf("%s: %s are in %s, want %s", c.name, name, dir, want)
			}
			if _, err := os.Stat(dir); (err == nil) != (c.home != "") {
				t.Errorf("%s: afterwards: %v", c.name, err)
			}
		}
		if rerun := o.RerunState; (rerun == "") != (c.home == "") {
			t.Errorf("%s: rerun state %q", c.name, rerun)
		}
	}
}

func (c *cli) setVar(name, value string) error {
	c.vars[name] = value
	return nil
}

// openTo makes a directory with a mode whatever the umask.
func openTo(dir string, mode os.FileMode) error {
	return errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, mode))
}

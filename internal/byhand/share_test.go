package byhand

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/executable"
	"provium/internal/fakemachine"
)

// files writes files into a directory of the host; a text that begins with "-> " is a link.
func files(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree returns the files below a directory with their texts.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[rel] = "-> " + target
			return err
		case e.IsDir():
			all[rel] = "/"
			return nil
		}
		text, err := os.ReadFile(path)
		all[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	have := tree(t, dir)
	for name, text := range want {
		if have[name] != text {
			t.Errorf("%s: %q, want %q", name, have[name], text)
		}
	}
	for name := range have {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is left: %q", name, have[name])
		}
	}
}

func TestChangesComeBack(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"same": "s", "changed": "old", "gone": "g", "sub/gone": "g", "sub/kept": "k",
		"empty/x": "x", "kind/file": "f"})
	f.machine.Program("work", func(p *fakemachine.Process) int {
		at := func(name string) string { return filepath.Join(dir, name) }
		for name, text := range map[string]string{"changed": "new and longer", "made": "m", "fresh/deep/file": "d"} {
			if text, failure := p.Files.Read(at("same")); failure != nil || string(text) != "s" {
				return 2
			}
			_ = p.Files.MkdirAll(filepath.Dir(at(name)))
			if failure := p.Files.Write(at(name), []byte(text)); failure != nil {
				return 3
			}
		}
		for _, name := range []string{"gone", "sub/gone", "empty/x", "empty", "kind/file", "kind"} {
			if failure := f.machine.Files.Remove(at(name)); failure != nil {
				return 5
			}
		}
		if p.Files.Write(at("kind"), []byte("a file now")) != nil {
			return 6
		}
		return 1
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"work"}, Dir: dir, ReadWrite: []string{dir}}, "")
	if code != 1 || err != nil {
		t.Fatal(code, err)
	}
	checkTree(t, dir, map[string]string{"same": "s", "changed": "new and longer", "sub": "/", "sub/kept": "k",
		"made": "m", "fresh": "/", "fresh/deep": "/", "fresh/deep/file": "d",
		"kind": "a file now"})
	if len(f.notes) > 0 {
		t.Error(f.notes)
	}
}

// TestChangesOnBothSides has the host change files which the guest changes, too.
func TestChangesOnBothSides(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"both": "old", "removed": "old", "same": "s"})
	f.machine.Program("work", func(p *fakemachine.Process) int {
		for _, name := range []string{"both", "removed"} {
			path := filepath.Join(dir, name)
			if os.WriteFile(path, []byte("host"), 0o644) != nil ||
				os.Chtimes(path, time.Time{}, time.Unix(1, 0)) != nil {
				return 1
			}
		}
		if p.Files.Write(filepath.Join(dir, "both"), []byte("guest")) != nil {
			return 2
		}
		if f.machine.Files.Remove(filepath.Join(dir, "removed")) != nil {
			return 3
		}
		return 0
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"work"}, Dir: dir, ReadWrite: []string{dir}}, "")
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	checkTree(t, dir, map[string]string{"both": "host", "both.guest": "guest", "removed": "host", "same": "s"})
	if len(f.notes) != 2 {
		t.Error(f.notes)
	}
}

// TestChangesStayInside has the guest make a directory where the host has got a link meanwhile.
func TestChangesStayInside(t *testing.T) {
	f := newFake(t)
	dir, outside := t.TempDir(), t.TempDir()
	f.machine.Program("work", func(p *fakemachine.Process) int {
		sub := filepath.Join(dir, "sub")
		if os.Symlink(outside, sub) != nil || p.Files.MkdirAll(sub) != nil ||
			p.Files.Write(filepath.Join(sub, "file"), []byte("x")) != nil {
			return 1
		}
		return 0
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"work"}, Dir: dir, ReadWrite: []string{dir}}, "")
	if code != ExitOurs || err == nil || !strings.Contains(err.Error(), "--rw "+dir) {
		t.Error(code, err)
	}
	checkTree(t, outside, map[string]string{})
	checkTree(t, dir, map[string]string{"sub": "-> " + outside})
}

// TestChangesDoNotTakeFilesOfTheHost has the guest change what the host has changed, too, in
// other ways, beside files with names that copies could have.
func TestChangesDoNotTakeFilesOfTheHost(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	files(t, dir, map[string]string{"link": "old", "changed": "old", "changed.part": "mine", "tree/x": "old"})
	f.machine.OnSyscall(unix.SYS_READLINKAT, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) {
		return int64(copy(s.Bufs[1], "changed")), 0
	})
	f.machine.Program("work", func(p *fakemachine.Process) int {
		at := func(name string) string { return filepath.Join(dir, name) }
		files(t, dir, map[string]string{"fresh.guest": "mine", "fresh": "host"})
		if os.WriteFile(at("link"), []byte("host"), 0o644) != nil ||
			os.Chtimes(at("link"), time.Time{}, time.Unix(1, 0)) != nil || os.Mkdir(at("now"), 0o755) != nil {
			return 1
		}
		if f.machine.Files.Remove(at("link")) != nil || p.Files.Symlink("changed", at("link")) != nil {
			return 2
		}
		for _, name := range []string{"changed", "fresh", "now", "late"} {
			if p.Files.Write(at(name), []byte("guest")) != nil {
				return 3
			}
		}
		return 0
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"work"}, Dir: dir, ReadWrite: []string{dir}}, "")
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	checkTree(t, dir, map[string]string{"link": "host", "link.guest": "-> changed", "changed": "guest",
		"changed.part": "mine", "tree": "/", "tree/x": "old", "fresh": "host", "fresh.guest": "mine",
		"fresh.guest.2": "guest", "now": "/", "now.guest": "guest", "late": "guest"})
}

// TestChangesComeBackBesideFailures has one of the changes be impossible on the host.
func TestChangesComeBackBesideFailures(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	f.machine.Program("work", func(p *fakemachine.Process) int {
		files(t, dir, map[string]string{"a": "host"})
		for _, name := range []string{"a/b", "c"} {
			_ = p.Files.MkdirAll(filepath.Dir(filepath.Join(dir, name)))
			if p.Files.Write(filepath.Join(dir, name), []byte("guest")) != nil {
				return 1
			}
		}
		return 0
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"work"}, Dir: dir, ReadWrite: []string{dir}}, "")
	if code != ExitOurs || err == nil || !strings.Contains(err.Error(), "not all changes have come back") {
		t.Error(code, err)
	}
	checkTree(t, dir, map[string]string{"a": "host", "c": "guest"})
}

// TestProgramInSharedDirectory runs a program from a directory that the guest gets anyway, as
// `cargo test` has it with --rw of the project.
func TestProgramInSharedDirectory(t *testing.T) {
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"--push", "--rw"} {
		f := newFake(t)
		dir := t.TempDir()
		files(t, dir, map[string]string{"deps/x.test": string(sh), "testdata/in": "data"})
		path := filepath.Join(dir, "deps/x.test")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		needs, err := executable.Resolve(path, path, "")
		if err != nil || needs == nil {
			t.Skip("/bin/sh of this machine is linked statically", err)
		}
		f.machine.Program(path, func(p *fakemachine.Process) int {
			if _, failure := p.Files.Read(needs.Loader); failure != nil {
				return 1
			}
			return 0
		})
		c := &Command{Args: []string{path}, Dir: dir}
		if how == "--rw" {
			c.ReadWrite = []string{dir}
		} else {
			c.Push = []string{dir}
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if code, _, _, err := f.exec(t, c, ""); code != 0 || err != nil {
			t.Error(how, code, err)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: the program came back as if the guest had changed it (%v)", how, err)
		}
	}
}

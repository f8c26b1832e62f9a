package byhand

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/executable"
	"provium/internal/guest"
)

// program is what a command line names.
type program struct {
	path    string            // in the guest
	isHosts bool              // it is the host's file of that path
	needs   *executable.Needs // what the guest gets, too; nil for none
}

// findProgram decides what a command line means. A name without a slash is searched in PATH
// of the guest. An absolute path means the guest's file, or else the host's; a relative one
// the host's, or else the guest's.
func findProgram(ctx context.Context, link *guest.Client, c *Command) (program, error) {
	name := c.Args[0]
	if !strings.Contains(name, "/") {
		return program{path: name}, nil
	}
	if filepath.IsAbs(name) {
		_, err := link.Stat(ctx, name, true)
		var failed *guest.OpError
		if err == nil || !errors.As(err, &failed) {
			return program{path: name}, err
		}
	} else {
		name = filepath.Join(c.Dir, name)
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return program{path: name}, nil // the guest says what is wrong
	case info.IsDir():
		return program{}, fmt.Errorf("%s: is a directory", name)
	case info.Mode()&0o111 == 0:
		return program{}, fmt.Errorf("%s: the host's file is not executable", name)
	}
	needs, err := executable.Resolve(name, name, variable(c.Env, "LD_LIBRARY_PATH"))
	if err != nil {
		return program{}, err
	}
	if needs != nil {
		if _, err := link.Stat(ctx, needs.Loader, true); err == nil {
			needs = nil // a system with libraries of its own
		} else if link.Err() != nil {
			return program{}, err
		}
	}
	return program{name, true, needs}, nil
}

// goTestSuffix ends the names of the programs that `go test` makes; they run in the directory
// of their package and read what is in this directory of it.
const (
	goTestSuffix = ".test"
	goTestData   = "testdata"
)

// files returns what the guest gets for a program of the host, without what it gets anyway.
func (p *program) files(c *Command) (paths []string) {
	if !p.isHosts {
		return nil
	}
	paths = []string{p.path}
	if strings.HasSuffix(p.path, goTestSuffix) {
		data := filepath.Join(c.Dir, goTestData)
		if info, err := os.Stat(data); err == nil && info.IsDir() {
			paths = append(paths, data)
		}
	}
	if p.needs != nil {
		paths = append(paths, p.needs.Files()...)
	}
	copied := slices.Concat(c.Push, c.ReadWrite)
	return slices.DeleteFunc(paths, func(path string) bool {
		return slices.ContainsFunc(copied, func(dir string) bool {
			return path == dir || strings.HasPrefix(path, dir+"/")
		})
	})
}

// libraryPath returns the directories of libraries that the loader would not find by itself.
func (p *program) libraryPath() string {
	if p.needs == nil {
		return ""
	}
	var dirs []string
	for _, l := range p.needs.Libraries {
		if dir := filepath.Dir(l.Path); l.IsConfigured && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, ":")
}

func variable(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// missing says what is missing in the guest for a command to be executed.
func (x *running) missing(ctx context.Context, path string) string {
	const none = "the guest has no such command"
	if !strings.Contains(path, "/") {
		return none + " in its PATH; a program of this machine is named by a path, as ./" + path +
			", and --userland host has them all in the guest"
	}
	g := guestFiles{x.link}
	if ok, err := g.Exists(ctx, path); !ok || err != nil {
		return none
	}
	return cmp.Or(executable.Diagnose(ctx, g, executable.Attempt{Name: path, Cwd: x.c.Dir}),
		"the guest lacks what it is executed by")
}

// guestFiles are the files of a guest.
type guestFiles struct{ link *guest.Client }

// Exists implements executable.Guest.
func (g guestFiles) Exists(ctx context.Context, path string) (bool, error) {
	_, err := g.link.Stat(ctx, path, true)
	var failed *guest.OpError
	if errors.As(err, &failed) {
		return false, nil
	}
	return err == nil, err
}

// Head implements executable.Guest.
func (g guestFiles) Head(ctx context.Context, path string, n int) ([]byte, error) {
	head := make([]byte, 0, n)
	if _, err := g.link.PullFile(ctx, path, headWriter{&head}); err != nil && !errors.Is(err, errHead) {
		return nil, err
	}
	return head, nil
}

// Target implements executable.Guest.
func (g guestFiles) Target(ctx context.Context, path string) (string, error) {
	target, err := g.link.FileCall(ctx, guest.ReadlinkCall(path))
	return string(target), err
}

// errHead ends a copy of which only the beginning is wanted.
var errHead = errors.New("enough")

// headWriter takes as many bytes as its slice has room for.
type headWriter struct{ to *[]byte }

// Write implements io.Writer.
func (w headWriter) Write(p []byte) (int, error) {
	n := min(len(p), cap(*w.to)-len(*w.to))
	*w.to = append(*w.to, p[:n]...)
	if n < len(p) {
		return n, errHead
	}
	return n, nil
}

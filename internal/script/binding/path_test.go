package binding

import (
	"errors"
	"path/filepath"
	"testing"
)

// project is a Runner whose project is at /p.
type project struct{ Runner }

func (project) InProject(path string) string { return filepath.Join("/p", path) }

func TestShowPath(t *testing.T) {
	x := &Env{Runner: project{}}
	for _, c := range []struct{ err, path, want string }{
		{"open x.snap: no such file", "x.snap", "open x.snap: no such file (tried `/p/x.snap`)"},
		{"open /p/x.snap: no such file", "x.snap", "open /p/x.snap: no such file"},
		{"open /x.snap: no such file", "/x.snap", "open /x.snap: no such file"},
		{"open d/.temp: no such file", "d/x.snap", "open d/.temp: no such file (tried `/p/d/x.snap`)"},
		{"vm is not booted", "x.snap", "vm is not booted"},
		{"vm is not booted", "", "vm is not booted"},
	} {
		err := errors.New(c.err)
		got := x.ShowPath(err, c.path)
		if got.Error() != c.want || !errors.Is(got, err) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if err := x.ShowPath(nil, "x"); err != nil {
		t.Error(err)
	}
}

package machine

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseShare(t *testing.T) {
	resolve := func(path string) (string, error) {
		if path == "" {
			return "", errors.New("no path")
		}
		return filepath.Join("/p", path), nil
	}
	for text, want := range map[string]Share{
		"build":         {"/p/build", "/p/build"},
		"../b:/srv/b/":  {"/b", "/srv/b"},
		"a:b":           {"/p/a:b", "/p/a:b"},
		"a:/b:/c":       {"/p/a:/b", "/c"},
		"a:/../../etc/": {"/p/a", "/etc"},
	} {
		if got, err := ParseShare(text, resolve); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "no path", ":/x": "no path", "a:/": "root directory",
		"..": "root directory"} {
		if got, err := ParseShare(text, resolve); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestShares(t *testing.T) {
	s := Shape{Shares: []Share{{"/a", "/x"}}}.Merge(Shape{Shares: []Share{{"/b", "/y"}}})
	if places := s.Places(); len(places) != 2 || places[1] != "/y" {
		t.Errorf("%q", places)
	}
	if s.CanBeCached() || !(&Shape{}).CanBeCached() || (&Shape{Args: []string{"-x"}}).CanBeCached() {
		t.Error("which boots are kept")
	}
	if err := s.Check("q35", 1); err != nil {
		t.Error(err)
	}
	s.Shares[1].Guest = "/x"
	if err := s.Check("q35", 1); err == nil || err.Error() != "rw: two directories are at `/x` in the guest" {
		t.Error(err)
	}
	if err := CheckShares(make([]Share, MaxShares+1)); err == nil || !strings.Contains(err.Error(), "at most 8") {
		t.Error(err)
	}
}

package userland

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kind is what a source is.
type Kind string

// The kinds of sources.
const (
	Busybox   Kind = "busybox"   // what guests have without a userland
	Host      Kind = "host"      // the programs of this machine
	Directory Kind = "directory" // a tree
	Archive   Kind = "archive"   // a tar file, compressed or not
	OCI       Kind = "oci"       // an image in an OCI layout
)

// Source is where a userland comes from.
type Source struct {
	Kind Kind
	// Path is that of a directory, an archive or an OCI layout.
	Path string
	// Ref names one of several images of a layout; "" is the only one.
	Ref string
}

// valid is what a user can write.
const valid = "`busybox`, `host`, a directory, a tar file, or `oci:DIR[:NAME]`"

// Parse understands what a user writes. resolve makes a path absolute.
func Parse(text string, resolve func(path string) (string, error)) (Source, error) {
	switch {
	case text == string(Busybox), text == string(Host):
		return Source{Kind: Kind(text)}, nil
	case text == "":
		return Source{}, fmt.Errorf("expected %s, got nothing", valid)
	case strings.HasPrefix(text, "oci:"):
		path, ref, _ := strings.Cut(text[len("oci:"):], ":")
		path, err := resolve(path)
		return Source{Kind: OCI, Path: path, Ref: ref}, err
	case strings.HasPrefix(text, "docker:"):
		return Source{}, fmt.Errorf("`%s`: images are not fetched from registries; `skopeo copy %s oci:DIR` makes a "+
			"directory for `oci:DIR`", text, text)
	case !strings.Contains(text, "/") && !strings.Contains(text, "."):
		return Source{}, fmt.Errorf("`%s` is not known; expected %s (a path in this directory begins with `./`)",
			text, valid)
	}
	path, err := resolve(text)
	return Source{Kind: Directory, Path: path}, err
}

// String returns the source as a user writes it.
func (s Source) String() string {
	switch {
	case s.Kind == OCI && s.Ref != "":
		return "oci:" + s.Path + ":" + s.Ref
	case s.Kind == OCI:
		return "oci:" + s.Path
	case s.Path != "":
		return s.Path
	}
	return string(s.Kind)
}

// resolve finds out whether a path is a directory or an archive, and checks a layout.
func (s Source) resolve() (Source, error) {
	if s.Path == "" {
		return s, nil
	}
	info, err := os.Stat(s.Path)
	switch {
	case err != nil:
		return s, fmt.Errorf("%s: %w", s.Path, reason(err))
	case s.Kind == OCI:
		if _, err := os.Stat(filepath.Join(s.Path, "index.json")); err != nil {
			return s, fmt.Errorf("%s is not an OCI layout: it has no index.json", s.Path)
		}
	case info.Mode().IsRegular():
		s.Kind = Archive
	case !info.IsDir():
		return s, fmt.Errorf("%s is neither a directory nor a file", s.Path)
	}
	return s, nil
}

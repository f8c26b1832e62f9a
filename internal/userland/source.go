package userland

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Kind is what a source is.
type Kind string

// The kinds of sources.
const (
	Busybox   Kind = "busybox"   // what guests have without a userland
	Host      Kind = "host"      // the programs of this machine
	Directory Kind = "directory" // a tree
	Archive   Kind = "archive"   // a tar file, compressed or not
	Disk      Kind = "disk"      // an image of a disk, or of one file system
	OCI       Kind = "oci"       // an image in an OCI layout
	Registry  Kind = "docker"    // an image in a registry
	Debian    Kind = "debian"    // a release of Debian, made by its bootstrap tool
)

// Source is where a userland comes from.
type Source struct {
	Kind Kind
	// Path is that of a directory, an archive, an image of a disk or an OCI layout.
	Path string
	// Ref names one of several images of a layout, "" is the only one; an image of a
	// registry; or a release.
	Ref string
}

// valid is what a user can write.
const valid = "`busybox`, `host`, a directory, a tar file, an image of a disk, `oci:DIR[:NAME]`, " +
	"`docker://IMAGE`, or `debian:bookworm`"

// How sources begin.
const (
	dockerPrefix = "docker://"
	debianPrefix = "debian:"
)

// Parse understands what a user writes. resolve makes a path absolute.
func Parse(text string, resolve func(path string) (string, error)) (Source, error) {
	switch {
	case text == string(Busybox), text == string(Host):
		return Source{Kind: Kind(text)}, nil
	case text == "":
		return Source{}, fmt.Errorf("expected %s, got nothing", valid)
	case strings.HasPrefix(text, "oci:"):
		path, ref, _ := strings.Cut(text[len("oci:"):], ":")
		if path == "" {
			return Source{}, fmt.Errorf("`%s` names no directory, as `oci:DIR` and `oci:DIR:NAME` do", text)
		}
		path, err := resolve(path)
		return Source{Kind: OCI, Path: path, Ref: ref}, err
	case strings.HasPrefix(text, dockerPrefix):
		ref := text[len(dockerPrefix):]
		if _, err := name.ParseReference(ref); err != nil {
			return Source{}, fmt.Errorf("`%s` is not the name of an image, as `docker://debian:trixie` is: %w",
				text, err)
		}
		return Source{Kind: Registry, Ref: ref}, nil
	case strings.HasPrefix(text, "docker:"):
		return Source{}, fmt.Errorf("`%s`: the name of an image in a registry is written `docker://%s`", text,
			strings.TrimLeft(text[len("docker:"):], "/"))
	case strings.HasPrefix(text, debianPrefix):
		suite := text[len(debianPrefix):]
		if !debianSuite.MatchString(suite) {
			return Source{}, fmt.Errorf("`%s` is not a release of Debian, as `debian:bookworm` and `debian:trixie` are",
				text)
		}
		return Source{Kind: Debian, Ref: suite}, nil
	case !strings.Contains(text, "/") && !strings.Contains(text, "."):
		return Source{}, fmt.Errorf("`%s` is not known; expected %s (a path in this directory begins with `./`)",
			text, valid)
	}
	path, err := resolve(text)
	return Source{Kind: Directory, Path: path}, err
}

// MayHaveInit reports whether guests may leave the initramfs for an init of the userland.
func (s Source) MayHaveInit() bool {
	switch s.Kind {
	case "", Busybox, Host:
		return false
	}
	return true
}

// IsRemote reports whether the userland may come over the network.
func (s Source) IsRemote() bool { return s.Kind == Registry || s.Kind == Debian }

// String returns the source as a user writes it.
func (s Source) String() string {
	switch {
	case s.Kind == OCI && s.Ref != "":
		return "oci:" + s.Path + ":" + s.Ref
	case s.Kind == Registry:
		return dockerPrefix + s.Ref
	case s.Kind == Debian:
		return debianPrefix + s.Ref
	case s.Kind == OCI:
		return "oci:" + s.Path
	case s.Path != "":
		return s.Path
	}
	return string(s.Kind)
}

// resolve finds out whether a path is a directory, an archive or an image of a disk, and checks a layout.
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
		head, err := headOf(s.Path)
		if err != nil {
			return s, fmt.Errorf("%s: %w", s.Path, err)
		}
		if looksLikeDisk(head) || isDiskName(s.Path) {
			s.Kind = Disk
		}
	case !info.IsDir():
		return s, fmt.Errorf("%s is neither a directory nor a file", s.Path)
	default: // one userland, whichever link leads to it
		if s.Path, err = filepath.EvalSymlinks(s.Path); err != nil {
			return s, reason(err)
		}
	}
	return s, nil
}

// isDiskName reports whether a file is called as images of disks are.
func isDiskName(path string) bool {
	switch filepath.Ext(path) {
	case ".raw", ".img", ".qcow2", ".ext4":
		return true
	}
	return false
}

package netconf

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// The lines around our part of a file of names.
const (
	hostsBegin = "# begin of names by provium\n"
	hostsEnd   = "# end of names by provium\n"
)

// writeNames brings the guest's files of names up to date. A guest with a file
// system that cannot be written goes without names.
func (n *Network) writeNames() error {
	if err := rewrite("/etc/hosts", func(old []byte) []byte { return editHosts(old, n.hosts) }); err != nil {
		return err
	}
	return rewrite("/etc/resolv.conf", func(old []byte) []byte { return editResolver(old, n.resolver) })
}

// rewrite changes a file, which need not be there.
func rewrite(file string, edit func(old []byte) []byte) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	updated := edit(old)
	if bytes.Equal(old, updated) {
		return nil
	}
	err = os.MkdirAll(path.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, updated, 0o644)
	}
	if errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// withoutOurs returns a file without our part of it.
func withoutOurs(old []byte) []byte {
	rest := slices.Clone(old)
	if at := bytes.Index(rest, []byte(hostsBegin)); at >= 0 {
		if n := bytes.Index(rest[at:], []byte(hostsEnd)); n >= 0 {
			rest = slices.Delete(rest, at, at+n+len(hostsEnd))
		}
	}
	return rest
}

// editHosts replaces our part of a hosts file, its end.
func editHosts(old []byte, text string) []byte {
	rest := withoutOurs(old)
	if text == "" {
		return rest
	}
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		rest = append(rest, '\n')
	}
	if len(old) == 0 {
		rest = append(rest, "127.0.0.1 localhost\n::1 localhost\n"...)
	}
	return slices.Concat(rest, []byte(hostsBegin), []byte(text), []byte(hostsEnd))
}

// editResolver replaces our part of a resolver's configuration, its start: the
// first name server is asked first.
func editResolver(old []byte, text string) []byte {
	rest := withoutOurs(old)
	if text == "" {
		return rest
	}
	return slices.Concat([]byte(hostsBegin), []byte(text), []byte(hostsEnd), rest)
}

package machine

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Share is a directory of the host that the guest may write to.
type Share struct {
	Host  string // absolute
	Guest string // where the guest has it, absolute
}

// MaxShares is how many directories a guest can have: the functions of one PCI device.
const MaxShares = 8

// ErrShares is returned for what a guest with shared directories cannot do.
var ErrShares = errors.New("it shares directories of the host for writing (`rw`), and their files do not go back in " +
	"time with it; test that in a guest without `rw`")

// Tag is the name of the nth share, which the guest mounts it by.
func Tag(n int) string { return fmt.Sprintf("share%d", n) }

// ParseShare reads a share: a directory of the host, and after a colon where the guest has it. resolve makes the
// directory's path absolute.
func ParseShare(text string, resolve func(string) (string, error)) (s Share, err error) {
	host := text
	if at := strings.LastIndex(text, ":/"); at >= 0 {
		host, s.Guest = text[:at], text[at+1:]
	}
	if s.Host, err = resolve(host); err != nil {
		return s, err
	}
	if s.Guest == "" {
		s.Guest = s.Host
	}
	if s.Guest = path.Clean(s.Guest); s.Guest == "/" {
		return s, fmt.Errorf("`%s`: the guest's own root directory is at `/`; write `DIR:/PATH`", text)
	}
	return s, nil
}

// CheckShares returns an error for shares that no guest can have.
func CheckShares(shares []Share) error {
	if len(shares) > MaxShares {
		return fmt.Errorf("%d directories, at most %d are possible", len(shares), MaxShares)
	}
	for i, s := range shares {
		if slices.ContainsFunc(shares[:i], func(o Share) bool { return o.Guest == s.Guest }) {
			return fmt.Errorf("two directories are at `%s` in the guest", s.Guest)
		}
	}
	return nil
}

// Places returns where the guest has its shares.
func (s *Shape) Places() (places []string) {
	for _, share := range s.Shares {
		places = append(places, share.Guest)
	}
	return places
}

// CanBeCached reports whether a boot of the machine may be kept: nothing of it is changed from outside.
func (s *Shape) CanBeCached() bool { return len(s.Args) == 0 && len(s.Shares) == 0 }

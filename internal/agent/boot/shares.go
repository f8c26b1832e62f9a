package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// share is a directory of the host that is mounted in the guest.
type share struct{ tag, path string }

// readShares reads what the host says about shared directories in the initramfs.
func readShares() ([]share, error) {
	text, err := readAll(unix.AT_FDCWD, sharesFile)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("shared directories: %w", err)
	}
	return parseShares(text)
}

// parseShares understands lines of a tag and a quoted path.
func parseShares(text string) (out []share, err error) {
	for line := range strings.Lines(text) {
		tag, quoted, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		place, err := strconv.Unquote(quoted)
		if err != nil || tag == "" || !path.IsAbs(place) || strings.IndexByte(place, 0) >= 0 {
			return nil, fmt.Errorf("shared directories: %q is not a tag and an absolute path", line)
		}
		out = append(out, share{tag, place})
	}
	return out, nil
}

// mountShares mounts the shared directories below the root directory root.
func (s *System) mountShares(root string) error {
	shares, err := readShares()
	if err != nil || len(shares) == 0 {
		return err
	}
	return s.inRoot(root, func() error {
		for _, one := range shares {
			err := os.MkdirAll(one.path, 0o755)
			if err == nil {
				err = unix.Mount(one.tag, one.path, "virtiofs", unix.MS_NOSUID|unix.MS_NODEV, "")
			}
			if err == unix.ENODEV {
				err = errors.New("the kernel has no virtiofs (CONFIG_VIRTIO_FS)")
			}
			if err != nil {
				return fmt.Errorf("mount the shared directory %s: %w", one.path, err)
			}
		}
		return nil
	})
}

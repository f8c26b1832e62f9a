package topology

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MayInstall returns an error when dir exists and is something else than a lab
// snapshot.
func MayInstall(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.IsDir() && IsLab(dir) {
		return nil // the error of a missing parent comes from creating the directory
	}
	if !info.IsDir() {
		return fmt.Errorf("%s exists and is no directory", dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return fmt.Errorf("%s exists and is no lab snapshot", dir)
	}
	return nil
}

// Install moves a complete directory to its place in one step.
func Install(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		// The old directory gets the temporary name, under which it is removed.
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	}
	if err == nil {
		err = os.Chmod(to, 0o755)
	}
	return err
}

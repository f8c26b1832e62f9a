package cachedir

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Distrust is returned for a file or directory that somebody else may have written.
type Distrust struct {
	Path string // "" where the caller names it
	Why  string
}

func (e *Distrust) Error() string {
	if e.Path == "" {
		return e.Why
	}
	return e.Path + " " + e.Why
}

// CheckFile returns a *Distrust unless only this user and root can have written the file
// or directory that st describes.
func CheckFile(st *unix.Stat_t) error { return checkFile(st, uint32(os.Geteuid())) }

func checkFile(st *unix.Stat_t, uid uint32) error {
	switch {
	case st.Uid != 0 && st.Uid != uid:
		return &Distrust{Why: fmt.Sprintf("belongs to another user (uid %d)", st.Uid)}
	case st.Mode&unix.S_IFMT != unix.S_IFLNK && st.Mode&0o022 != 0:
		return &Distrust{Why: fmt.Sprintf("can be written by others (mode %#o)", st.Mode&0o7777)}
	}
	return nil
}

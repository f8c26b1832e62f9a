package process

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// The agent has as many scheduler slots as the guest has processors. On one
// processor that is one slot: with another, every hand-over between goroutines
// and every interrupt of the link wakes a second thread that finds nothing to do,
// which halves the speed of bulk data and costs a command a tenth.
//
// But a fork holds its slot until the child's program is loaded, from a disk
// perhaps that answers late or never, and the agent has to serve meanwhile.
// Forks are serialised, so one slot more is enough for any number of them. The
// agent takes it for good before it starts the first program of which it is not
// certain that it loads at once.

// slots knows which programs load at once: those on file systems in memory,
// while the root, which has their libraries, is one. The fork lock guards it.
type slots struct {
	single bool            // there is one slot
	root   string          // directory of the root file system
	mounts int             // /proc/self/mountinfo
	known  map[string]bool // paths looked at since the last mount
}

// maxKnown bounds slots.known.
const maxKnown = 64

// newSlots returns slots that learn of mounts from a descriptor of the mount
// table, 0 for none.
func newSlots(mounts int) slots {
	s := slots{single: runtime.GOMAXPROCS(0) == 1, root: "/", mounts: mounts}
	if s.single && (mounts <= 0 || !s.rootInMemory()) {
		s.leaveSingle()
	}
	return s
}

func (s *slots) rootInMemory() bool { return onlyMemory(s.root) }

func (s *slots) leaveSingle() {
	s.single = false
	runtime.GOMAXPROCS(2)
}

// reserve makes room for the start of a program in a directory.
func (s *slots) reserve(program, dir string) {
	if s.single && !(s.atOnce(program, s.isInMemory) && (dir == "/" || s.atOnce(dir, onlyMemory))) {
		s.leaveSingle()
	}
}

// atOnce reports whether a program loads, or a directory is entered, without
// waiting for anything. What look found out holds until something is mounted.
func (s *slots) atOnce(path string, look func(path string) bool) bool {
	fd := []unix.PollFd{{Fd: int32(s.mounts), Events: unix.POLLPRI}}
	if n, err := sys.PollNow(fd); err != nil || n > 0 || len(s.known) >= maxKnown {
		s.known = nil
	}
	at, known := s.known[path]
	if !known {
		at = look(path)
		if s.known == nil {
			s.known = make(map[string]bool)
		}
		s.known[path] = at
	}
	return at
}

// onlyMemory reports whether a path is on a file system in memory. On one that
// answers late this waits, without holding the slot.
func onlyMemory(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && sys.InMemory(&fs)
}

// isInMemory reports whether a program is in memory, and is not a script, whose
// interpreter might be elsewhere. It looks without holding the slot, too.
func (s *slots) isInMemory(program string) bool {
	path, err := filepath.EvalSymlinks(program)
	if err != nil {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	var fs unix.Statfs_t
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "\x7fELF" &&
		unix.Fstatfs(int(f.Fd()), &fs) == nil && sys.InMemory(&fs) && s.rootInMemory()
}

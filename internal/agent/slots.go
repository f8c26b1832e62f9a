package agent

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
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

// slots knows which programs load at once: those of an initramfs that is still
// the root. The fork lock guards it.
type slots struct {
	single bool            // there is one slot
	device uint64          // of the root file system at the start
	mounts int             // /proc/self/mountinfo
	known  map[string]bool // programs looked at since the last mount
}

// maxKnown bounds slots.known.
const maxKnown = 64

// newSlots gets the descriptor of the mount table, 0 for none.
func newSlots(mounts int) slots {
	s := slots{single: runtime.GOMAXPROCS(0) == 1, mounts: mounts}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if s.single && (mounts <= 0 || unix.Statfs("/", &fs) != nil || unix.Stat("/", &st) != nil || !inMemory(&fs)) {
		s.leaveSingle()
	}
	s.device = st.Dev
	return s
}

func inMemory(fs *unix.Statfs_t) bool {
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC
}

func (s *slots) leaveSingle() {
	s.single = false
	runtime.GOMAXPROCS(2)
}

// reserve makes room for the start of a program.
func (s *slots) reserve(program, dir string) {
	if s.single && (dir != "/" || !s.loadsAtOnce(program)) {
		s.leaveSingle()
	}
}

// loadsAtOnce tells that the program is in memory and no script, whose
// interpreter might be elsewhere. What it found out holds until something is
// mounted.
func (s *slots) loadsAtOnce(program string) bool {
	fd := []unix.PollFd{{Fd: int32(s.mounts), Events: unix.POLLPRI}}
	if n, err := pollNow(fd); err != nil || n > 0 || len(s.known) >= maxKnown {
		s.known = nil
	}
	at, known := s.known[program]
	if !known {
		at = s.inRoot(program)
		if s.known == nil {
			s.known = make(map[string]bool)
		}
		s.known[program] = at
	}
	return at
}

// inRoot looks without holding the slot, so it may take as long as it wants.
func (s *slots) inRoot(program string) bool {
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
	st, ok := info.Sys().(*syscall.Stat_t)
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return ok && st.Dev == s.device && err == nil && string(magic) == "\x7fELF"
}

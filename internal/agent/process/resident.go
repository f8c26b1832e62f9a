package process

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// An executor that starts a program waits until it is loaded where that is certain
// to happen at once: it then lends the child its memory, which costs less than a
// copy. Elsewhere, on a disk perhaps that answers late or never, the child is a
// copy, and the executor serves on.

// resident knows which programs load at once: those on file systems in memory, while
// the root, which has their libraries, is one. It is safe for concurrent use.
type resident struct {
	root   string // directory of the root file system
	mounts int    // /proc/self/mountinfo, 0 for none: then nothing is known

	mu    sync.Mutex
	known map[string]bool // paths looked at since the last mount
}

// maxKnown bounds resident.known.
const maxKnown = 64

// choose decides how a command is started, and looks for its program. by must have
// the agent's root directory.
func (s *resident) choose(l *Launch) {
	if s.mounts <= 0 || l.KillSession {
		return
	}
	path := l.find()
	if path == "" {
		return
	}
	if s.atOnce(path, s.isInMemory) && (l.Dir == "" || l.Dir == "/" || s.atOnce(l.Dir, onlyMemory)) {
		l.Path, l.AtOnce = path, true
	}
}

// find returns the path of the program, "" where it is not found or where that
// depends on the directory.
func (l *Launch) find() string {
	if strings.IndexByte(l.Path, '/') == 0 {
		return l.Path
	}
	if strings.IndexByte(l.Path, '/') > 0 || l.Path == "" {
		return ""
	}
	search := defaultPath
	for _, kv := range l.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	for dir := range strings.SplitSeq(search, ":") {
		if !strings.HasPrefix(dir, "/") {
			return ""
		}
		candidate := strings.TrimSuffix(dir, "/") + "/" + l.Path
		var st unix.Stat_t
		if unix.Stat(candidate, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 {
			return candidate
		}
	}
	return ""
}

func (s *resident) rootInMemory() bool { return onlyMemory(s.root) }

// atOnce reports whether a program loads, or a directory is entered, without waiting
// for anything. What look found out holds until something is mounted. On a file
// system that answers late, look waits, but nobody else does.
func (s *resident) atOnce(path string, look func(path string) bool) bool {
	s.mu.Lock()
	fd := []unix.PollFd{{Fd: int32(s.mounts), Events: unix.POLLPRI}}
	if n, err := sys.PollNow(fd); err != nil || n > 0 || len(s.known) >= maxKnown {
		s.known = nil
	}
	at, known := s.known[path]
	s.mu.Unlock()
	if known {
		return at
	}
	at = look(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = make(map[string]bool)
	}
	s.known[path] = at
	return at
}

// onlyMemory reports whether a path is on a file system in memory.
func onlyMemory(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && sys.InMemory(&fs)
}

// isInMemory reports whether a program is in memory, and is not a script, whose
// interpreter might be elsewhere.
func (s *resident) isInMemory(program string) bool {
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

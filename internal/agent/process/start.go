package process

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// Starter starts programs. Use NewStarter.
type Starter struct {
	// DevNull is a descriptor of /dev/null; 0 makes each command open its own.
	DevNull int

	shield func() (restore func())
	mu     sync.Mutex // one fork at a time
	slots  slots
}

// NewStarter returns a Starter. shield is called before every fork and returns
// what to call after it. mounts is a descriptor of /proc/self/mountinfo, 0 for
// none.
func NewStarter(devNull, mounts int, shield func() (restore func())) *Starter {
	return &Starter{DevNull: devNull, shield: shield, slots: newSlots(mounts)}
}

// Start forks and executes. The fork is serialised: between the shield and its
// restore the agent stands unprotected, and that should be short. resident says
// that the program is a file in memory, which loads at once.
func (s *Starter) Start(path string, argv []string, attr *syscall.ProcAttr, resident bool) (*Command, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !resident {
		s.slots.reserve(path, attr.Dir)
	}
	restore := s.shield()
	c := &Command{Pidfd: -1}
	attr.Sys.PidFD = &c.Pidfd
	var err error
	c.PID, err = syscall.ForkExec(path, argv, attr)
	restore()
	if err != nil {
		return nil, err
	}
	if c.Pidfd < 0 {
		// A kernel before 5.2. A goroutine waits for the end and closes a pipe.
		c.Pidfd, err = c.watch()
	}
	if err != nil {
		c.Kill(false)
		_, _ = c.Wait()
		return nil, err
	}
	return c, nil
}

// Launch starts a program; files are its first three descriptors.
type Launch func(path string, argv, env []string, dir string, files [3]int) (*Command, error)

// launch returns a Launch that starts programs as a user, nil for the agent's own.
func (s *Starter) launch(user *account) Launch {
	return func(path string, argv, env []string, dir string, files [3]int) (*Command, error) {
		return s.Start(path, argv, &syscall.ProcAttr{
			Dir:   dir,
			Env:   env,
			Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
			Sys:   &syscall.SysProcAttr{Setsid: true, Credential: user.credential()},
		}, false)
	}
}

// startError returns the reason of a failed start: the directory if that is one,
// else err.
func startError(dir string, err error) error {
	var st unix.Stat_t
	reason := unix.Stat(dir, &st)
	if reason == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		reason = unix.ENOTDIR
	}
	var errno syscall.Errno
	if dir == "" || reason == nil || !errors.As(reason, &errno) {
		return err
	}
	e := wire.ErrnoError(uint32(errno))
	e.Text = "cwd " + dir + ": " + e.Text
	return e
}

package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// defaultPath is PATH of a command's environment.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command is a started process, leader of its own session and process group.
type command struct {
	pid   int
	pidfd int

	mu      sync.Mutex
	reaped  bool
	expired bool
}

// kill ends the whole group. It is safe to call at any time: before the
// process is reaped its number cannot be another one's.
func (c *command) kill(expired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		c.expired = c.expired || expired
		_ = unix.Kill(-c.pid, unix.SIGKILL)
	}
}

// wait takes the ended process off the kernel's table.
func (c *command) wait() (unix.WaitStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ws unix.WaitStatus
	err := retry(func() error { return waitNow(c.pid, &ws) })
	c.reaped = true
	return ws, err
}

// run starts a command, takes its outputs and returns once it has ended.
func (o *op) run(r *wire.Run, body *body) (wire.Value, error) {
	var user *account
	if r.User != "" {
		var err error
		if user, err = lookUpAccount(r.User); err != nil {
			return nil, err
		}
	}
	env := environment(r, user)
	path, argv, err := program(r, env)
	if err != nil {
		return nil, err
	}

	var out, err2 output
	defer out.close()
	defer err2.close()
	if err := out.open(o, wire.StreamStdout); err != nil {
		return nil, err
	}
	if err := err2.open(o, wire.StreamStderr); err != nil {
		return nil, err
	}
	in, childIn, err := o.stdin(r, body)
	if err != nil {
		return nil, err
	}
	c, err := o.agent.start(path, argv, &syscall.ProcAttr{
		Dir:   cwd(r),
		Env:   env,
		Files: []uintptr{uintptr(childIn), uintptr(out.writer), uintptr(err2.writer)},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: user.credential()},
	})
	if childIn != o.agent.cfg.DevNull {
		unix.Close(childIn)
	}
	if err != nil {
		if in != nil {
			in.Close()
		}
		var st unix.Stat_t
		if e := unix.Stat(cwd(r), &st); e != nil {
			// The directory was the reason, not the program.
			err = cwdError(cwd(r), e)
		}
		return nil, err
	}
	defer closeNow(c.pidfd)

	var feeder sync.WaitGroup
	if in != nil {
		feeder.Add(1)
		go func() {
			defer feeder.Done()
			feed(in, body)
		}()
	}
	if r.TimeoutNS > 0 {
		t := time.AfterFunc(time.Duration(min(r.TimeoutNS, 1<<62)), func() { c.kill(true) })
		defer t.Stop()
	}
	stop := context.AfterFunc(o.ctx, func() { c.kill(false) })
	defer stop()

	collectErr := o.agent.collect(c.pidfd, &out, &err2)
	if collectErr != nil {
		c.kill(false)
	}
	ws, err := c.wait()
	if in != nil {
		// Nobody reads what is left, unless a child has it open: then its
		// standard input ends here.
		in.Close()
		feeder.Wait()
	}
	if err == nil {
		err = collectErr
	}
	if o.ctx.Err() != nil {
		err = context.Canceled
	}
	if err != nil {
		return nil, err
	}
	v := &wire.RunValue{Truncated: out.truncated || err2.truncated}
	switch {
	case c.expired && ws.Signaled() && ws.Signal() == unix.SIGKILL:
		v.Status = wire.TimedOut
	case ws.Signaled():
		v.Status, v.Code = wire.Signalled, uint32(ws.Signal())
	default:
		v.Code = uint32(ws.ExitStatus())
	}
	// What is small rides in the result itself.
	for _, s := range []*output{&out, &err2} {
		if s.n > o.inline {
			if err := s.flush(); err != nil {
				return nil, err
			}
		}
		o.inline -= s.n
	}
	v.Stdout, v.Stderr = out.rest(), err2.rest()
	return v, nil
}

func cwdError(dir string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	e := wire.ErrnoError(uint32(errno))
	e.Text = "cwd " + dir + ": " + e.Text
	return (*wireError)(e)
}

func cwd(r *wire.Run) string {
	if r.Cwd == "" {
		return "/"
	}
	return r.Cwd
}

// environment is the command's: the defaults, what the user's account changes,
// and what the caller gave, the last of a name winning.
func environment(r *wire.Run, user *account) []string {
	var base []string
	if !r.EnvClear {
		base = []string{"PATH=" + defaultPath, "HOME=/root", "TERM=linux", "LANG=C.UTF-8"}
		if user != nil {
			base[1] = "HOME=" + user.home
			base = append(base, "USER="+user.name, "LOGNAME="+user.name)
		}
	}
	if len(r.Env) == 0 {
		return base
	}
	env := make([]string, 0, len(base)+len(r.Env))
next:
	for _, kv := range base {
		name := kv[:strings.IndexByte(kv, '=')+1]
		for _, given := range r.Env {
			if strings.HasPrefix(given, name) {
				continue next
			}
		}
		env = append(env, kv)
	}
	return append(env, r.Env...)
}

// program decides what to execute.
func program(r *wire.Run, env []string) (path string, argv []string, err error) {
	if len(r.Args) == 0 {
		return "/bin/sh", []string{"/bin/sh", "-c", r.Shell}, nil
	}
	name := r.Args[0]
	if name == "" {
		return "", nil, syscall.ENOENT
	}
	if strings.IndexByte(name, '/') >= 0 {
		return name, r.Args, nil
	}
	search := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	err = syscall.ENOENT
	for dir := range strings.SplitSeq(search, ":") {
		if !strings.HasPrefix(dir, "/") {
			// Relative to where the command starts, as a shell there would.
			dir = strings.TrimSuffix(cwd(r), "/") + "/" + dir
		}
		candidate := strings.TrimSuffix(dir, "/") + "/" + name
		var st unix.Stat_t
		if unix.Stat(candidate, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if st.Mode&0o111 != 0 {
			return candidate, r.Args, nil
		}
		err = syscall.EACCES
	}
	return "", nil, err
}

// start forks and executes. The fork is serialised: between Shield and its
// restore the agent stands unprotected, and that should be short.
func (a *Agent) start(path string, argv []string, attr *syscall.ProcAttr) (*command, error) {
	a.spawn.Lock()
	defer a.spawn.Unlock()
	if path != a.executorPath() {
		a.slots.reserve(path, attr.Dir)
	}
	restore := a.cfg.Shield()
	c := &command{pidfd: -1}
	attr.Sys.PidFD = &c.pidfd
	var err error
	c.pid, err = syscall.ForkExec(path, argv, attr)
	restore()
	if err != nil {
		return nil, err
	}
	if c.pidfd < 0 {
		// A kernel before 5.2. Its end is then seen by a goroutine, which
		// closes a pipe.
		c.pidfd, err = c.watch()
	}
	if err != nil {
		c.kill(false)
		_, _ = c.wait()
		return nil, err
	}
	return c, nil
}

// watch stands in for a pidfd: the descriptor hangs up when the process ends.
func (c *command) watch() (int, error) {
	var p [2]int
	if err := pipe(&p); err != nil {
		return -1, err
	}
	go func() {
		defer unix.Close(p[1])
		_ = retry(func() error {
			return unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		})
	}()
	return p[0], nil
}

// stdin gives the child's descriptor 0, and our end of the pipe if bytes
// remain to be written while the command runs.
func (o *op) stdin(r *wire.Run, body *body) (ours *os.File, child int, err error) {
	if len(r.Stdin.Inline) == 0 && !r.Stdin.Streamed() {
		if null := o.agent.cfg.DevNull; null > 0 {
			return nil, null, nil
		}
		child, err = open("/dev/null", unix.O_RDONLY, 0)
		return nil, child, err
	}
	var p [2]int
	if err := pipe(&p); err != nil {
		return nil, -1, err
	}
	if err := unix.SetNonblock(p[1], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, -1, err
	}
	if !r.Stdin.Streamed() {
		// A pipe takes the inline bytes at once, as a rule.
		n, err := unix.Write(p[1], body.current)
		if err == nil && n == len(body.current) {
			body.current = nil
			unix.Close(p[1])
			return nil, p[0], nil
		}
		body.current = body.current[max(n, 0):]
	} else {
		_, _ = rawCall(unix.SYS_FCNTL, uintptr(p[1]), unix.F_SETPIPE_SZ, widePipe)
	}
	return os.NewFile(uintptr(p[1]), "stdin"), p[0], nil
}

// feed writes standard input until its end, or until nobody reads it.
func feed(w *os.File, body *body) {
	defer w.Close()
	for {
		p, err := body.next()
		if err != nil {
			return
		}
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}

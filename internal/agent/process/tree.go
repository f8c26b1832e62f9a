package process

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// The descendants of a process are found by the parents that the process table
// names. A process whose parent ends is adopted by another one, and cannot be found
// any more. So before any is killed, all are stopped, until a look at the table
// finds none that is new and none that runs: a stopped process makes no child, and
// loses none. What init had adopted by then lives on.

// table is the guest's process table: a descriptor of the root of procfs, 0 for
// /proc.
type table int

// entry is what the table says about a process.
type entry struct {
	pid, parent int
	state       byte
	start       string // when it began, in ticks
}

// stands reports whether the process makes no children for the time being.
func (e *entry) stands() bool {
	switch e.state {
	case 'T', 't', 'Z', 'X', 'x', 'D':
		return true
	}
	return false
}

func (e *entry) ended() bool { return e.state == 'Z' || e.state == 'X' || e.state == 'x' }

// open opens a file of procfs.
func (t table) open(name string, flags int) (fd int, err error) {
	if t == 0 {
		return sys.Open("/proc/"+name, flags, 0)
	}
	err = sys.Retry(func() error {
		fd, err = unix.Openat(int(t), name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// read returns a file of procfs.
func (t table) read(name string) (string, error) {
	fd, err := t.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var text []byte
	for p := make([]byte, 4096); ; {
		n, err := sys.Read(fd, p)
		if text = append(text, p[:n]...); err != nil || n == 0 {
			return string(text), err
		}
	}
}

// entry reads the line of one process.
func (t table) entry(pid int) (entry, error) {
	line, err := t.read(strconv.Itoa(pid) + "/stat")
	if err != nil {
		return entry{}, err
	}
	return parseEntry(pid, line)
}

// parseEntry reads "PID (NAME) STATE PARENT …"; the name may have anything in it.
func parseEntry(pid int, line string) (entry, error) {
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	const state, parent, start = 0, 1, 19
	if len(f) <= start || len(f[state]) != 1 || f[state][0] < 'A' || f[state][0] > 'z' {
		return entry{}, unix.EPROTO
	}
	number, err := strconv.Atoi(f[parent])
	if err != nil {
		return entry{}, unix.EPROTO
	}
	return entry{pid: pid, parent: number, state: f[state][0], start: f[start]}, nil
}

// names returns the numbers that a directory of procfs has entries for.
func (t table) names(dir string) ([]int, error) {
	fd, err := t.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []int
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return all, err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if number, err := strconv.Atoi(name); err == nil {
				all = append(all, number)
			}
		}
	}
}

// children returns the children of a process. It fails with ENOENT where the process
// has ended, or the kernel does not list them (CONFIG_PROC_CHILDREN).
func (t table) children(pid int) ([]entry, error) {
	tasks, err := t.names(fmt.Sprintf("%d/task", pid))
	if err != nil {
		return nil, err
	}
	var all []entry
	for i, task := range tasks {
		text, err := t.read(fmt.Sprintf("%d/task/%d/children", pid, task))
		if err != nil && i == 0 {
			return nil, err
		}
		for _, word := range strings.Fields(text) {
			if child, err := strconv.Atoi(word); err == nil {
				if e, err := t.entry(child); err == nil { // else it has ended meanwhile
					all = append(all, e)
				}
			}
		}
	}
	return all, nil
}

// all returns all processes by their parents.
func (t table) all() map[int][]entry {
	pids, err := t.names(".")
	if err != nil {
		return nil
	}
	all := map[int][]entry{}
	for _, pid := range pids {
		if e, err := t.entry(pid); err == nil {
			all[e.parent] = append(all[e.parent], e)
		}
	}
	return all
}

// descendants returns those of a process, each behind its parent.
func (t table) descendants(root int) []entry {
	children := func(pid int) []entry {
		c, err := t.children(pid)
		if err != nil {
			return nil
		}
		return c
	}
	first, err := t.children(root)
	if err != nil {
		// Either it has ended, or the whole table has to be read.
		table := t.all()
		children = func(pid int) []entry { return table[pid] }
		first = table[root]
	}
	seen := map[int]bool{root: true} // the table is not read at one moment
	var found []entry
	for i, next := 0, first; ; i++ {
		for _, e := range next {
			if !seen[e.pid] {
				seen[e.pid] = true
				found = append(found, e)
			}
		}
		if i == len(found) {
			return found
		}
		next = children(found[i].pid)
	}
}

// eldest returns the first child of a process, 0 for none.
func (t table) eldest(parent int) (pid int) {
	var first entry
	for _, e := range t.descendants(parent) {
		if e.parent == parent && (first.pid == 0 || len(e.start) < len(first.start) ||
			len(e.start) == len(first.start) && e.start < first.start) {
			first = e
		}
	}
	return first.pid
}

// target is a process that gets signals. Its number cannot become another one's.
type target struct {
	entry
	pidfd   int  // -1 where the kernel has none
	refused bool // the agent may not signal it
}

// aim returns a target for an entry of the table, or false when the process has
// ended.
func (t table) aim(e entry) (target, bool) {
	pidfd, err := unix.PidfdOpen(e.pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL {
		return target{}, false
	}
	now, err2 := t.entry(e.pid)
	if err2 != nil || now.start != e.start {
		if err == nil {
			unix.Close(pidfd)
		}
		return target{}, false
	}
	if err != nil {
		pidfd = -1 // a kernel before 5.3
	}
	return target{entry: now, pidfd: pidfd}, true
}

func (g *target) send(sig syscall.Signal) error {
	if g.pidfd < 0 {
		return unix.Kill(g.pid, sig)
	}
	return unix.PidfdSendSignal(g.pidfd, sig, nil, 0)
}

func (g *target) close() {
	if g.pidfd >= 0 {
		unix.Close(g.pidfd)
	}
}

// await waits for the end of the process, until a moment.
func (g *target) await(until time.Time) {
	if g.pidfd < 0 {
		return
	}
	ms := max(int(time.Until(until)/time.Millisecond), 0)
	_ = sys.Retry(func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(g.pidfd), Events: unix.POLLIN}}, ms)
		return err
	})
}

const (
	stopLimit = 2 * time.Second // until all stand; a process in the kernel may take long
	endLimit  = 2 * time.Second // until all have ended
	stopStep  = time.Millisecond
)

// end kills a process of ours and its descendants, the process last. A keeper is
// left alone, and ends when it sees that its command has. The process must not be
// reaped meanwhile.
func (t table) end(root int, keeper bool) {
	self := target{entry: entry{pid: root}, pidfd: -1} // ours: its number stays
	_ = self.send(unix.SIGSTOP)
	targets := map[int]target{}
	defer func() {
		for _, g := range targets {
			g.close()
		}
	}()
	for limit := time.Now().Add(stopLimit); ; time.Sleep(stopStep) {
		if t.stopNew(root, targets) || time.Now().After(limit) {
			break
		}
	}
	limit := time.Now().Add(endLimit)
	for _, g := range targets {
		_ = g.send(unix.SIGKILL)
	}
	for _, g := range targets {
		if !g.refused {
			g.await(limit)
		}
	}
	if keeper {
		_ = self.send(unix.SIGCONT)
		return
	}
	_ = self.send(unix.SIGKILL)
}

// stopNew stops the descendants that are not among the targets and adds them. It
// reports whether there were none, and all stand.
func (t table) stopNew(root int, targets map[int]target) (all bool) {
	all = true
	if e, err := t.entry(root); err == nil {
		all = e.stands()
	}
	for _, e := range t.descendants(root) {
		if e.ended() {
			continue
		}
		if known, ok := targets[e.pid]; ok && known.start == e.start {
			all = all && (e.stands() || known.refused)
			continue
		}
		all = false
		if g, ok := t.aim(e); ok {
			g.refused = g.send(unix.SIGSTOP) == unix.EPERM
			targets[e.pid] = g
		}
	}
	return all
}

// signal sends a signal to a process of ours and its descendants, parents first. A
// keeper is passed over.
func (t table) signal(root int, keeper bool, sig syscall.Signal) error {
	targets := map[int]target{}
	var order []target
	defer func() {
		for _, g := range order {
			g.close()
		}
	}()
	// A process that is being made while the table is read is found by the next
	// look. One that always makes further ones is not waited for.
	const looks = 5
	for range looks {
		before := len(order)
		for _, e := range t.descendants(root) {
			if known, ok := targets[e.pid]; e.ended() || ok && known.start == e.start {
				continue
			}
			if g, ok := t.aim(e); ok {
				targets[e.pid] = g
				order = append(order, g)
			}
		}
		if len(order) == before {
			break
		}
	}
	var err error = errHasExited
	if !keeper {
		if err = unix.Kill(root, sig); err == unix.ESRCH {
			err = errHasExited
		}
	}
	for _, g := range order {
		if e := g.send(sig); keeper && err == errHasExited && e != unix.ESRCH {
			err = e // the command's, which stands first
		}
	}
	return err
}

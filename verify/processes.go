//go:build verify

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one that descends from this program.
type process struct {
	pid, parent int
	command     string
}

// descendants returns the processes that descend from this one, without zombies, and
// reaps the zombies among its children. There must be no child that is waited for.
func descendants() []process {
	type entry struct {
		parent  int
		command string
		zombie  bool
	}
	all := map[int]entry{}
	list, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		at := strings.LastIndexByte(string(text), ')')
		if at < 0 {
			continue
		}
		fields := strings.Fields(string(text[at+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		_, name, _ := strings.Cut(string(text[:at]), "(")
		all[pid] = entry{parent, name, fields[0] == "Z" || fields[0] == "X"}
	}
	ours := func(pid int) bool {
		for range len(all) {
			if pid == os.Getpid() {
				return true
			}
			e, ok := all[pid]
			if !ok {
				return false
			}
			pid = e.parent
		}
		return false
	}
	var out []process
	for pid, e := range all {
		switch {
		case pid == os.Getpid() || !ours(pid):
		case e.zombie:
			if e.parent == os.Getpid() {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		default:
			out = append(out, process{pid, e.parent, e.command})
		}
	}
	return out
}

// endLimit is how long a killed run may take to be gone with all that it has started.
const endLimit = 5 * time.Second

// awaitEnd waits until nothing descends from this program any more, and returns how long
// that took and what is left at the limit, which it kills.
func awaitEnd() (time.Duration, []process) {
	began := time.Now()
	for {
		left := descendants()
		took := time.Since(began)
		if len(left) == 0 {
			return took, nil
		}
		if took > endLimit {
			for _, p := range left {
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
			for len(descendants()) > 0 {
				time.Sleep(time.Millisecond)
			}
			return took, left
		}
		time.Sleep(time.Millisecond)
	}
}

package proc

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// EndCommand kills the latest command that C code of this process has started, as system(3) and popen(3) do, with all
// its descendants, and says so by warn. It does nothing if no such command runs, or if ctx has ended. What a Starter
// has started is in a process group of its own and is left alone.
func EndCommand(ctx context.Context, warn func(format string, values ...any)) {
	if ctx.Err() != nil {
		return
	}
	children, _ := childrenOf(os.Getpid())
	children = slices.DeleteFunc(children, func(pid int) bool {
		group, err := unix.Getpgid(pid)
		return err != nil || group != unix.Getpgrp() || isCopy(pid)
	})
	if len(children) == 0 {
		return
	}
	latest := slices.MaxFunc(children, func(a, b int) int { return cmp.Compare(startOf(a), startOf(b)) })
	text := "a command"
	if words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", latest)); err == nil {
		text = string(bytes.TrimSpace(bytes.ReplaceAll(words, []byte{0}, []byte{' '})))
		text = strconv.Quote(strings.TrimSpace(strings.TrimPrefix(text, "sh -c ")))
		text = "`" + text[1:len(text)-1] + "`"
	}
	killTree(latest)
	warn("%s is killed, since what waits for it has to end", text)
}

// isCopy reports whether a process runs this very program: what a Starter starts does, until it is in its own group.
func isCopy(pid int) bool {
	own, err := os.Readlink(ownProgram)
	its, itsErr := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err != nil || itsErr != nil || own == its
}

// startOf returns when a process has begun, in ticks since the boot of the host; 0 is not known.
func startOf(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// Behind the name, which may contain any character, are the fields from the third on; the 22nd is the start.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0
	}
	n, _ := strconv.ParseUint(string(fields[19]), 10, 64)
	return n
}

// killTree kills a process and its descendants. Each is stopped before its children are listed, so that it starts no
// more of them.
func killTree(pid int) {
	if unix.Kill(pid, unix.SIGSTOP) != nil {
		return
	}
	children, _ := childrenOf(pid)
	for _, child := range children {
		killTree(child)
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

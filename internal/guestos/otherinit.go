package guestos

import (
	"context"
	"path"
	"slices"
	"strings"
)

// NoSystemdError is returned for a wait that needs systemd in a guest that has another init.
type NoSystemdError struct{ Init string }

func (e *NoSystemdError) Error() string {
	if e.Init == agentName {
		return "the guest's init is Provium's minimal one (" + e.Init + "), not systemd: it starts nothing by " +
			"itself; wait for a file, a port or a command"
	}
	return "the guest's init is `" + e.Init + "`, not systemd: wait for a file, a port or a command"
}

// agentName is what PID 1 is called that is Provium's.
const agentName = "provium-agent"

// otherInits are the names of inits that stay PID 1. The first is that of sysvinit's and of busybox's.
var otherInits = []string{"init", "openrc-init", "runit", "s6-svscan", "dinit"}

// isFinal reports whether PID 1, whose name is init, is the init of another system than systemd's, and stays it. One in
// an initramfs may become any, and so may a script, whose name is that of its file.
func isFinal(ctx context.Context, g Guest, init string) (bool, error) {
	if !slices.Contains(otherInits, init) {
		return false, nil
	}
	if left, _, err := hasLeft(ctx, g); !left || err != nil {
		return false, err
	}
	cmdline, err := g.ReadFile(ctx, "/proc/1/cmdline")
	if err != nil {
		if _, ok := refused(err); ok {
			return false, nil
		}
		return false, err
	}
	first, _, _ := strings.Cut(string(cmdline), "\x00")
	first, _, _ = strings.Cut(first, " ") // sysvinit has its runlevel there
	return path.Base(first) == init, nil
}

package guestos

import (
	"context"
	"fmt"
	"strings"

	"provium/internal/deadline"
	"provium/internal/guest"
	"provium/internal/ready"
)

// AwaitReady waits for the condition of a boot whose agent has answered. It returns at once for one that concerns
// no more than the agent, or the console.
func AwaitReady(ctx context.Context, g Guest, limit *deadline.Deadline, c ready.Condition) error {
	switch c.Kind {
	case ready.Init:
		return await(ctx, limit, "the init of the root file system", func(ctx context.Context) (bool, string, error) {
			return hasLeft(ctx, g)
		})
	case ready.Systemd:
		return awaitBoot(ctx, g, limit, true)
	case ready.Command:
		return await(ctx, limit, "the success of `"+c.Text+"`", func(ctx context.Context) (bool, string, error) {
			return succeeds(ctx, g, c.Text)
		})
	}
	return nil
}

// hasLeft reports whether PID 1 has left the initramfs, or is one that stays there.
func hasLeft(ctx context.Context, g Guest) (left bool, state string, err error) {
	text, err := g.ReadFile(ctx, "/proc/1/mountinfo")
	if why, ok := refused(err); ok {
		return false, "/proc/1/mountinfo: " + why, nil
	}
	if err != nil {
		return false, "", err
	}
	comm, err := g.ReadFile(ctx, "/proc/1/comm")
	if _, ok := refused(err); err != nil && !ok {
		return false, "", err
	}
	init := strings.TrimSpace(string(comm[:min(len(comm), maxComm)]))
	if init == agentName || rootType(string(text)) != initramfs {
		return true, "", nil
	}
	return false, fmt.Sprintf("PID 1 is `%s`, and is in the initramfs", init), nil
}

// initramfs is the type of the file system that an initramfs is unpacked to.
const initramfs = "rootfs"

// maxComm is how long the name of a process may be, in bytes.
const maxComm = 64

// rootType returns the type of the file system that is mounted last at / by a /proc/PID/mountinfo, see proc(5).
func rootType(mountinfo string) (kind string) {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[4] != "/" {
			continue
		}
		for i, f := range fields {
			if f == "-" && i+1 < len(fields) {
				kind = fields[i+1]
				break
			}
		}
	}
	return kind
}

// succeeds reports whether a command of the guest's shell has exit code 0.
func succeeds(ctx context.Context, g Guest, command string) (ok bool, state string, err error) {
	r, err := g.Run(ctx, guest.RunRequest{Shell: command})
	if why, ok := refused(err); ok {
		return false, "it cannot be run: " + why, nil
	}
	if err != nil {
		return false, "", err
	}
	if r.Status == guest.Exited && r.ExitCode == 0 {
		return true, "", nil
	}
	state = fmt.Sprintf("exit code %d", r.ExitCode)
	if r.Status == guest.Signalled {
		state = fmt.Sprintf("signal %d", r.Signal)
	}
	if said := strings.TrimSpace(string(r.Stderr)); said != "" {
		state += ": " + said[:min(len(said), maxSaid)]
	}
	return false, state, nil
}

// maxSaid is how much of a command's errors is shown, in bytes.
const maxSaid = 500

package guestos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"provium/internal/deadline"
	"provium/internal/guest"
)

// systemdRuns returns "" when systemd is the guest's init and can be asked, else what there is instead. A guest in
// which systemd will not come any more is an error.
func systemdRuns(ctx context.Context, g Guest) (state string, err error) {
	if _, err = g.Stat(ctx, "/etc/initrd-release", true); err == nil {
		return "the guest is in its initrd", nil
	}
	if _, err = g.Stat(ctx, "/run/systemd/private", true); err == nil {
		return "", nil
	}
	if _, ok := refused(err); !ok {
		return "", err
	}
	comm, err := g.ReadFile(ctx, "/proc/1/comm")
	if _, ok := refused(err); ok {
		return "the guest has no /proc", nil
	}
	if err != nil {
		return "", err
	}
	init := strings.TrimSpace(string(comm[:min(len(comm), maxComm)]))
	if init == agentName {
		return "", &NoSystemdError{Init: init}
	}
	if final, err := isFinal(ctx, g, init); final || err != nil {
		return "", cmp.Or(err, error(&NoSystemdError{Init: init}))
	}
	return fmt.Sprintf("PID 1 is `%s`, and systemd cannot be asked", init), nil
}

// BootError is returned for a boot that systemd has ended in another state than "running".
type BootError struct {
	State string // such as "degraded" or "maintenance"
	Units []UnitError
}

func (e *BootError) Error() string {
	text := "the boot ended " + e.State
	for _, u := range e.Units {
		text += "\n" + u.Error()
	}
	return text
}

// AwaitBoot waits until the guest's systemd has carried out all that its boot consists of. It fails with a
// *BootError when a unit has failed.
func AwaitBoot(ctx context.Context, g Guest, limit *deadline.Deadline) error {
	return awaitBoot(ctx, g, limit, false)
}

// awaitBoot is AwaitBoot; with degraded, units may have failed.
func awaitBoot(ctx context.Context, g Guest, limit *deadline.Deadline, degraded bool) error {
	err := await(ctx, limit, "the end of the guest's boot", func(ctx context.Context) (bool, string, error) {
		if state, err := systemdRuns(ctx, g); state != "" || err != nil {
			return false, state, err
		}
		// It ends with the boot, or when systemd starts itself again.
		r, err := g.Run(ctx, guest.RunRequest{Path: "systemctl", Args: []string{"is-system-running", "--wait"},
			Env: systemdEnv()})
		if why, ok := refused(err); ok {
			return false, "systemctl cannot be run: " + why, nil
		}
		if err != nil {
			return false, "", err
		}
		switch state := strings.TrimSpace(string(r.Stdout)); {
		case state == "running", state == "degraded" && degraded:
			return true, "", nil
		case state == "degraded", state == "maintenance":
			return false, "", &BootError{State: state, Units: failedUnits(ctx, g)}
		default:
			return false, "systemd is in state `" + state + "`", nil
		}
	})
	var late *NotYetError
	if errors.As(err, &late) && ctx.Err() == nil {
		if jobs := jobs(ctx, g); jobs != "" {
			late.State = "systemd still has these jobs:" + underneath(jobs)
		}
	}
	return err
}

// jobs returns what systemd is about to do, "" when it cannot be asked.
func jobs(ctx context.Context, g Guest) string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, _, err := ask(ctx, g, "systemctl", "list-jobs", "--no-legend", "--full")
	if err != nil || r == nil {
		return ""
	}
	return string(r.Stdout[:min(len(r.Stdout), maxShown)])
}

const (
	askTime  = 5 * time.Second // for what explains an error
	maxShown = 4 << 10         // bytes of it
)

// maxFailed is how many failed units an error describes.
const maxFailed = 5

func failedUnits(ctx context.Context, g Guest) (failed []UnitError) {
	r, _, err := ask(ctx, g, "systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full")
	if err != nil || r == nil {
		return nil
	}
	for line := range strings.Lines(string(r.Stdout)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || CheckUnit(fields[0]) != nil {
			continue
		}
		if len(failed) == maxFailed {
			break
		}
		failed = append(failed, UnitError{Unit: fields[0], State: "failed", Journal: lastOf(ctx, g, fields[0])})
	}
	return failed
}

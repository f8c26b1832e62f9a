package guestos

import (
	"context"
	"fmt"
	"strings"

	"provium/internal/deadline"
	"provium/internal/guest"
)

// UnitStates returns the states that AwaitUnit waits for.
func UnitStates() []string { return []string{"active", "inactive", "failed"} }

// CheckUnit returns an error for what cannot be the name of a unit.
func CheckUnit(name string) error {
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsAny(name, "\x00\n /*?[") {
		return fmt.Errorf("%q is no name of a unit (such as \"ssh.service\" or \"multi-user.target\")", name)
	}
	return nil
}

// UnitError is returned for a unit that cannot reach the state that is waited for.
type UnitError struct {
	Unit    string
	State   string // such as "failed (exit-code)", or why it is not loaded
	Journal string // its last lines, may be ""
}

func (e *UnitError) Error() string {
	return fmt.Sprintf("the unit %s is %s%s", e.Unit, e.State, underneath(e.Journal))
}

// underneath returns lines to be shown below an error, or "".
func underneath(lines string) string {
	if lines = strings.TrimRight(lines, "\n"); lines == "" {
		return ""
	}
	return "\n  " + strings.ReplaceAll(lines, "\n", "\n  ")
}

// AwaitUnit waits until a unit of systemd is in a state of UnitStates. It does not wait for a unit that systemd does
// not have, and not for "active" of one that has failed.
func AwaitUnit(ctx context.Context, g Guest, limit *deadline.Deadline, name, want string) error {
	what := fmt.Sprintf("the unit %s in state %s", name, want)
	return await(ctx, limit, what, func(ctx context.Context) (bool, string, error) {
		if state, err := systemdRuns(ctx, g); state != "" || err != nil {
			return false, state, err
		}
		r, state, err := ask(ctx, g, "systemctl", "show",
			"--property=Id,LoadState,LoadError,ActiveState,SubState,Result,Job", "--", name)
		if r == nil {
			return false, state, err
		}
		u := parseUnit(r.Stdout)
		if u.active == want && (u.load == "loaded" || want != "inactive") {
			return true, "", nil
		}
		switch {
		case u.job != "" || u.active == "":
		case u.load != "loaded":
			return false, "", &UnitError{Unit: name, State: "not loaded (" + u.load + ")" + u.loadError}
		case want == "active" && u.active == "failed":
			return false, "", &UnitError{Unit: name, State: u.String(), Journal: lastOf(ctx, g, name)}
		}
		return false, "it is " + u.String(), nil
	})
}

// unit is what systemctl shows of a unit.
type unit struct{ load, loadError, active, sub, result, job string }

func (u unit) String() string {
	text := u.active
	if u.sub != "" && u.sub != u.active {
		text += " (" + u.sub + ")"
	}
	if u.result != "" && u.result != "success" {
		text += ", result " + u.result
	}
	return text
}

// parseUnit reads the output of `systemctl show`.
func parseUnit(text []byte) (u unit) {
	for line := range strings.Lines(string(text)) {
		key, v, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch key {
		case "LoadState":
			u.load = v
		case "LoadError":
			if _, text, _ := strings.Cut(v, " "); strings.Trim(text, `" `) != "" {
				u.loadError = ": " + strings.Trim(text, `" `)
			}
		case "ActiveState":
			u.active = v
		case "SubState":
			u.sub = v
		case "Result":
			u.result = v
		case "Job":
			if v != "0" {
				u.job = v
			}
		}
	}
	return u
}

// lastOf returns the last lines of a unit's journal, or why they cannot be had.
func lastOf(ctx context.Context, g Guest, name string) string {
	r, state, err := askJournal(ctx, g, "--boot", "--quiet", "--output=short-monotonic", "--lines=20",
		"--unit="+name)
	switch {
	case err != nil:
		return ""
	case r == nil:
		return state
	}
	return string(r.Stdout)
}

// systemdEnv is the environment of the programs of systemd.
func systemdEnv() map[string]string {
	return map[string]string{"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "LC_ALL": "C"}
}

// askJournal runs journalctl as ask does, once journald has written down what was said before: on a busy machine it is
// behind.
func askJournal(ctx context.Context, g Guest, args ...string) (r *guest.RunResult, state string, err error) {
	// Where it cannot be told to, what there is is read.
	if _, _, err := ask(ctx, g, "journalctl", "--sync"); err != nil {
		return nil, "", err
	}
	return ask(ctx, g, "journalctl", args...)
}

// ask runs a program of systemd. r is nil when it failed, and state says why.
func ask(ctx context.Context, g Guest, program string, args ...string) (r *guest.RunResult, state string, err error) {
	r, err = g.Run(ctx, guest.RunRequest{Path: program, Args: args, Env: systemdEnv()})
	if why, ok := refused(err); ok {
		return nil, program + " cannot be run: " + why, nil
	}
	if err != nil {
		return nil, "", err
	}
	if r.Status != guest.Exited || r.ExitCode != 0 {
		text := strings.TrimSpace(string(r.Stderr))
		if text == "" {
			text = fmt.Sprintf("exit code %d", r.ExitCode)
		}
		return nil, program + ": " + text, nil
	}
	return r, "", nil
}

package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/lua"
	"provium/internal/script/value"
)

const runForms = "run(command), run(command, {arguments}) or run(command, {args = {arguments}, timeout = …})"

// runRequest reads the arguments of run, in any of its forms.
func runRequest(a value.Args) (guest.RunRequest, error) {
	var r guest.RunRequest
	if err := a.AtMost(2, runForms); err != nil {
		return r, err
	}
	if a.Len() == 0 || a.Value(1) == nil {
		return r, a.Errorf("expects at least a command string")
	}
	command, ok := a.Value(1).(string)
	switch {
	case !ok:
		return r, a.Errorf("first argument must be a string, got %s", lua.TypeName(a.Value(1)))
	case command == "":
		return r, a.Errorf("the command must not be empty")
	case strings.ContainsRune(command, 0):
		return r, a.Errorf("the command holds a NUL byte: %s", value.Quote(value.Clip(command, 80)))
	}
	switch second := a.Value(2).(type) {
	case nil:
		r.Shell = command
		return r, nil
	case *lua.Table:
		pairs := value.SortedPairs(second)
		entries := 0
		for _, p := range pairs {
			if _, isInt := p.Key.(int64); isInt {
				entries++
			}
		}
		if entries == len(pairs) {
			r.Path = command
			var err error
			r.Args, err = commandArgs(a.Func+": arguments", second)
			return r, err
		}
		if entries > 0 {
			return r, a.Errorf("the options have array entries beside keys (put the arguments into args)")
		}
		o, err := a.Options(2)
		if err != nil {
			return r, err
		}
		err = fillRunRequest(&r, command, o)
		return r, err
	default:
		return r, a.Errorf("second argument must be a table, got %s", lua.TypeName(second))
	}
}

// fillRunRequest reads the option form of run.
func fillRunRequest(r *guest.RunRequest, command string, o value.Options) error {
	r.Shell = command
	var err error
	switch t := o.Get("args").(type) {
	case nil:
	case *lua.Table:
		r.Shell, r.Path = "", command
		if r.Args, err = commandArgs(o.Func+": opts.args", t); err != nil {
			return err
		}
	default:
		return o.TypeError("args", "an array of strings")
	}
	if r.Env, err = environment(o); err != nil {
		return err
	}
	if r.EnvClear, err = o.Bool("env_clear", false); err != nil {
		return err
	}
	if r.Cwd, err = o.Str("cwd", ""); err != nil {
		return err
	}
	if o.Has("cwd") && (r.Cwd == "" || strings.ContainsRune(r.Cwd, 0)) {
		return o.Errorf("cwd", "is no path: %s", value.Quote(r.Cwd))
	}
	stdin, err := o.Str("stdin", "")
	if err != nil {
		return err
	}
	r.Stdin = []byte(stdin)
	if r.User, err = runUser(o); err != nil {
		return err
	}
	if r.Setsid, err = o.Bool("setsid", false); err != nil {
		return err
	}
	if r.KillSession, err = o.Bool("kill_session", false); err != nil {
		return err
	}
	r.Timeout, err = runTimeout(o)
	return err
}

// commandArgs reads the arguments of a program: strings, or numbers as tostring shows them.
func commandArgs(what string, t *lua.Table) ([]string, error) {
	for _, p := range value.SortedPairs(t) {
		if _, isInt := p.Key.(int64); !isInt {
			return nil, fmt.Errorf("%s has the key %s, it must be an array", what, value.Format(p.Key))
		}
	}
	items, err := value.Sequence(t)
	if err != nil {
		return nil, fmt.Errorf("%s %w", what, err)
	}
	out := make([]string, len(items))
	for i, v := range items {
		if out[i], err = commandText(v); err != nil {
			return nil, fmt.Errorf("%s: entry %d %w", what, i+1, err)
		}
	}
	return out, nil
}

// commandText is a string or number that goes into an argument list or environment.
func commandText(v lua.Value) (string, error) {
	switch v.(type) {
	case string, int64, float64:
	default:
		return "", fmt.Errorf("must be a string or a number, got %s", lua.TypeName(v))
	}
	s := value.Format(v)
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("holds a NUL byte: %s", value.Quote(value.Clip(s, 80)))
	}
	return s, nil
}

func environment(o value.Options) (map[string]string, error) {
	t, ok := o.Get("env").(*lua.Table)
	if !ok {
		if o.Has("env") {
			return nil, o.TypeError("env", "a table of strings")
		}
		return nil, nil
	}
	env := map[string]string{}
	for _, p := range value.SortedPairs(t) {
		name, ok := p.Key.(string)
		if !ok || name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, o.Errorf("env", "has the key %s, which is no name of a variable", value.FormatKey(p.Key))
		}
		text, err := commandText(p.Value)
		if err != nil {
			return nil, o.Errorf("env", "entry `%s` %w", name, err)
		}
		env[name] = text
	}
	return env, nil
}

// runUser is a user's name or number.
func runUser(o value.Options) (string, error) {
	switch v := o.Get("user").(type) {
	case nil:
		return "", nil
	case string:
		if v == "" || strings.ContainsRune(v, 0) {
			return "", o.Errorf("user", "is no user name: %s", value.Quote(v))
		}
		return v, nil
	case int64:
		if v < 0 || v > 1<<32-2 {
			return "", o.Errorf("user", "is no user number: %d", v)
		}
		return strconv.FormatInt(v, 10), nil
	}
	return "", o.TypeError("user", "a user name or number")
}

// runTimeout is the limit of a command. Zero asks for expiry at once, which the request
// spells as a nanosecond, since its own zero is no limit.
func runTimeout(o value.Options) (time.Duration, error) {
	var limit time.Duration
	switch {
	case o.Has("timeout") && o.Has("timeout_ms"):
		return 0, fmt.Errorf("%s: opts.timeout and opts.timeout_ms are the same limit (give one)", o.Func)
	case o.Has("timeout"):
		var err error
		if limit, err = o.Duration("timeout", 0); err != nil {
			return 0, err
		}
	case o.Has("timeout_ms"):
		ms, _, err := o.Integer("timeout_ms")
		if err != nil {
			return 0, err
		}
		if ms < 0 {
			return 0, o.Errorf("timeout_ms", "must be a finite, non-negative number, got %d", ms)
		}
		limit = time.Duration(min(ms, int64(1<<63-1)/1e6)) * time.Millisecond
	default:
		return 0, nil
	}
	return max(limit, 1), nil
}

package api

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// resultOutput is how much of an output a failed command shows: its end.
const resultOutput = 4096

// shortOutput is how long an output may be that is shown in a message which could have it below.
const shortOutput = 200

// CommandError is the error of assert_ok.
type CommandError struct{ Result *guest.RunResult }

// Error returns how the command ended, and what it has printed.
func (e *CommandError) Error() string { return e.text(quoteEnd) }

// Short is Error without the outputs that IsLong.
func (e *CommandError) Short() string {
	return e.text(func(out []byte) string {
		if IsLong(out) {
			return fmt.Sprintf("(%d bytes, below)", len(out))
		}
		return value.Quote(string(out))
	})
}

// IsLong reports whether an output is better shown in lines of its own than in a message.
func IsLong(out []byte) bool { return len(out) > shortOutput || bytes.Count(out, []byte("\n")) > 1 }

func (e *CommandError) text(quote func(out []byte) string) string {
	var b strings.Builder
	r := e.Result
	fmt.Fprintf(&b, "command failed: status=%s", r.Status)
	switch r.Status {
	case guest.Exited:
		fmt.Fprintf(&b, " code=%d", r.ExitCode)
	case guest.Signalled:
		fmt.Fprintf(&b, " signal=%d (%s)", r.Signal, signalName(r.Signal))
	}
	fmt.Fprintf(&b, " stdout=%s stderr=%s", quote(r.Stdout), quote(r.Stderr))
	if r.Reason != "" {
		fmt.Fprintf(&b, " (%s)", r.Reason)
	}
	return b.String()
}

// commandError is the error of assert_ok, nil when the command succeeded.
func commandError(r *guest.RunResult) error {
	if r.ExitCode == 0 {
		return nil
	}
	return &CommandError{r}
}

// quoteEnd quotes an output; of a long one only the end, where failures speak.
func quoteEnd(out []byte) string {
	if len(out) <= resultOutput {
		return value.Quote(string(out))
	}
	return fmt.Sprintf("(%d bytes) ...%s", len(out), value.Quote(string(out[len(out)-resultOutput:])))
}

// signalName is the name of a Linux signal, by number.
func signalName(n int) string {
	const firstRealTime = 34
	if name := unix.SignalName(syscall.Signal(n)); name != "" {
		return name
	}
	if n >= firstRealTime && n <= 64 {
		return fmt.Sprintf("SIGRTMIN+%d", n-firstRealTime)
	}
	return "unknown signal"
}

// resultText is tostring of a result.
func resultText(r *guest.RunResult) string {
	return fmt.Sprintf("RunResult{ status=%s, stdout=<%d bytes>, stderr=<%d bytes> }",
		r.Status, len(r.Stdout), len(r.Stderr))
}

func newResultType() *lua.Type {
	return &lua.Type{
		Name:   "RunResult",
		Fields: []string{"exit_code", "status", "signal", "timed_out", "stdout", "stderr", "truncated"},
		Index: func(_ *lua.Call, obj any, key lua.Value) (lua.Value, bool, error) {
			r := obj.(*guest.RunResult)
			switch key {
			case "exit_code":
				return int64(r.ExitCode), true, nil
			case "status":
				return fmt.Sprint(r.Status), true, nil
			case "signal":
				if r.Status == guest.Signalled {
					return int64(r.Signal), true, nil
				}
				return nil, true, nil
			case "timed_out":
				return r.Status == guest.TimedOut, true, nil
			case "stdout":
				return r.Stdout, true, nil
			case "stderr":
				return r.Stderr, true, nil
			case "truncated":
				return r.Truncated, true, nil
			}
			return nil, false, nil
		},
		ToString: func(_ *lua.Call, obj any) string { return resultText(obj.(*guest.RunResult)) },
		Methods: map[string]lua.GoFunc{
			"ok": func(c *lua.Call) ([]lua.Value, error) {
				return []lua.Value{binding.Object(c).(*guest.RunResult).ExitCode == 0}, nil
			},
			"assert_ok": func(c *lua.Call) ([]lua.Value, error) {
				return value.Results(commandError(binding.Object(c).(*guest.RunResult)), c.Arg(1))
			},
		},
	}
}

func resultHandle(x *env, r *guest.RunResult) lua.Value {
	return x.State.NewUserdata(x.Types.Result, r)
}

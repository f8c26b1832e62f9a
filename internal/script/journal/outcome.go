package journal

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/lua"
	"provium/internal/script/value"
)

const (
	outcomeText   = 200 // bytes of a result that are told
	outcomeOutput = 400 // bytes of a command's output that are told
)

// Outcome is what a call returned, in short.
type Outcome struct {
	Text     string // one line
	Failed   bool   // it raised an error
	ExitCode *int64 // of a command
	Errno    uint32 // of a system call, or of the guest's error
	Output   string // the beginning of what a command has printed
}

// OutcomeOf returns what a call returned: values, or err.
func OutcomeOf(values []lua.Value, err error) Outcome {
	if err != nil {
		return failure(err)
	}
	if len(values) == 0 {
		return Outcome{}
	}
	switch v := values[0].(type) {
	case *lua.Userdata:
		if r, ok := v.Object().(*guest.RunResult); ok {
			return command(r)
		}
		return Outcome{}
	case *lua.Table:
		return table(v)
	case string:
		return Outcome{Text: bytesText(len(v)) + " " + value.Quote(value.Clip(v, 60))}
	case []byte:
		return Outcome{Text: bytesText(len(v))}
	case nil:
		if len(values) > 1 { // nil, errno
			if n, ok := values[1].(int64); ok && n > 0 && n < 4096 {
				return Outcome{Text: errnoText(n), Errno: uint32(n)}
			}
		}
		return Outcome{Text: "nil"}
	default:
		return Outcome{Text: value.Format(v)}
	}
}

func failure(err error) Outcome {
	o := Outcome{Failed: true}
	text := err.Error()
	var raised *lua.Error
	if errors.As(err, &raised) {
		text = raised.Message
	}
	first, _, _ := strings.Cut(text, "\n")
	o.Text = value.Clip(first, outcomeText)
	var failed *guest.OpError
	if errors.As(err, &failed) && failed.Errno > 0 {
		o.Errno = uint32(failed.Errno)
	}
	return o
}

// command is the outcome of a command that has ended.
func command(r *guest.RunResult) Outcome {
	var o Outcome
	switch r.Status {
	case guest.Exited:
		code := int64(r.ExitCode)
		o.ExitCode, o.Text = &code, fmt.Sprintf("exit %d", code)
	case guest.Signalled:
		o.Text = fmt.Sprintf("signal %d", r.Signal)
		if name := unix.SignalName(unix.Signal(r.Signal)); name != "" {
			o.Text += " (" + name + ")"
		}
	default:
		o.Text = strings.ReplaceAll(fmt.Sprint(r.Status), "_", " ")
	}
	stdout, stderr := head(r.Stdout, outcomeOutput), ""
	if r.Status != guest.Exited || r.ExitCode != 0 { // what it complains of comes first
		stderr = head(r.Stderr, outcomeOutput)
	}
	o.Output = head([]byte(stderr+stdout), outcomeOutput)
	return o
}

func head(b []byte, n int) string { return string(b[:min(len(b), n)]) }

// table is the outcome of a call that returned a table: that of a system call, or another.
func table(t *lua.Table) Outcome {
	ret, isCall := t.Get("ret").(int64)
	errno, ok := t.Get("errno").(int64)
	if !isCall || !ok {
		return Outcome{Text: tableText(t)}
	}
	o := Outcome{Text: fmt.Sprintf("ret %d", ret)}
	if errno > 0 && errno < 4096 {
		o.Errno = uint32(errno)
		o.Text += ", " + errnoText(errno)
	}
	return o
}

// tableText shows the fields of a small table.
func tableText(t *lua.Table) string {
	const most = 12
	n := 0
	for range t.All() {
		if n++; n > most {
			return fmt.Sprintf("table of %d", t.Len())
		}
	}
	return value.Clip(Fields(t), outcomeText)
}

// Fields shows a table as it is written in Lua. Tables in it are "{...}".
func Fields(t *lua.Table) string {
	var fields []string
	for _, p := range value.SortedPairs(t) {
		text := Argument(p.Value)
		if key, named := p.Key.(string); named {
			text = key + " = " + text
		}
		fields = append(fields, text)
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// Argument shows a value in a call: handles by their names, long texts cut.
func Argument(v lua.Value) string {
	const keep = 40
	switch v := v.(type) {
	case string:
		return value.Quote(value.Clip(v, keep))
	case *lua.Table:
		return "{...}"
	case *lua.Function:
		return "function"
	case *lua.Userdata:
		switch o := v.Object().(type) {
		case interface{ Name() string }:
			return o.Name()
		case interface{ ID() string }:
			return o.ID()
		}
	}
	return value.Format(v)
}

func errnoText(n int64) string {
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", n)
}

func bytesText(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}

package guest

import (
	"errors"
	"fmt"
	"time"

	"provium/internal/wire"
)

var (
	// ErrLinkLost is wrapped by the error of every operation that was under
	// way, or was begun, after the connection to the agent ended without a
	// better reason having come from Client.Fail or Config.Lost.
	ErrLinkLost = errors.New("agent link lost")
	// ErrVersion is wrapped when host and agent speak different versions of
	// the protocol; the text names both.
	ErrVersion = errors.New("protocol version mismatch")
	// ErrReplaced is wrapped when another run of the agent answers on the link: the
	// guest's kernel or its agent was replaced without a reset.
	ErrReplaced = errors.New("another agent answers")
	// ErrClosed is the reason after Client.Close.
	ErrClosed = errors.New("agent link closed")
)

// OpError is a failure the guest reported: the guest's fault or the test's,
// never the link's.
type OpError struct {
	VM    string // the name of the guest's VM, or ""
	Op    string // the operation, such as "read_file"
	Path  string // the path or program concerned, or ""
	Errno uint32 // Linux errno, 0 when no system call failed
	Name  string // "ENOENT", or ""
	Text  string // "No such file or directory (ENOENT, os error 2) [errno 2]"
}

func (e *OpError) Error() string {
	text := e.Op + ": " + e.Text
	if e.Path != "" {
		text = e.Op + " " + e.Path + ": " + e.Text
	}
	if e.VM != "" {
		text = "vm `" + e.VM + "`: " + text
	}
	return text
}

// SilentError is the failure of an operation that the guest has not answered in time. It
// does not say what has become of the operation in the guest.
type SilentError struct {
	VM      string        // the name of the guest's VM, or ""
	Op      string        // the operation, such as "read_file"
	Path    string        // the path concerned, or ""
	Limit   time.Duration // that has passed
	Timeout bool          // Limit is that of the operation, and not the one on silence
	State   string        // why the guest could not answer ("paused"), "" if its vCPUs were running
	Charged string        // of what is ours of the limit, behind a space; "" if that is all
}

func (e *SilentError) Error() string {
	text := e.Op
	if e.Path != "" {
		text += " " + e.Path
	}
	if e.Timeout {
		text += fmt.Sprintf(": timed out after %v, and the guest has not confirmed the end", e.Limit)
	} else {
		text += fmt.Sprintf(": the guest was silent for %v", e.Limit)
	}
	text += e.Charged
	if e.State != "" {
		text += " (it is " + e.State + ")"
	}
	if e.VM != "" {
		text = "vm `" + e.VM + "`: " + text
	}
	return text
}

func opError(req wire.Request, e *wire.Error) *OpError {
	out := &OpError{Op: req.Op(), Errno: e.Errno, Name: e.Name, Text: e.Text}
	switch r := req.(type) {
	case *wire.Run:
		if len(r.Args) > 0 {
			out.Path = r.Args[0]
		}
	case *wire.ProcStart:
		if len(r.Args) > 0 {
			out.Path = r.Args[0]
		}
	case *wire.TailFile:
		out.Path = r.Path
	case *wire.ReadFile:
		out.Path = r.Path
	case *wire.WriteFile:
		out.Path = r.Path
	case *wire.Stat:
		out.Path = r.Path
	case *wire.ListDir:
		out.Path = r.Path
	case *wire.Mkdir:
		out.Path = r.Path
	case *wire.Unlink:
		out.Path = r.Path
	case *wire.Rename:
		out.Path = r.From + " -> " + r.To
	}
	return out
}

// badAnswer is the error for an answer that does not fit what was asked.
func badAnswer(op string, v wire.Value) error {
	return fmt.Errorf("%s: agent answered with a value of type %T", op, v)
}

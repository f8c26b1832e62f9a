package wire

import (
	"math"

	"provium/internal/msgpack"
)

// Requests about things that outlive the operation that made them: processes
// and, in the files beside this one, executors. The agent names each by a
// handle, a number that is never used twice in one boot.

// ProcStart starts a command and leaves it running. It answers with a
// ProcValue. Standard input stays open for ProcWrite after the initial bytes;
// TimeoutNS is not used.
type ProcStart struct {
	Run
	Worker uint64 // executor that starts it, with its credentials and namespaces; 0: the VM's
	// NoStdin has it start with /dev/null as standard input; there are no bytes.
	NoStdin bool
	// TTY has it lead a session whose terminal, of that size, is its standard input and
	// both outputs. ProcOutput brings what appears there.
	TTY  bool
	Size TerminalSize
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct{ Rows, Cols uint16 }

// ProcWait waits for the end of a process and answers with a RunValue. At the
// limit it is killed with its descendants.
type ProcWait struct {
	Handle    uint64
	TimeoutNS uint64 // 0: none
	NoOutput  bool   // the outputs are not sent, and readers hold them up as before
}

// ProcSignal sends a signal to a process that runs, and to its descendants.
type ProcSignal struct {
	Handle uint64
	Signal uint32
}

// ProcStatus answers at once with a ProcValue.
type ProcStatus struct{ Handle uint64 }

// ProcWrite writes to a process's standard input and answers with a CountValue
// once all is taken.
type ProcWrite struct {
	Handle uint64
	Data   Bulk
}

// ProcCloseStdin ends a process's standard input behind what is being written.
type ProcCloseStdin struct{ Handle uint64 }

// ProcResize sets the size of a process's terminal.
type ProcResize struct {
	Handle uint64
	Size   TerminalSize
}

// ProcOutput streams one output of a process from its first byte on, on
// StreamData, and ends with it. An empty Data frame precedes the bytes. With Last it
// streams the last so many bytes that are there now, and ends.
type ProcOutput struct {
	Handle uint64
	Stderr bool
	Last   uint64 // 0: from the first byte on
}

// MaxLastOutput is the most that ProcOutput streams with Last.
const MaxLastOutput = 64 << 10

// ProcClose forgets a process. One that still runs gets SIGTERM and, two
// seconds later, SIGKILL, and is waited for.
type ProcClose struct{ Handle uint64 }

// TailFile streams what is added to a file on StreamData until it is
// cancelled. An empty Data frame says that the file is open.
type TailFile struct {
	Path    string
	FromEnd bool   // Start counts from the end of the file, and is not positive
	Start   int64  // byte to begin with
	Worker  uint64 // whose credentials, namespaces and directory count; 0: the agent's
}

// ProcValue describes a process.
type ProcValue struct {
	Handle uint64
	PID    uint32 // in the guest's first PID namespace
	Ended  bool
	Status RunStatus // once it ended
}

// CountValue is a number of bytes.
type CountValue uint64

// Op returns the name of the operation.
func (*ProcStart) Op() string      { return "proc_start" }
func (*ProcWait) Op() string       { return "proc_wait" }
func (*ProcSignal) Op() string     { return "proc_signal" }
func (*ProcStatus) Op() string     { return "proc_status" }
func (*ProcWrite) Op() string      { return "proc_write" }
func (*ProcCloseStdin) Op() string { return "proc_close_stdin" }
func (*ProcResize) Op() string     { return "proc_resize" }
func (*ProcOutput) Op() string     { return "proc_output" }
func (*ProcClose) Op() string      { return "proc_close" }
func (*TailFile) Op() string       { return "tail_file" }

func newProcessRequest(op string) Request {
	switch op {
	case "proc_start":
		return &ProcStart{}
	case "proc_wait":
		return &ProcWait{}
	case "proc_signal":
		return &ProcSignal{}
	case "proc_status":
		return &ProcStatus{}
	case "proc_write":
		return &ProcWrite{}
	case "proc_close_stdin":
		return &ProcCloseStdin{}
	case "proc_resize":
		return &ProcResize{}
	case "proc_output":
		return &ProcOutput{}
	case "proc_close":
		return &ProcClose{}
	case "tail_file":
		return &TailFile{}
	}
	return newSyscallRequest(op)
}

func (r *ProcStart) fields(f *fields) {
	r.Run.fields(f)
	f.OptUint("worker", r.Worker)
	f.OptBool("no_stdin", r.NoStdin)
	f.OptBool("tty", r.TTY)
	r.Size.fields(f)
}

func (r *ProcStart) field(d *decoder, key string) bool {
	switch key {
	case "worker":
		r.Worker = d.Uint()
	case "no_stdin":
		r.NoStdin = d.Bool()
	case "tty":
		r.TTY = d.Bool()
	default:
		return r.Size.field(d, key) || r.Run.field(d, key)
	}
	return true
}

func (s TerminalSize) fields(f *fields) {
	f.OptUint("rows", uint64(s.Rows))
	f.OptUint("cols", uint64(s.Cols))
}

func (s *TerminalSize) field(d *decoder, key string) bool {
	switch key {
	case "rows":
		s.Rows = d.uint16("rows")
	case "cols":
		s.Cols = d.uint16("cols")
	default:
		return false
	}
	return true
}

func (d *decoder) uint16(what string) uint16 {
	v := d.Uint()
	if v > math.MaxUint16 {
		d.Fail("%s %d", what, v)
	}
	return uint16(v)
}

func onlyUint(d *decoder, key, want string, v *uint64) bool {
	if key != want {
		return false
	}
	*v = d.Uint()
	return true
}

func (r *ProcWait) fields(f *fields) {
	f.Uint("handle", r.Handle)
	f.OptUint("timeout_ns", r.TimeoutNS)
	f.OptBool("no_output", r.NoOutput)
}

func (r *ProcWait) field(d *decoder, key string) bool {
	if key == "no_output" {
		r.NoOutput = d.Bool()
		return true
	}
	return onlyUint(d, key, "handle", &r.Handle) || onlyUint(d, key, "timeout_ns", &r.TimeoutNS)
}

func (r *ProcSignal) fields(f *fields) {
	f.Uint("handle", r.Handle)
	f.Uint("signal", uint64(r.Signal))
}

func (r *ProcSignal) field(d *decoder, key string) bool {
	if key == "signal" {
		r.Signal = d.Uint32()
		return true
	}
	return onlyUint(d, key, "handle", &r.Handle)
}

func (r *ProcStatus) fields(f *fields) { f.Uint("handle", r.Handle) }

func (r *ProcStatus) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle)
}

func (r *ProcWrite) fields(f *fields) {
	f.Uint("handle", r.Handle)
	r.Data.put(f, "data", "data_len")
}

func (r *ProcWrite) field(d *decoder, key string) bool {
	switch key {
	case "data":
		r.Data.Inline = d.Bytes()
	case "data_len":
		r.Data.length(d)
	default:
		return onlyUint(d, key, "handle", &r.Handle)
	}
	return true
}

func (r *ProcCloseStdin) fields(f *fields) { f.Uint("handle", r.Handle) }

func (r *ProcCloseStdin) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle)
}

func (r *ProcResize) fields(f *fields) {
	f.Uint("handle", r.Handle)
	r.Size.fields(f)
}

func (r *ProcResize) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle) || r.Size.field(d, key)
}

func (r *ProcOutput) fields(f *fields) {
	f.Uint("handle", r.Handle)
	f.OptBool("stderr", r.Stderr)
	f.OptUint("last", r.Last)
}

func (r *ProcOutput) field(d *decoder, key string) bool {
	if key == "stderr" {
		r.Stderr = d.Bool()
		return true
	}
	return onlyUint(d, key, "handle", &r.Handle) || onlyUint(d, key, "last", &r.Last)
}

func (r *ProcClose) fields(f *fields) { f.Uint("handle", r.Handle) }

func (r *ProcClose) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle)
}

func (r *TailFile) fields(f *fields) {
	f.Str("path", r.Path)
	f.OptBool("from_end", r.FromEnd)
	if r.Start != 0 {
		f.Int("start", r.Start)
	}
	f.OptUint("worker", r.Worker)
}

func (r *TailFile) field(d *decoder, key string) bool {
	switch key {
	case "path":
		r.Path = d.Str()
	case "from_end":
		r.FromEnd = d.Bool()
	case "start":
		r.Start = d.Int()
	default:
		return onlyUint(d, key, "worker", &r.Worker)
	}
	return true
}

func (*ProcValue) kind() string { return "proc" }
func (CountValue) kind() string { return "count" }

func (v *ProcValue) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Uint("handle", v.Handle)
	f.Uint("pid", uint64(v.PID))
	if v.Ended {
		f.Str("status", v.Status.String())
	}
	return f.Buf
}

func (v CountValue) append(b []byte) []byte { return msgpack.AppendUint(b, uint64(v)) }

func (d *decoder) procValue() Value {
	v := &ProcValue{}
	d.EachField("proc", func(key string) bool {
		switch key {
		case "handle":
			v.Handle = d.Uint()
		case "pid":
			v.PID = d.Uint32()
		case "status":
			v.Ended, v.Status = true, d.runStatus()
		default:
			return false
		}
		return true
	})
	return v
}

func (d *decoder) runStatus() RunStatus {
	s := d.Raw()
	for _, v := range []RunStatus{Exited, Signalled, TimedOut} {
		if v.String() == string(s) {
			return v
		}
	}
	d.Fail("run status %.20q", s)
	return Exited
}

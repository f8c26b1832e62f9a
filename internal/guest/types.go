package guest

import (
	"time"

	"provium/internal/wire"
)

// Info is what the agent told about itself and the guest in the handshake.
type Info struct {
	AgentVersion string
	GuestOS      string   // "linux" and the kernel's release
	BootID       string   // differs with every boot of a guest
	Features     []string // of the agent
	Init         string   // what PID 1 is: "minimal", "image" or "other"
	AgentID      string   // of this run of the agent: no other run has it
}

// Status says how a command ended.
type Status = wire.RunStatus

// How a command ended; their String is the name tests see.
const (
	Exited    = wire.Exited
	Signalled = wire.Signalled
	TimedOut  = wire.TimedOut
)

// RunRequest is a command. Either Shell or Path is set.
type RunRequest struct {
	Shell    string            // text for /bin/sh -c
	Path     string            // program, searched in the command's PATH
	Args     []string          // its arguments, without the program's name
	Env      map[string]string // added to the agent's environment
	EnvClear bool              // Env is the whole environment
	Cwd      string            // default: that of the executor, "/" unless a call changed it
	Stdin    []byte            // fed to standard input, then end of file
	User     string            // name or number, default: that of the executor
	// Timeout is the limit on wall-clock time in the guest, 0 for none; a
	// caller that wants an immediate expiry passes a nanosecond.
	Timeout time.Duration
	// NoStdin has StartProcess start it with /dev/null as standard input.
	NoStdin bool
	// Terminal has StartProcess give it a terminal of that size, as the leader of a session
	// of its own. What appears there is its standard output.
	Terminal *TerminalSize
	// Setsid makes the command the leader of a session of its own.
	Setsid bool
	// KillSession has whatever ends the command, or sends it a signal, reach also
	// what has left its tree of processes, as daemons do.
	KillSession bool
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize = wire.TerminalSize

// RunResult is a command's end.
type RunResult struct {
	Status    Status
	ExitCode  int // -1 when signalled, -2 when timed out
	Signal    int // 0 unless signalled
	Stdout    []byte
	Stderr    []byte
	Truncated bool // an output was cut at 64 MiB
	// Reason says what the guest lacks for a program that was not found, "" if that is not
	// known. The guest does not say it itself.
	Reason string
}

// FileInfo describes a file of the guest.
type FileInfo struct {
	Size    int64 // bytes
	MtimeNS int64 // nanoseconds since 1970
	Perm    uint32
	Type    wire.EntryType // its String is the name tests see
	FileNumbers
}

// DirEntry is one entry of a directory.
type DirEntry struct {
	Name string
	Type wire.EntryType
}

// FileNumbers are what else a file system knows of a file.
type FileNumbers = wire.FileNumbers

// Perm is a file mode, or the default when it is zero.
type Perm struct {
	set  bool
	bits uint32
}

// Mode returns the Perm with these permission bits, of which 0o7777 count.
func Mode(bits uint32) Perm { return Perm{true, bits & 0o7777} }

// Bits are the permission bits, false when the default is wanted.
func (p Perm) Bits() (uint32, bool) { return p.bits, p.set }

// Clock is what the guest's clocks showed at one moment, in nanoseconds.
type Clock struct {
	RealtimeNS  int64 // since 1970
	MonotonicNS int64
	BoottimeNS  int64
}

// Op is one operation of a batch.
type Op interface{ request() wire.Request }

// The operations a batch may have.
type (
	// RunOp runs a command; its Result has Run.
	RunOp struct{ RunRequest }
	// ReadFileOp reads a file; its Result has Data.
	ReadFileOp struct{ Path string }
	// WriteFileOp creates or replaces a file.
	WriteFileOp struct {
		Path string
		Data []byte
		Perm Perm
	}
	// StatOp describes a file; its Result has Stat.
	StatOp struct {
		Path   string
		Follow bool
	}
	// ListDirOp lists a directory; its Result has Entries.
	ListDirOp struct{ Path string }
	// MkdirOp creates a directory.
	MkdirOp struct {
		Path    string
		Parents bool
		Perm    Perm
	}
	// UnlinkOp removes a file or an empty directory.
	UnlinkOp struct{ Path string }
	// RenameOp renames a file.
	RenameOp struct{ From, To string }
)

// A FileCall is an Op, too; its Result has Data when it answers with some.
var _ Op = FileCall{}

// Result is how one operation of a batch ended. The fields beside Err are set
// as the operation's type says.
type Result struct {
	Err     error // *OpError
	Run     *RunResult
	Data    []byte
	Stat    *FileInfo
	Entries []DirEntry
	Syscall *SyscallResult
}

func (o RunOp) request() wire.Request {
	r := &wire.Run{
		Shell:     o.Shell,
		EnvClear:  o.EnvClear,
		Cwd:       o.Cwd,
		User:      o.User,
		TimeoutNS: uint64(max(o.Timeout, 0)),

		Setsid:      o.Setsid,
		KillSession: o.KillSession,
	}
	if o.Path != "" {
		r.Args = append(append(make([]string, 0, 1+len(o.Args)), o.Path), o.Args...)
	}
	for _, k := range sortedKeys(o.Env) {
		r.Env = append(r.Env, k+"="+o.Env[k])
	}
	return r
}

func (o ReadFileOp) request() wire.Request {
	return &wire.ReadFile{Path: o.Path, Max: wire.MaxReadFile}
}

func (o WriteFileOp) request() wire.Request {
	return &wire.WriteFile{Path: o.Path, SetPerm: o.Perm.set, Perm: o.Perm.bits}
}

func (o StatOp) request() wire.Request    { return &wire.Stat{Path: o.Path, NoFollow: !o.Follow} }
func (o ListDirOp) request() wire.Request { return &wire.ListDir{Path: o.Path} }

func (o MkdirOp) request() wire.Request {
	return &wire.Mkdir{Path: o.Path, Parents: o.Parents, SetPerm: o.Perm.set, Perm: o.Perm.bits}
}

func (o UnlinkOp) request() wire.Request { return &wire.Unlink{Path: o.Path} }
func (o RenameOp) request() wire.Request { return &wire.Rename{From: o.From, To: o.To} }

// Renew describes what Client.Renew does to a guest.
type Renew = wire.Renew

// Network and Interface describe what Client.Network sets up.
type (
	Network   = wire.Network
	Interface = wire.Interface
)

// MaxReadFile is the largest file that is read into memory, in bytes.
const MaxReadFile = wire.MaxReadFile

// EntryType is a kind of file; its String is the name tests see.
type EntryType = wire.EntryType

// Kinds of files.
const (
	TypeOther       = wire.TypeOther
	TypeFile        = wire.TypeFile
	TypeDirectory   = wire.TypeDirectory
	TypeSymlink     = wire.TypeSymlink
	TypeFIFO        = wire.TypeFIFO
	TypeSocket      = wire.TypeSocket
	TypeBlockDevice = wire.TypeBlockDevice
	TypeCharDevice  = wire.TypeCharDevice
)

package agent

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"provium/internal/agent/executor"
	"provium/internal/agent/netconf"
	"provium/internal/agent/process"
	"provium/internal/agent/session"
	"provium/internal/agent/sys"
	"provium/internal/wire"
)

// Config is what an Agent works with. Its zero value serves.
type Config struct {
	Version  string   // told in the handshake
	GuestOS  string   // likewise
	BootID   string   // likewise
	Features []string // likewise
	Init     string   // likewise: what PID 1 is
	// Root is called before every operation on files or processes, and moves
	// the agent to the root directory of PID 1. It waits while PID 1 is about to
	// change that, and reports whether it is another one than before. Nil leaves
	// the root alone.
	Root func(ctx context.Context) (moved bool, err error)
	// RootMoves reports whether Root has something to wait for or to move. It does
	// not block. Nil reports that it has not.
	RootMoves func() bool
	// Shield brackets the start of every child: it is called before the fork
	// and returns what to call after it. Nil does nothing. The agent is exempt
	// from the OOM killer, and children must not inherit that.
	Shield func() (restore func())
	// Executor is a descriptor of the executor's program, 0 for none.
	Executor int
	// DevNull is a descriptor of /dev/null, for commands without input; 0
	// makes the agent open its own.
	DevNull int
	// Mounts is a descriptor of /proc/self/mountinfo, 0 for none. With one, programs
	// in memory are started in a way that costs less.
	Mounts int
	// OutputLimit is how many bytes of an output of a process are kept, and how far one may
	// run ahead of an open reader; 0 is wire.MaxOutput.
	OutputLimit int64
	// Commands are what commands have unless the host says something else.
	Commands process.Defaults
	// AwaitDisk carries out the operation of that name. Nil refuses it.
	AwaitDisk func(ctx context.Context, serial, bus string, gone bool) error
	// OpenPacePort opens the port by which the host chooses when the guest meets it. Nil refuses that.
	OpenPacePort func() (fd int, err error)
	// Random is a writable descriptor of /dev/urandom; 0 makes the agent open
	// its own.
	Random int
	// Dev is a descriptor of the directory of devices; 0 makes the agent use /dev.
	Dev int
	// Proc and Sys are descriptors of the roots of procfs and sysfs, for the
	// network; 0 makes the agent use /proc and /sys.
	Proc, Sys int
}

// Agent serves sessions. Use New.
type Agent struct {
	cfg     Config
	server  *session.Server
	waiters *sys.Waiters
	procs   *process.Table
	execs   *executor.Pool
	net     *netconf.Network
	handles atomic.Uint64 // the last one given out
	moves   atomic.Uint64 // how many times the root directory has changed

	machineIDs machineIDs
}

// New returns an Agent.
func New(cfg Config) *Agent {
	if cfg.Root == nil {
		cfg.Root = func(context.Context) (bool, error) { return false, nil }
	}
	if cfg.RootMoves == nil {
		cfg.RootMoves = func() bool { return false }
	}
	if cfg.AwaitDisk == nil {
		cfg.AwaitDisk = func(context.Context, string, string, bool) error { return errors.ErrUnsupported }
	}
	if cfg.Shield == nil {
		cfg.Shield = func() func() { return func() {} }
	}
	// A kernel that refuses leaves blocked file operations to the host's patience.
	_ = sys.PrepareInterrupts()
	a := &Agent{cfg: cfg, waiters: sys.NewWaiters(), net: netconf.New(cfg.Proc, cfg.Sys)}
	a.machineIDs.start, _ = now()
	newHandle := func() uint64 { return a.handles.Add(1) }
	starter := process.NewStarter(cfg.DevNull, cfg.Proc, a.waiters, cfg.Shield)
	a.procs = process.NewTable(cfg.Mounts, cfg.OutputLimit, cfg.Commands, a.waiters, newHandle)
	a.execs = executor.NewPool(cfg.Executor, starter, a.waiters, newHandle)
	a.server = session.NewServer(dispatcher{a}, wire.HelloOk{
		AgentVersion:  cfg.Version,
		GuestOS:       cfg.GuestOS,
		BootID:        cfg.BootID,
		AgentFeatures: cfg.Features,
		Init:          cfg.Init,
		AgentID:       identity(cfg.Random),
	})
	return a
}

// Serve takes sessions from conn until a read fails, and returns that error:
// io.EOF when the other side is gone. Operations of the session are stopped
// then, but not waited for.
func (a *Agent) Serve(conn io.ReadWriter) error { return a.server.Serve(conn) }

// Wait ends the executors, and returns when every operation and every process
// has ended. It must be called after the last Serve.
func (a *Agent) Wait() {
	a.server.Wait()
	a.execs.Stop()
	a.procs.WaitAll()
	a.waiters.Close()
}

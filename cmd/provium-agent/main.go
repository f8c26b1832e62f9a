// Command provium-agent is the part of Provium that runs inside a guest and
// carries out what tests ask for. It is a part of the file provium-agent, whose C
// program (internal/agent/init) starts it: with --init-pipe=N and --init-name=PATH
// when that one is PID 1.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/boot"
	"provium/internal/agent/process"
)

// version is set by the linker.
var version = "dev"

func main() {
	// The heap is a few buffers; what a bulk transfer adds should not stay.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(24 << 20)
	unix.Umask(0o022)
	ignoreChildSignals()
	if err := run(os.Args[1:]); err != nil {
		report(err)
		os.Exit(1)
	}
}

// ignoreGroupSignals has the agent survive a signal to its process group, which it
// shares with commands: "kill 0" in a script must not end it. Executors take the
// default actions back.
func ignoreGroupSignals() {
	for _, sig := range []unix.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
	} {
		setAction(sig, 1) // SIG_IGN
	}
}

// ignoreChildSignals takes the runtime's handler off SIGCHLD, which would do
// nothing but interrupt a thread for every command that ends: children are
// waited for by other means. The default action, unlike SIG_IGN, leaves them to
// be reaped.
func ignoreChildSignals() { setAction(unix.SIGCHLD, 0) }

// setAction sets what a signal does: 0 is the default action, 1 to ignore it.
func setAction(sig unix.Signal, handler uintptr) {
	act := struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}{handler: handler}
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0,
		unsafe.Sizeof(act.mask), 0, 0)
}

// report writes to the console, one line per failure.
func report(err error) {
	fmt.Fprintln(os.Stderr, "provium-agent: "+strings.ReplaceAll(err.Error(), "\n", "\nprovium-agent: "))
}

func run(args []string) error {
	init := boot.PID1{Pipe: -1}
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--init-name="); ok {
			init.Name = name
			continue
		}
		v, ok := strings.CutPrefix(a, "--init-pipe=")
		n, err := strconv.Atoi(v)
		if !ok || err != nil || n < 0 {
			return fmt.Errorf("argument %q: only --init-pipe=N and --init-name=PATH are known", a)
		}
		init.Pipe = n
		unix.CloseOnExec(n)
	}
	if init.Pipe >= 0 {
		// A service is ended by its manager; this one by nobody.
		ignoreGroupSignals()
	}
	system, err := boot.Open()
	if err != nil {
		return err
	}
	kind, err := bringUp(system, init)
	if err != nil {
		return err
	}
	a, err := newAgent(system, kind)
	if err != nil {
		return err
	}
	port, err := system.OpenLink(kind, report)
	if errors.Is(err, boot.ErrServed) && init.Pipe >= 0 {
		// An image may start an agent of its own as PID 1, which follows one that was
		// added to it. The guest can be driven.
		report(err)
		return nil
	}
	if err != nil {
		return err
	}
	for {
		if err := a.Serve(port); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if err := port.AwaitHost(); err != nil {
			return err
		}
	}
}

// bringUp prepares the guest for the link. The pipe of init is negative when PID 1 is
// not ours. Failures that leave a guest to work with are reported.
func bringUp(system *boot.System, init boot.PID1) (kind boot.Init, err error) {
	kind = boot.InitOther
	if init.Pipe >= 0 {
		// While the kernel sets the port up, the rest can be done. The link
		// answers only after that: NICs and disks attached by the first
		// operations find their drivers.
		if err := errors.Join(boot.LoadEarly(), boot.LoadLate()); err != nil {
			var needed *boot.NeededError
			if errors.As(err, &needed) {
				return kind, err
			}
			report(err)
		}
		if kind, err = system.Prepare(init, report); err != nil {
			return kind, err
		}
		if kind == boot.InitMinimal {
			system.WatchPowerButton(report)
		}
	} else if err := errors.Join(boot.LoadEarly(), boot.LoadLate()); err != nil {
		report(err)
	}
	// The drivers are there, and with them the disks of the start.
	if err := system.LinkDisks(); err != nil {
		report(err)
	}
	return kind, nil
}

// newAgent returns the agent with the descriptors that it keeps open.
func newAgent(system *boot.System, kind boot.Init) (*agent.Agent, error) {
	null, err := system.DevNull()
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	random, err := system.Random()
	if err != nil {
		return nil, fmt.Errorf("open /dev/urandom: %w", err)
	}
	mounts, err := system.Mounts()
	if err != nil {
		return nil, fmt.Errorf("open mount table: %w", err)
	}
	follow, moves := system.Follow, system.RootMoves
	if kind == boot.InitMinimal {
		follow, moves = nil, nil // it stays where it is, and needs no look before every operation
	}
	// Held open, it is there also after the image's files are gone. Without it
	// everything but system calls works.
	executor, err := system.Program()
	if err != nil {
		executor = 0
	}
	return agent.New(agent.Config{
		Version:   version,
		GuestOS:   system.OS(),
		BootID:    system.BootID(),
		Init:      string(kind),
		Root:      follow,
		RootMoves: moves,
		Shield:    system.Shield,
		DevNull:   null,
		Mounts:    mounts,
		Executor:  executor,
		Random:    random,

		Commands:  process.Defaults(system.Commands()),
		AwaitDisk: system.AwaitDisk,

		OpenPacePort: system.OpenPacePort,

		Dev:  system.Dev(),
		Proc: system.Proc(),
		Sys:  system.Sys(),
	}), nil
}

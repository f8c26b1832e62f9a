package hostfault

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// One is a fault of a run: the Nth call fails with one of its errors.
type One struct {
	N       uint64 // from 1
	Choice  uint64 // which of its errors, in turn
	Lasting bool   // all later calls that can fail with the error do
	// Slow is how much longer each call that writes to a file takes, as on a slow disk, for 20 s in all.
	Slow time.Duration
	// SlowToo is the beginning of the name of other programs for which reading is slow, too, for 20 s in all.
	SlowToo string
}

// Result is what became of a fault.
type Result struct {
	Calls  uint64 // counted up to the fault
	What   string // the call and its error; "" if there were fewer calls
	Slowed int    // calls that have taken longer
	// SlowedToo are such calls of other programs.
	SlowedToo int
}

// Exec makes this process a supervised one and then starts the program argv in its place.
// It must be a process of Run, and returns only if that fails.
func Exec(argv, env []string) error {
	if _, err := join(); err != nil {
		return err
	}
	if err := syscall.Exec(argv[0], argv, env); err != nil {
		return fmt.Errorf("host faults: start %s: %w", argv[0], err)
	}
	return nil
}

// Run runs a command whose program calls Exec, and has a call fail of the processes that
// run program. It returns the command's error. After limit, and when ctx ends, it kills
// the process.
func Run(ctx context.Context, cmd *exec.Cmd, program string, fault One, limit time.Duration) (Result, error) {
	slow := slowness{each: fault.Slow, also: fault.SlowToo}
	s, err := supervise(cmd, &slow, func(_, tid int) bool { return executable(tid) == program })
	if err != nil {
		return Result{}, err
	}
	s.gate.arm(fault.N, fault.Choice, fault.Lasting)
	kill := func() { _ = cmd.Process.Kill() }
	defer context.AfterFunc(ctx, kill)()
	defer time.AfterFunc(limit, kill).Stop()
	err = cmd.Wait()
	result := Result{Calls: s.gate.seen.Load(), What: s.gate.what(), Slowed: int(slow.own.calls.Load()),
		SlowedToo: int(slow.others.calls.Load())}
	go func() { _ = s.Wait() }() // descendants may outlive it
	return result, err
}

package rerun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"provium/internal/inspect"
	"provium/internal/machine"
	"provium/internal/qemu"
	"provium/internal/recording"
)

// Options are what a recorded guest runs on.
type Options struct {
	Dir     string // private, for its files; short, as qemu.Config has it
	QEMU    string // program; "" is that of the recording
	Starter qemu.Starter
	// Image makes an image of QEMU's with room for size bytes.
	Image   func(ctx context.Context, path string, size int64) error
	Console io.Writer // gets what the guest prints again; nil drops it
}

// Session is a recorded guest that runs again. It must be closed.
type Session struct {
	r       *Recording
	m       *qemu.Machine
	dir     string
	stopped chan struct{}
	events  atomic.Int64
	pace    *pace
}

// Start prepares the guest to run again. With isRewindable it can go back, which takes time and space on disk.
func (r *Recording) Start(ctx context.Context, o Options, isRewindable bool) (*Session, error) {
	s := &Session{r: r, dir: o.Dir, stopped: make(chan struct{}, 1)}
	memory, err := r.unpackMemory(filepath.Join(o.Dir, "memory"))
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	state, err := os.Open(r.base + recording.StateFile)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	log := &recording.Log{Replay: true, Path: filepath.Join(o.Dir, "log")}
	if err := r.unpackLog(log.Path); err != nil {
		return nil, err
	}
	if isRewindable {
		log.States = filepath.Join(o.Dir, "states")
		if err := o.Image(ctx, log.States, 4*r.Memory); err != nil {
			return nil, err
		}
	}
	program := o.QEMU
	if program == "" {
		program = r.Program
	}
	s.m, err = qemu.Start(ctx, qemu.Config{Binary: program, Name: r.VM, Dir: o.Dir, Machine: r.Machine,
		Memory: r.Memory,
		Kernel: r.Kernel, Cmdline: r.Cmdline, FirmwareConsole: r.FirmwareConsole, Shape: machine.Shape{Record: true},
		Starter: o.Starter, Replay: log, Serial: o.Console, HVC: o.Console,
		Restore: &qemu.Restore{File: memory, State: state, StateLen: r.StateLen, Hold: true, Check: r.fits},
		OnEvent: func(e qemu.Event) {
			s.events.Add(1)
			if e.Name == "STOP" {
				select {
				case s.stopped <- struct{}{}:
				default:
				}
			}
		}})
	if err != nil {
		return nil, err
	}
	s.pace = newPace(s.m, r.End, &s.events)
	if isRewindable {
		err = s.rewindable(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// fits returns an error for a QEMU of another version than that of the recording.
func (r *Recording) fits(version string) error {
	if version == r.QEMU {
		return nil
	}
	return fmt.Errorf("the recording is of QEMU %s, and this one is %s: only the same can run it again "+
		"(--qemu PATH names another one)", r.QEMU, version)
}

func (r *Recording) unpackLog(to string) error {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = r.copy(out, recording.LogFile, r.LogLen)
	return errors.Join(err, out.Close())
}

// rewindable saves the state of the guest, which has not run yet, for its way back.
func (s *Session) rewindable(ctx context.Context) error {
	// Newer versions hold the image back until then; older ones have no such command.
	_ = s.m.Monitor().Execute(ctx, "blockdev-set-active", map[string]bool{"active": true}, nil)
	var text string
	err := s.m.Monitor().Execute(ctx, "human-monitor-command", map[string]string{"command-line": "savevm init"}, &text)
	if text = strings.TrimSpace(text); err == nil && text != "" {
		err = errors.New(text)
	}
	if err != nil {
		return fmt.Errorf("the beginning of the recording cannot be saved: %w", err)
	}
	return nil
}

// patience is how long gdb waits for an answer of QEMU, in seconds. It takes what comes later for the answer to another
// question.
const patience = 60

// RunTo has the guest run to a moment, and returns when it stands there.
func (s *Session) RunTo(ctx context.Context, to Moment) error {
	monitor := s.m.Monitor()
	err := monitor.Execute(ctx, "replay-break", map[string]int64{"icount": to.At}, nil)
	if err == nil {
		err = s.m.Cont(ctx)
	}
	if err != nil {
		return s.ended(fmt.Errorf("the recording cannot be run: %w", err))
	}
	watched, stop := context.WithCancel(ctx)
	still := make(chan error, 1)
	go func() { still <- s.pace.watch(watched) }()
	isSeen := false
	defer func() {
		stop()
		if !isSeen {
			<-still
		}
	}()
	select {
	case <-s.stopped:
		return nil
	case <-s.m.Done():
		return s.ended(errors.New("the log ends before " + to.Text))
	case err := <-still:
		isSeen = true
		return err
	}
}

// Watch returns an error when the guest stands still for too long although the debugger has it run, and when ctx ends.
func (s *Session) Watch(ctx context.Context) error { return s.pace.watch(ctx) }

// ended adds what QEMU has printed before its end.
func (s *Session) ended(err error) error {
	select {
	case <-s.m.Done():
	case <-time.After(lookEach):
		return err
	}
	if said, _ := s.m.Exit(); said != "" {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said))
	}
	return err
}

// Debugger starts QEMU's stub, and returns the words of the command line of a gdb that connects to it. The kernel's
// symbols are those of the profile's vmlinux, or else its own table. notes says what is missing, for people.
func (s *Session) Debugger(ctx context.Context, gdb string, to Moment, more []string) (cmd *exec.Cmd,
	notes string, err error) {
	socket, err := s.m.GDB(ctx)
	if err != nil {
		return nil, "", err
	}
	args := []string{"-q", "-nx", "-iex", "set debuginfod enabled off", "-ex", "set pagination off",
		"-ex", fmt.Sprint("set remotetimeout ", patience)}
	symbols, offset, err := inspect.Symbols(ctx, s.m)
	_, statErr := os.Stat(s.r.Vmlinux)
	switch {
	case s.r.Vmlinux != "" && statErr == nil:
		args = append(args, "-ex", fmt.Sprintf("symbol-file -o %#x %s", offset, s.r.Vmlinux))
	case err == nil:
		path := filepath.Join(s.dir, "kernel")
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(recording.WriteSymbols(f, symbols), f.Close())
		}
		if err != nil {
			return nil, "", err
		}
		args = append(args, "-ex", "symbol-file "+path)
	default:
		notes = "the kernel's symbols are not known: " + err.Error()
	}
	args = append(args, "-ex", "target remote "+socket)
	if to.Function != "" {
		args = append(args, "-ex", "break "+to.Function, "-ex", "continue")
	}
	return exec.CommandContext(ctx, gdb, append(args, more...)...), notes, nil
}

// Close ends the guest.
func (s *Session) Close() {
	s.m.Kill()
	<-s.m.Done()
}

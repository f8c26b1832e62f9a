//go:build bench

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/arch"
	"provium/internal/guest"
	"provium/internal/proc"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// recorder starts processes and remembers the command line of the last QEMU.
type recorder struct {
	qemu.Starter
	last  *exec.Cmd
	opens []proc.File
}

func (r *recorder) Launch(cmd *exec.Cmd, opens ...proc.File) (proc.Process, error) {
	r.last, r.opens = cmd, opens
	return r.Starter.Launch(cmd, opens...)
}

// rawRestore starts the QEMU of a restore with the same command line, has it load the
// same state, and returns the time until it says that the guest runs, to which nobody
// talks, and until the guest's agent has then answered. It is what a restore costs at
// least without a change of QEMU.
func (b *bench) rawRestore(ctx context.Context, command *recorder, path string) (
	runs, answers time.Duration, err error) {
	restore := command.last
	dir, err := os.MkdirTemp(b.dir, "raw")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	r, err := snapshot.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	state, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer state.Close()
	saved := r.Manifest().Sections["state"]
	if _, err := state.Seek(saved.Offset, 0); err != nil {
		return 0, 0, err
	}
	var ours, theirs []*os.File
	defer func() {
		for _, f := range slices.Concat(ours, theirs) {
			f.Close()
		}
	}()
	for range 3 { // QMP and the consoles
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, 0, err
		}
		ours = append(ours, os.NewFile(uintptr(p[0]), "ours"))
		theirs = append(theirs, os.NewFile(uintptr(p[1]), "theirs"))
	}
	args := slices.Clone(restore.Args[1:])
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, restore.Dir, dir)
	}
	args = slices.DeleteFunc(args, func(a string) bool { return a == "-S" })
	cmd := exec.Command(restore.Path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GLIBC_TUNABLES=glibc.malloc.hugetlb=1") // the faster way
	cmd.ExtraFiles = slices.Concat([]*os.File{r.File()}, theirs, []*os.File{state})
	var said bytes.Buffer
	cmd.Stderr = &said
	start := time.Now()
	child, err := b.starter.Launch(cmd, command.opens...)
	if err != nil {
		return 0, 0, err
	}
	stop := context.AfterFunc(ctx, child.Kill)
	defer stop()
	for _, f := range theirs {
		f.Close()
	}
	theirs = nil
	err = loadAndRun(ours[0], 2+len(cmd.ExtraFiles))
	runs = time.Since(start)
	if err == nil {
		err = firstAnswer(ctx, filepath.Join(dir, "agent"))
	}
	answers = time.Since(start)
	child.Kill()
	_ = child.Wait() // it was killed
	if err != nil {
		return 0, 0, fmt.Errorf("raw restore: %w; qemu said: %s", errors.Join(ctx.Err(), err), said.String())
	}
	return runs, answers, nil
}

// loadAndRun has the QEMU behind a monitor load the state in its file of that number, and waits until the guest runs.
func loadAndRun(monitor *os.File, number int) error {
	_, err := fmt.Fprintf(monitor, `{"execute":"qmp_capabilities"}
{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true},{"capability":"x-ignore-shared","state":true}]}}
{"execute":"migrate-incoming","arguments":{"uri":"fd:%d"}}
`, number)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(monitor)
	lines.Buffer(nil, 1<<20)
	if err := awaitLine(lines, `"status": "completed"`); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(monitor, `{"execute":"cont"}`); err != nil {
		return err
	}
	return awaitLine(lines, `"event": "RESUME"`)
}

// firstAnswer has the agent behind a socket answer once.
func firstAnswer(ctx context.Context, socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	agent, err := guest.Connect(ctx, conn, guest.Config{})
	if err != nil {
		return err
	}
	return errors.Join(agent.Ping(ctx), agent.Close())
}

// awaitLine reads QMP up to a line with a text, or to an error.
func awaitLine(qmp *bufio.Scanner, text string) error {
	for qmp.Scan() {
		if strings.Contains(qmp.Text(), text) {
			return nil
		}
		if strings.Contains(qmp.Text(), `"error"`) {
			return errors.New(qmp.Text())
		}
	}
	return fmt.Errorf("no %s: %w", text, errors.Join(qmp.Err(), errors.New("qemu ended")))
}

// programStart returns how long QEMU takes to start and end without a machine.
func (b *bench) programStart() (time.Duration, error) {
	cmd := exec.Command(arch.AMD64.QEMU, "--version")
	cmd.Env = os.Environ()
	start := time.Now()
	child, err := b.starter.Launch(cmd)
	if err != nil {
		return 0, err
	}
	err = child.Wait()
	return time.Since(start), err
}

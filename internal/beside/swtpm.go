package beside

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"provium/internal/tail"
)

// TPMProgram is the program that is a TPM.
const TPMProgram = "swtpm"

// ErrNoSwtpm is returned where the program is not installed.
var ErrNoSwtpm = errors.New("tpm: " + TPMProgram + " is not on PATH: it is in the package `swtpm`")

const (
	tpmSocket = "tpm"       // in the guest's directory
	tpmState  = "tpm-state" // directory there
	tpmDevice = "tpm-crb"
)

// confined is a process of Starter.Start.
type confined struct{ cmd *exec.Cmd }

func (c confined) Kill()       { _ = c.cmd.Process.Kill() } // it may have ended
func (c confined) Wait() error { return c.cmd.Wait() }

// listen makes a socket at path, which a program inherits.
func listen(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// tpm starts a TPM that has never been used.
func (p *Programs) tpm(s Starter, dir string) error {
	state := filepath.Join(dir, tpmState)
	if err := os.RemoveAll(state); err != nil {
		return err
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	path, err := exec.LookPath(TPMProgram)
	if err != nil {
		return ErrNoSwtpm
	}
	socket := filepath.Join(dir, tpmSocket)
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	one := &program{what: "swtpm", socket: socket, said: &tail.Buffer{Limit: said}, done: make(chan struct{})}
	cmd := exec.Command(path, "socket", "--tpm2", "--terminate", "--ctrl", "type=unixio,fd=3",
		"--tpmstate", "dir=.,mode=0600")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = state, one.said, one.said, []*os.File{listener}
	if err := s.Start(cmd); err != nil {
		return err
	}
	one.process = confined{cmd}
	p.add(one)
	return nil
}

func tpmArgs(dir string) []string {
	path := strings.ReplaceAll(filepath.Join(dir, tpmSocket), ",", ",,")
	return []string{"-chardev", "socket,id=tpm,path=" + path, "-tpmdev", "emulator,id=tpm0,chardev=tpm",
		"-device", tpmDevice + ",tpmdev=tpm0"}
}

// Package beside runs the programs of the host that serve devices of a guest beside its QEMU: virtiofsd for the
// directories that it shares, swtpm for its TPM.
//
// It starts no QEMU, and knows nothing of what the guest does with the devices. Start with Start and Args.
package beside

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"provium/internal/machine"
	"provium/internal/proc"
	"provium/internal/tail"
)

// Starter starts programs that cannot outlive us.
type Starter interface {
	// Start starts a program that can do little beyond its files and sockets.
	Start(cmd *exec.Cmd) error
	// Serve starts a program that serves files of the host.
	Serve(cmd *exec.Cmd) (proc.Process, error)
}

// Programs are the programs of one guest. A nil one has none. It is safe for concurrent use.
type Programs struct {
	running []*program

	mu     sync.Mutex
	closed bool
	failed error  // of the first that ended by itself
	kill   func() // ends the guest; nil: nobody has asked for that
	ended  bool   // one has ended by itself
}

// process is a process that was started.
type process interface {
	Kill()
	Wait() error
}

// program is one of them.
type program struct {
	process process
	what    string // in errors
	socket  string
	said    *tail.Buffer
	done    chan struct{}
}

// Start starts what serves the devices of a machine with that shape. Its sockets are in dir. The caller must call
// Close; also where there is an error.
func Start(s Starter, dir string, shape *machine.Shape) (*Programs, error) {
	p := &Programs{}
	if shape.HasTPM() {
		if err := p.tpm(s, dir); err != nil {
			return p, fmt.Errorf("tpm: %w", err)
		}
	}
	if len(shape.Shares) == 0 {
		return p, nil
	}
	path, err := FindVirtiofsd(os.DirFS("/"))
	if err != nil {
		return p, err
	}
	for i, share := range shape.Shares {
		if err := p.share(s, path, filepath.Join(dir, machine.Tag(i)), share); err != nil {
			return p, fmt.Errorf("rw: `%s`: %w", share.Host, err)
		}
	}
	return p, nil
}

// add takes charge of a program that was started.
func (p *Programs) add(one *program) {
	p.running = append(p.running, one)
	go func() {
		defer close(one.done)
		p.over(one, one.process.Wait())
	}()
}

// over is called when a program has ended.
func (p *Programs) over(one *program, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if err != nil && p.failed == nil {
		p.failed = fmt.Errorf("%s ended: %w", one.what, err)
		if lines := strings.Split(strings.TrimSpace(one.said.String()), "\n"); lines[len(lines)-1] != "" {
			p.failed = fmt.Errorf("%w: %s", p.failed, lines[len(lines)-1])
		}
	}
	if p.ended = true; p.kill != nil {
		p.kill()
	}
}

// Watch has kill called when one of the programs ends by itself, at once if one has already.
func (p *Programs) Watch(kill func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kill = kill; p.ended {
		kill()
	}
}

// Close ends the programs. It returns the error of one that has failed before. Further calls return nothing.
func (p *Programs) Close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	failed := p.failed
	p.closed, p.failed = true, nil
	p.mu.Unlock()
	for _, one := range p.running {
		one.process.Kill()
		<-one.done
		_ = os.Remove(one.socket) // with the guest's directory, if not now
	}
	p.running = nil
	return failed
}

// Args returns the words of QEMU's command line for the devices. rootBus is the machine's root bus, "" for none.
func Args(dir, rootBus string, shape *machine.Shape) []string {
	args := shareArgs(dir, rootBus, shape.Shares)
	if shape.HasTPM() {
		args = append(args, tpmArgs(dir)...)
	}
	return args
}

// Parts describes what of the devices a saved state depends on.
func Parts(shape *machine.Shape) []string {
	if shape.HasTPM() {
		return []string{"-device " + tpmDevice}
	}
	return nil
}

// Check returns an error for a shape whose devices cannot be served on this host.
func Check(shape *machine.Shape) error {
	if shape.HasTPM() {
		if _, err := exec.LookPath(TPMProgram); err != nil {
			return ErrNoSwtpm
		}
	}
	if len(shape.Shares) == 0 {
		return nil
	}
	for _, share := range shape.Shares {
		if err := checkDirectory(share.Host); err != nil {
			return fmt.Errorf("rw: %w", err)
		}
	}
	_, err := FindVirtiofsd(os.DirFS("/"))
	return err
}

// checkDirectory returns an error for what is not a directory.
func checkDirectory(path string) error {
	info, err := os.Stat(path)
	if failed := (syscall.Errno)(0); errors.As(err, &failed) {
		return fmt.Errorf("`%s`: %w", path, failed)
	}
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("`%s` is not a directory", path)
	}
	return err
}

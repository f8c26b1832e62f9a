package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"provium/internal/blockdev"
	"provium/internal/userland"
)

// qemuFormats are QEMU's names of formats.
var qemuFormats = map[string]string{
	blockdev.FormatQCOW2: "qcow2",
	blockdev.FormatVHD:   "vpc",
	blockdev.FormatVHDX:  "vhdx",
	blockdev.FormatVMDK:  "vmdk",
}

// imageTimeout is how long imageProgram may take to open an image, or to end.
const imageTimeout = 30 * time.Second

var errImageTimeout = fmt.Errorf("no answer within %v", imageTimeout)

// imageProgram reads and writes images that are not raw.
const imageProgram = "qemu-nbd"

// openImage opens the contents of a disk. An image that is not raw is read and written
// by imageProgram.
func (e *Env) openImage(ctx context.Context, spec *Spec, warn func(error)) (*blockdev.Disk, error) {
	cfg := blockdev.Config{Image: spec.Path, Template: spec.Template, Size: spec.Scratch,
		ReadOnly: spec.ReadOnly, TempDir: e.TempDir, OnError: warn}
	if spec.Userland != "" {
		contents, err := userland.Open(spec.Userland)
		if err != nil {
			return nil, err
		}
		cfg.Contents = contents
	}
	path, write := spec.image()
	format := spec.Format
	if format == "" && path != "" {
		format = blockdev.DetectFormat(path)
	}
	if path == "" || format == blockdev.FormatRaw {
		return blockdev.Open(cfg)
	}
	if write {
		if err := checkWritable(path); err != nil {
			return nil, err
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, imageTimeout, errImageTimeout)
	defer cancel()
	conn, err := e.serveImage(limited, path, format, write)
	if err != nil {
		return nil, fmt.Errorf("%s image `%s`: %w", format, path, err)
	}
	// Without the program the connection ends, and so does Open.
	stop := context.AfterFunc(limited, conn.kill)
	cfg.Server = conn
	d, err := blockdev.Open(cfg)
	late := !stop()
	if err == nil && !late {
		return d, nil
	}
	if err == nil || limited.Err() != nil {
		err = fmt.Errorf("image `%s`: %s: %w", path, imageProgram, context.Cause(limited))
		if d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	return nil, fmt.Errorf("%s %w", format, err)
}

// checkWritable returns an error of ours if an image cannot be written to.
func checkWritable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	}
	return f.Close()
}

// imageConn is a connection to an imageProgram. Close returns when the program has
// ended and the image's file is up to date.
type imageConn struct {
	net.Conn
	kill   func() // ends the program
	ended  <-chan struct{}
	output *head

	endLimit time.Duration // after which wait kills the program

	once sync.Once
	err  error
}

// Read explains the end of the connection with the program's output.
func (c *imageConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && n == 0 {
		c.Conn.Close()
		c.wait()
		switch said := c.output.String(); {
		case strings.Contains(said, "Failed to get ") && strings.Contains(said, " lock"):
			err = blockdev.ErrInUse
		case said != "":
			err = errors.New(said)
		}
	}
	return n, err
}

// wait returns when the program has ended, which it does when its connection is
// closed. It reports whether the program did so by itself.
func (c *imageConn) wait() bool {
	late := time.NewTimer(c.endLimit)
	defer late.Stop()
	select {
	case <-c.ended:
		return true
	case <-late.C:
		c.kill()
		<-c.ended
		return false
	}
}

// Close disconnects, and returns when the program has ended.
func (c *imageConn) Close() error {
	c.once.Do(func() {
		c.err = c.Conn.Close()
		if errors.Is(c.err, net.ErrClosed) {
			c.err = nil
		}
		if !c.wait() {
			c.err = errors.Join(c.err,
				fmt.Errorf("%s did not end within %v, and was killed: what it had not written is lost",
					imageProgram, c.endLimit))
		}
	})
	return c.err
}

// serveImage starts qemu-nbd on an image, and connects to it. Nothing waits for the
// program to be ready: it gets a socket that has our connection already.
func (e *Env) serveImage(ctx context.Context, path, format string, write bool) (*imageConn, error) {
	program, err := exec.LookPath(imageProgram)
	if err != nil {
		return nil, fmt.Errorf("%s, which reads it, is not installed (package qemu-utils)", imageProgram)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	socket := fmt.Sprintf("%s/image%d", e.TempDir, e.NextSocket())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close() // also removes the socket
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	passed, err := l.File()
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer passed.Close()
	options := fmt.Sprintf("driver=%s,file.driver=file,file.filename=%s",
		qemuFormats[format], strings.ReplaceAll(path, ",", ",,"))
	args := []string{"--image-opts", "--cache=unsafe", "--discard=unmap"}
	if !write {
		args = append(args, "--read-only")
	}
	cmd := exec.Command(program, append(args, options)...)
	if cmd.SysProcAttr, err = ownerOf(path); err != nil {
		conn.Close()
		return nil, err
	}
	cmd.Env = append(cmd.Environ(), "LISTEN_FDS=1", "LC_ALL=C")
	cmd.ExtraFiles = []*os.File{passed}
	cmd.WaitDelay = time.Second // for its output, which another process may hold open
	output := &head{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := e.Starter.Start(cmd); err != nil {
		conn.Close()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its output says more
	}()
	kill := func() { _ = cmd.Process.Kill() } // it may have ended
	return &imageConn{Conn: conn, kill: kill, ended: ended, output: output, endLimit: imageTimeout}, nil
}

// ownerOf has a program run as the owner of a file, if we are root: then it needs no more
// rights than the owner has.
func ownerOf(path string) (*syscall.SysProcAttr, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}, nil
}

// head keeps the first 4 KiB of a program's output.
type head struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *head) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := 4096 - w.b.Len(); room > 0 {
		w.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (w *head) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(w.b.String())
}

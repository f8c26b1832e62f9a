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
	"time"

	"provium/internal/blockdev"
)

// qemuFormats are QEMU's names of formats.
var qemuFormats = map[string]string{blockdev.FormatQCOW2: "qcow2", blockdev.FormatVHD: "vpc", blockdev.FormatVHDX: "vhdx", blockdev.FormatVMDK: "vmdk"}

// imageTimeout is how long the program that knows the format of an image may take to
// open it, or to end.
const imageTimeout = 30 * time.Second

var errImageTimeout = fmt.Errorf("no answer within %v", imageTimeout)

// imageProgram knows the formats of images.
const imageProgram = "qemu-nbd"

// openImage opens the contents of a disk, through qemu-nbd if its image is not raw.
func (e *Env) openImage(ctx context.Context, spec *Spec, warn func(error)) (*blockdev.Disk, error) {
	cfg := blockdev.Config{Image: spec.Path, Template: spec.Template, Size: spec.Scratch, ReadOnly: spec.ReadOnly, TempDir: e.TempDir, OnError: warn}
	path, write := spec.Path, !spec.ReadOnly
	if path == "" {
		path, write = spec.Template, false
	}
	if path != "" {
		format := spec.Format
		if format == "" {
			format = blockdev.DetectFormat(path)
		}
		if format != blockdev.FormatRaw {
			if write {
				if err := writable(path); err != nil {
					return nil, err
				}
			}
			limited, cancel := context.WithTimeoutCause(ctx, imageTimeout, errImageTimeout)
			defer cancel()
			conn, err := e.serveImage(limited, path, format, write)
			if err != nil {
				return nil, fmt.Errorf("%s image `%s`: %w", format, path, err)
			}
			// Without the program the connection ends.
			stop := context.AfterFunc(limited, conn.kill)
			cfg.Server = conn
			d, err := blockdev.Open(cfg)
			switch {
			case !stop() && err == nil:
				return nil, errors.Join(fmt.Errorf("%s image `%s`: %s: %w", format, path, imageProgram, context.Cause(limited)), d.Close())
			case err != nil && limited.Err() != nil:
				return nil, fmt.Errorf("%s image `%s`: %s: %w", format, path, imageProgram, context.Cause(limited))
			case err != nil:
				return nil, fmt.Errorf("%s %w", format, err)
			}
			return d, nil
		}
	}
	return blockdev.Open(cfg)
}

// writable returns why an image cannot be written to, in our own words.
func writable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	}
	return f.Close()
}

// imageConn is a connection to the program that knows the format of an image. Its
// Close returns when the program has ended, and the image's file is up to date.
type imageConn struct {
	net.Conn
	kill   func() // ends the program
	ended  <-chan struct{}
	output *lastWords

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
	late := time.NewTimer(imageTimeout)
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

func (c *imageConn) Close() error {
	c.once.Do(func() {
		c.err = c.Conn.Close()
		if errors.Is(c.err, net.ErrClosed) {
			c.err = nil
		}
		if !c.wait() {
			c.err = errors.Join(c.err, fmt.Errorf("%s did not end within %v, and was killed: what it had not written is lost", imageProgram, imageTimeout))
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
	// LISTEN_PID is to be the program's own number, which the shell hands on.
	options := fmt.Sprintf("driver=%s,file.driver=file,file.filename=%s", qemuFormats[format], strings.ReplaceAll(path, ",", ",,"))
	args := []string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh", program, "--image-opts", "--cache=unsafe", "--discard=unmap"}
	if !write {
		args = append(args, "--read-only")
	}
	cmd := exec.Command("/bin/sh", append(args, options)...)
	cmd.Env = append(cmd.Environ(), "LISTEN_FDS=1", "LC_ALL=C")
	cmd.ExtraFiles = []*os.File{passed}
	cmd.WaitDelay = time.Second // for its output, which another process may have as well
	output := &lastWords{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := e.Starter.Start(cmd); err != nil {
		conn.Close()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // what it said tells more
	}()
	kill := func() { _ = cmd.Process.Kill() } // it may have ended
	return &imageConn{Conn: conn, kill: kill, ended: ended, output: output}, nil
}

// lastWords keeps the first 4 KiB of a program's output.
type lastWords struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := 4096 - w.b.Len(); room > 0 {
		w.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(w.b.String())
}

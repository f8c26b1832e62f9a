package sys_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// A call that blocks for ever ends with the context, and nothing of it is left behind.
func TestInterruptible(t *testing.T) {
	if err := sys.PrepareInterrupts(); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(i *sys.Interruptible) error{
		"open for reading": func(i *sys.Interruptible) error {
			_, err := i.Open(fifo, unix.O_RDONLY, 0)
			return err
		},
		"open for writing": func(i *sys.Interruptible) error {
			_, err := i.Open(fifo, unix.O_WRONLY, 0)
			return err
		},
		"read": func(i *sys.Interruptible) error {
			fd, err := i.Open(fifo, unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			_, err = i.Read(fd, make([]byte, 10))
			return err
		},
		"write": func(i *sys.Interruptible) error {
			fd, err := i.Open(fifo, unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for err == nil {
				_, err = i.Write(fd, make([]byte, 64<<10))
			}
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		i := sys.NewInterruptible(ctx)
		done := make(chan error, 1)
		go func() { done <- call(i) }()
		select {
		case err := <-done:
			t.Errorf("%s returned %v before it was interrupted", name, err)
		case <-time.After(20 * time.Millisecond):
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
		cancel()
		i.Close()
		if _, err := i.Open(fifo, unix.O_RDONLY, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a call after the end: %v", name, err)
		}
		// Neither a reader nor a writer is left.
		if f, err := os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0); !errors.Is(err, unix.ENXIO) {
			t.Errorf("%s left a reader: %v", name, err)
			f.Close()
		}
	}
}

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"provium/internal/blockdev"
	"provium/internal/proc"
)

// TestHangingImageProgram: a program that never answers does not hold up whoever opens
// an image.
func TestHangingImageProgram(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "image") // a socket's path is to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	started := filepath.Join(dir, "started")
	script := fmt.Sprintf("#!/bin/sh\necho > %s.new && mv %s.new %s\nexec sleep 1000\n", started, started, started)
	image := filepath.Join(dir, "x.qcow2")
	for path, text := range map[string]string{filepath.Join(dir, imageProgram): script, image: "QFI\xfb\x00\x00\x00\x03"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	starter := proc.NewStarter()
	defer starter.Close()
	env := &Env{TempDir: dir, Starter: starter, NextSocket: func() int { return 1 }}
	ctx, cancel := context.WithCancelCause(context.Background())
	patience := errors.New("no more patience")
	done := make(chan error, 1)
	go func() {
		d, err := env.openImage(ctx, &Spec{Path: image}, nil)
		if err == nil {
			d.Close()
		}
		done <- err
	}()
	await(t, started)
	cancel(patience)
	// It returns when the program has ended, and names it.
	wantError(t, <-done, "qcow2 image `"+image+"`: "+imageProgram+": no more patience")
	// The image is free again.
	d, err := blockdev.Open(blockdev.Config{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// await waits for a file.
func await(t *testing.T, path string) {
	t.Helper()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("no " + path)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

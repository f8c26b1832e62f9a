package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

// An operation on files that nothing interrupts is answered for at its end, and does
// nothing more when it goes on. The host itself would wait for an hour.
func TestAbandonedOperations(t *testing.T) {
	var hung atomic.Pointer[chan struct{}]
	c := agenttest.Connect(t, agent.Config{Root: func(context.Context) (bool, error) {
		if ch := hung.Load(); ch != nil {
			<-*ch
		}
		return false, nil
	}}, guest.Config{CancelGrace: time.Hour})
	dir := t.TempDir()
	late := errors.New("too late")
	for name, do := range map[string]func(ctx context.Context, path string) error{
		"stat":       func(ctx context.Context, path string) error { _, err := c.Stat(ctx, path, true); return err },
		"read_file":  func(ctx context.Context, path string) error { _, err := c.ReadFile(ctx, path); return err },
		"mkdir":      func(ctx context.Context, path string) error { return c.Mkdir(ctx, path, false, guest.Perm{}) },
		"write_file": func(ctx context.Context, path string) error { return c.WriteFile(ctx, path, nil, guest.Perm{}) },
		"symlink": func(ctx context.Context, path string) error {
			_, err := c.FileCall(ctx, guest.SymlinkCall("to", path))
			return err
		},
	} {
		release := make(chan struct{})
		hung.Store(&release)
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, late)
		if err := do(ctx, filepath.Join(dir, name)); !errors.Is(err, late) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		hung.Store(nil)
		close(release)
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := c.ListDir(t.Context(), dir); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("made later: %v, %v", entries, err)
	}
}

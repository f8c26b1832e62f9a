package image

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"provium/internal/userland"
)

// brokenTool is a program that fails, and counts how often it was started.
type brokenTool struct{ runs int }

func (b *brokenTool) Run(context.Context, string, []string, string, ...string) (_, _ []byte, err error) {
	b.runs++
	return nil, []byte("E: no network"), errors.New("exit status 25")
}

// TestFailedUserlands asks for what came over no network only after a while again, and for what is on this machine at
// once.
func TestFailedUserlands(t *testing.T) {
	tool := &brokenTool{}
	s := testStore(t, func(c *Config) { c.Runner = tool })
	dir := userland.Source{Kind: userland.Directory, Path: t.TempDir() + "/absent"}
	if _, err := s.MakeUserland(t.Context(), dir); err == nil {
		t.Error("an absent directory is a userland")
	}
	if err := os.MkdirAll(dir.Path+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MakeUserland(t.Context(), dir); err != nil {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		debian := userland.Source{Kind: userland.Debian, Ref: "bookworm"}
		for range 4 {
			if _, err := s.MakeUserland(t.Context(), debian); err == nil {
				t.Error("no error")
			}
		}
		if tool.runs != 1 {
			t.Errorf("%d attempts", tool.runs)
		}
		time.Sleep(2 * retryRemote)
		synctest.Wait()
		if _, err := s.MakeUserland(t.Context(), debian); err == nil || tool.runs != 2 {
			t.Errorf("%d attempts, %v", tool.runs, err)
		}
		time.Sleep(2 * retryRemote)
	})
}

package share

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/sharedcache"
)

// TestWarmEnds fills caches from a registry that takes connections and answers nothing: the run waits as long as it
// is told to, and says what brings all. An interrupted wait is an error.
func TestWarmEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	ref := l.Addr().String() + "/team/cache"
	from, err := sharedcache.Open(ref, dir, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var out, told bytes.Buffer
	s := New(t.Context(), Dirs{Images: filepath.Join(dir, "images"), Boots: filepath.Join(dir, "boots"),
		Fixtures: filepath.Join(dir, "fixtures")}, "", &out, &told)
	if err := s.Warm(t.Context(), from, time.Millisecond); err != nil {
		t.Error(err)
	}
	want := "not all has come within 1ms, and `provium cache pull " + ref +
		"` waits for all; the run goes on without it\n"
	if !strings.Contains(told.String(), want) || strings.Count(told.String(), "warning: ") != 1 || out.Len() > 0 {
		t.Errorf("%s%s", &told, &out)
	}
	interrupted := errors.New("interrupted")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(interrupted)
	if err := s.Warm(ctx, from, time.Hour); !errors.Is(err, interrupted) {
		t.Error(err)
	}
}

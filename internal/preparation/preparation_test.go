package preparation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"provium/internal/event"
	"provium/internal/image"
	"provium/internal/userland"
)

func TestDownloadEvents(t *testing.T) {
	var got []event.Event
	step := DownloadEvents(func(e event.Event) {
		if done, ok := e.(event.DownloadDone); ok {
			done.DurationNS = 0
			e = done
		}
		got = append(got, e)
	})
	for _, d := range []image.Download{{What: "k", Began: true}, {What: "k", Done: 3, Total: 9},
		{What: "k", Done: 4, Total: 9, Ended: true, Err: errors.New("offline")}} {
		step(d)
	}
	want := []event.Event{event.DownloadStarted{What: "k"},
		event.DownloadProgress{What: "k", DoneBytes: 3, TotalBytes: 9},
		event.DownloadProgress{What: "k", DoneBytes: 4, TotalBytes: 9},
		event.DownloadDone{What: "k", Error: "offline"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// The output of a build command is told in whole lines.
func TestBuildOutput(t *testing.T) {
	var got []string
	o := &buildOutput{lines: func(text string) { got = append(got, text) }}
	for _, text := range []string{"one\ntwo", " more\nthree\n", "four"} {
		if _, err := o.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	o.end()
	if want := []string{"one\n", "two more\nthree\n", "four"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestNeeded(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"one":      `provium:vm_fixture("deep/two"); return provium:vm("x", "c")`,
		"deep/two": `provium:vm_fixture("one"); return provium:vm("x", "d")`,
	} {
		path := filepath.Join(root, name+".fixture.lua")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := Needed([]string{root}, []File{{Profiles: []string{"b", "a"}}, {Profiles: []string{"a"},
		Fixtures: []string{"one", "gone", "../x"}}, {}})
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// resolver knows what becomes of profiles.
type resolver struct {
	errs  map[string]error
	asked []string
	stop  func()
}

func (r *resolver) Resolve(_ context.Context, s image.Spec) (*image.Image, error) {
	r.asked = append(r.asked, s.Profile)
	if s.Profile == "stops" {
		r.stop()
	}
	return nil, r.errs[s.Profile]
}

func TestImages(t *testing.T) {
	missing := fmt.Errorf("profile `none`: %w", &image.NoKernelError{})
	stopped := errors.New("stopped")
	for name, c := range map[string]struct {
		profiles []string
		want     error
		asked    int
	}{
		"a broken profile is left to its boot": {[]string{"fine", "broken", "fine"}, nil, 3},
		"no kernel is the end":                 {[]string{"broken", "none", "fine"}, missing, 2},
		"interrupted":                          {[]string{"stops", "fine"}, stopped, 1},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := &resolver{errs: map[string]error{"broken": errors.New("no initrd"), "none": missing},
			stop: func() { cancel(stopped) }}
		var specs []image.Spec
		for _, p := range c.profiles {
			specs = append(specs, image.Spec{Profile: p})
		}
		if _, err := Images(ctx, r, specs); err != c.want || len(r.asked) != c.asked {
			t.Errorf("%s: %v, asked %v", name, err, r.asked)
		}
		cancel(nil)
	}
}

// finder makes no userland of the host before it may.
type finder struct {
	resolver
	may chan struct{}
}

func (f *finder) FindKernel(_ context.Context, s image.Spec) error { return f.errs[s.Profile] }

func (f *finder) Resolve(ctx context.Context, s image.Spec) (*image.Image, error) {
	if s.Userland.Kind == userland.Host {
		select {
		case <-f.may:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &image.Image{Userland: &userland.Userland{Key: s.Profile}}, f.errs[s.Profile]
}

// Only files whose profiles have the host's programs wait until those were looked at.
func TestBeginImages(t *testing.T) {
	f := &finder{may: make(chan struct{})}
	begin := func() *Userlands {
		t.Helper()
		u, err := BeginImages(t.Context(), f, []image.Spec{
			{Profile: "dir", Userland: userland.Source{Kind: userland.Directory}},
			{Profile: "host", Userland: userland.Source{Kind: userland.Host}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	keys := func(made map[string]*userland.Userland) string { return fmt.Sprint(slices.Sorted(maps.Keys(made))) }
	u := begin()
	if got := keys(u.For(t.Context(), []string{"dir", "other"})); got != "[dir]" {
		t.Error(got)
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if got := keys(u.For(interrupted, []string{"host"})); got != "[dir]" {
		t.Errorf("interrupted: %s", got)
	}
	close(f.may)
	if got := keys(u.For(t.Context(), []string{"host"})); got != "[dir host]" {
		t.Error(got)
	}
	if got := keys(u.For(t.Context(), nil)); got != "[dir host]" {
		t.Errorf("later: %s", got)
	}
	u.Close()

	f.may = make(chan struct{})
	begin().Close() // while it is being made
	(*Userlands)(nil).Close()

	missing := fmt.Errorf("profile `host`: %w", &image.NoKernelError{})
	f.errs = map[string]error{"host": missing}
	if _, err := BeginImages(t.Context(), f, []image.Spec{{Profile: "host",
		Userland: userland.Source{Kind: userland.Host}}}); err != missing {
		t.Error(err)
	}
}

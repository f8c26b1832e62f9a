// Package share carries out the commands that move entries between the caches of a user and a
// shared cache, and says what became of them. Which caches and which reference these are, its
// caller knows.
package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"provium/cmd/provium/internal/listing"
	"provium/internal/fixture"
	"provium/internal/image"
	"provium/internal/image/cache"
	"provium/internal/proc"
	"provium/internal/qemu/accelerator"
	"provium/internal/run/evidence"
	"provium/internal/sharedcache"
	"provium/internal/sharedcache/exchange"
	"provium/internal/snapshot"
	"provium/internal/tempdir"
	"provium/internal/terminal"
)

// Dirs are the directories of the caches of a user, and the file of what is known of test files.
type Dirs struct{ Images, Boots, Fixtures, History string }

// Share moves entries of the caches of a user.
type Share struct {
	locals   *exchange.Locals
	out, err io.Writer
}

// New returns what moves entries of the caches in dirs. program is the path of this machine's
// QEMU, "" if it is not known. Results are written to out, warnings to err.
func New(ctx context.Context, dirs Dirs, program string, out, err io.Writer) *Share {
	warn := func(text string) { fmt.Fprintf(err, "provium: warning: %s\n", text) }
	return &Share{&exchange.Locals{
		Boots: &snapshot.Cache{Dir: dirs.Boots}, Fixtures: &fixture.Cache{Dir: dirs.Fixtures, Warn: warn},
		Images:  &cache.Cache{Dir: dirs.Images, Kinds: image.SharedKinds(), Warn: warn},
		History: dirs.History, Fit: fit(ctx, program),
	}, out, err}
}

// fit returns what this machine is.
func fit(ctx context.Context, program string) sharedcache.Fit {
	host := accelerator.This()
	out := sharedcache.Fit{Form: snapshot.Form(), Arch: runtime.GOARCH, CPU: accelerator.CPU(host)}
	// Where there is KVM, guests without it can run, too.
	if a, err := accelerator.Choose("auto", nil, host); err == nil && a.Name != "kvm" {
		out.Accel = a.Name
	}
	starter := proc.NewStarter()
	defer starter.Close()
	out.QEMU = evidence.QEMUVersion(ctx, starter, program)
	return out
}

// Push stores what the caches have.
func (s *Share) Push(ctx context.Context, to *sharedcache.Cache) error {
	t := teller{out: s.out, done: "pushed"}
	return t.end(s.locals.Push(ctx, to, t.tell))
}

// Pull brings what the caches do not have.
func (s *Share) Pull(ctx context.Context, from *sharedcache.Cache) error {
	t := teller{out: s.out, done: "pulled"}
	err := s.pull(ctx, from, t.tell)
	s.noteEmpty(from, err, t.seen)
	if damaged := (*sharedcache.DamagedError)(nil); errors.As(t.failed, &damaged) {
		fmt.Fprint(s.err, "provium: note: a push does not replace what is damaged: push to another tag or directory\n")
	}
	return t.end(err)
}

// noteEmpty says that a shared cache has nothing, which may be a mistake in its name.
func (s *Share) noteEmpty(c *sharedcache.Cache, err error, entries int) {
	if err == nil && entries == 0 {
		fmt.Fprintf(s.err, "provium: note: nothing was pushed to `%s` yet\n", c)
	}
}

// pull brings entries by way of directories beside the caches.
func (s *Share) pull(ctx context.Context, from *sharedcache.Cache, tell func(exchange.Result)) error {
	var temp exchange.Temp
	for cache, to := range map[string]*string{s.locals.Boots.Dir: &temp.Boots, s.locals.Fixtures.Dir: &temp.Fixtures} {
		beside := filepath.Dir(cache)
		if err := os.MkdirAll(beside, 0o755); err != nil {
			return err
		}
		t, err := tempdir.New(beside)
		if err != nil {
			return err
		}
		defer t.Remove()
		*to = t.Path()
	}
	return s.locals.Pull(ctx, from, temp, tell)
}

// teller prints what became of entries.
type teller struct {
	out                 io.Writer
	done                string
	seen                int
	moved, there, unfit int
	size                int64
	failed              error
}

func (t *teller) tell(r exchange.Result) {
	t.seen++
	switch {
	case r.Err != nil:
		t.failed = errors.Join(t.failed, r.Err)
		return
	case r.Unfit != "":
		t.unfit++
		fmt.Fprintf(t.out, "left out %s %s (%s): %s\n", r.Kind, shortKey(r.Header), terminal.Escape(r.Note),
			terminal.Escape(r.Unfit))
	case r.Moved:
		t.moved++
		t.size += r.Size
		fmt.Fprintf(t.out, "%s %s %s (%s)\n", t.done, r.Kind, shortKey(r.Header), terminal.Escape(r.Note))
	default:
		t.there++
	}
}

// shortKey is what of a key people need: names as they are, the start of digests.
func shortKey(h sharedcache.Header) string {
	key, _, _ := strings.Cut(filepath.Base(h.Key), "@")
	if h.Kind != sharedcache.Image || len(key) > 50 {
		key = key[:min(len(key), 12)]
	}
	return terminal.Escape(key)
}

// end prints the sum, and returns what failed.
func (t *teller) end(err error) error {
	if err == nil {
		_, err = fmt.Fprintf(t.out, "%s %d entries, %d were there, %d left out, %d failed\n", t.done, t.moved, t.there,
			t.unfit, len(joined(t.failed)))
	}
	return errors.Join(err, t.failed)
}

// joined returns the errors in what errors.Join has made.
func joined(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, joined(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// List shows what a shared cache has, and what of it is of no use here.
func (s *Share) List(ctx context.Context, c *sharedcache.Cache) error {
	var failed error
	all, err := c.List(ctx, func(err error) { failed = errors.Join(failed, err) })
	if err != nil {
		return err
	}
	var size int64
	for _, e := range all {
		size += e.Packed
		unfit := e.Fit.Differs(s.locals.Fit)
		if unfit != "" {
			unfit = ": not for this machine: " + unfit
		}
		fmt.Fprintf(s.out, "%12s  %-7s  %s  %s%s\n", listing.MiB(e.Packed), e.Kind, shortKey(e.Header),
			terminal.Escape(e.Note), terminal.Escape(unfit))
	}
	s.noteEmpty(c, failed, len(all))
	_, err = fmt.Fprintf(s.out, "%d entries, %s\n", len(all), listing.MiB(size))
	return errors.Join(err, failed)
}

// WarmLimit is how long a run waits for a shared cache.
const WarmLimit = 5 * time.Minute

// Warm fills the caches before a run, for limit at most; what has come by then stays. Without a shared cache the run
// only takes longer: only the end of ctx is an error.
func (s *Share) Warm(ctx context.Context, from *sharedcache.Cache, limit time.Duration) error {
	t := teller{out: io.Discard}
	slow := fmt.Errorf("shared cache `%s`: not all has come within %v, and `provium cache pull %s` waits for all", from,
		limit, from)
	within, done := context.WithTimeoutCause(ctx, limit, slow)
	defer done()
	err := s.pull(within, from, t.tell)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && within.Err() != nil {
		err = slow
	}
	if all := joined(errors.Join(err, t.failed)); len(all) > 0 {
		more := ""
		if damaged := (*sharedcache.DamagedError)(nil); errors.As(all[0], &damaged) {
			more = "; push to another tag or directory to have it whole"
		}
		if len(all) > 1 {
			more = fmt.Sprintf(", and without %d other entries that failed", len(all)-1) + more
		}
		fmt.Fprintf(s.err, "provium: warning: %s; the run goes on without it%s\n", terminal.Escape(all[0].Error()),
			more)
	}
	s.noteEmpty(from, err, t.seen)
	if err == nil || errors.Is(err, slow) {
		fmt.Fprintf(s.err, "provium: shared cache: pulled %d entries, %s; %d were there, %d are not for this machine\n",
			t.moved, listing.MiB(t.size), t.there, t.unfit)
	}
	return nil
}

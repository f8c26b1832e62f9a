package diskapi

import (
	"context"
	"errors"
	"strings"

	"provium/internal/disk"
	"provium/internal/diskcheck"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

const (
	defaultGuests = 2
	maxGuests     = 64
	shownFailures = 10 // in an error
)

// checkers are the guests in which a function of the test is run on one content
// of a disk after the other.
type checkers struct {
	env     *env
	a       value.Args
	e       Execution
	disk    *disk.Disk    // that they have one like
	prepare *lua.Function // nil without one
	guests  int
	reuse   bool // guests go on from one content to the next
	stop    int  // failures that are enough
	raise   bool // failures are one of the test

	list  []*diskcheck.Checker
	where string // file:line of the call
}

func (k *checkers) read(o value.Options) (err error) {
	if k.prepare, err = o.Function("prepare"); err != nil {
		return err
	}
	if k.raise, err = o.Bool("raise", true); err != nil {
		return err
	}
	guests, err := o.IntegerWithin("guests", defaultGuests, 1, maxGuests)
	if err != nil {
		return err
	}
	stop, err := o.IntegerWithin("stop_after", 1, 1, maxSample)
	if err != nil {
		return err
	}
	guest, err := o.Choice("guest", "fresh", "fresh", "reuse")
	k.guests, k.stop, k.reuse = int(guests), int(stop), guest == "reuse"
	return err
}

// block carries out a blocking part of the work.
func (k *checkers) block(do func(context.Context) error) error {
	if err := k.a.Call.Block(do); err != nil {
		return k.a.Errorf("%w", err)
	}
	return nil
}

// open boots a guest with the content, has it prepared, and freezes it for n of
// them. close must follow, also after an error.
func (k *checkers) open(n int, content disk.Content) error {
	k.env.Touch(lab.VMOf(k.disk))
	k.where = k.a.Call.CallerFile().String()
	for range min(n, k.guests) {
		c, err := diskcheck.New(k.env.Scope(), k.disk, k.reuse)
		if err != nil {
			return k.a.Errorf("%w", err)
		}
		k.list = append(k.list, c)
	}
	c := k.list[0]
	if err := k.block(func(ctx context.Context) error { return c.Boot(ctx, content) }); err != nil {
		return err
	}
	if k.prepare != nil {
		if _, err := k.a.Call.Call(k.prepare, k.env.VM(c.VM()), k.env.Disk(c.Disk())); err != nil {
			return err
		}
	}
	if err := k.block(c.Freeze); err != nil {
		return err
	}
	for _, o := range k.list[1:] {
		o.From(c)
	}
	return nil
}

// close ends the guests. It sets *err to the error of closing unless it is set.
func (k *checkers) close(err *error) {
	ctx := context.WithoutCancel(k.a.Call.Context())
	closing := k.env.State.Block(func() error {
		var errs []error
		for _, c := range k.list {
			errs = append(errs, c.Close(ctx))
		}
		return errors.Join(errs...)
	})
	if *err == nil && closing != nil {
		*err = k.a.Errorf("%w", closing)
	}
}

// each runs work in a task per guest.
func (k *checkers) each(work func(c *lua.Call, checker *diskcheck.Checker) error) error {
	return k.e.Parallel(k.a.Call, k.a.Func, len(k.list), func(c *lua.Call, i int) error { return work(c, k.list[i]) })
}

// look runs fn on a checker's guest. why is why it failed, "" if it did not: fn raises or
// returns false, or the guest's kernel reports a failure. An error ends the exploration.
func (k *checkers) look(c *lua.Call, checker *diskcheck.Checker,
	fn *lua.Function, what string, about lua.Value) (why string, err error) {
	vm := checker.VM()
	values, why, err := k.e.Try(c, what, k.where, vm, fn, k.env.VM(vm), k.env.Disk(checker.Disk()), about)
	switch {
	case err != nil:
		return "", err
	case why != "" || len(values) == 0 || values[0] != false:
	case len(values) > 1 && values[1] != nil:
		why = binding.String(c, values[1])
	default:
		why = "it returned false"
	}
	findings, err := k.e.Findings(c, vm)
	if why != "" {
		findings = append([]string{why}, findings...)
	}
	return strings.Join(findings, "\n"), err
}

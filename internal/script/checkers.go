package script

import (
	"context"
	"errors"
	"strings"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

const (
	defaultGuests = 2
	maxGuests     = 64
	shownFailures = 10 // in an error
)

// checkerOptions are those that checkers.read knows.
var checkerOptions = []string{"prepare", "guests", "guest", "stop_after", "raise"}

// checkers are the guests in which a function of the test is run on one content
// of a disk after the other.
type checkers struct {
	f       *file
	a       value.Args
	e       *execution
	disk    *lab.Disk     // that they have one like
	prepare *lua.Function // nil without one
	guests  int
	reuse   bool // guests go on from one content to the next
	stop    int  // failures that are enough
	raise   bool // failures are one of the test

	list  []*lab.Checker
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
func (k *checkers) open(n int, content lab.Content) error {
	k.e.touch(lab.VMOf(k.disk))
	k.where = k.a.Call.CallerFile().String()
	for range min(n, k.guests) {
		c, err := k.f.scope.NewChecker(k.disk, k.reuse)
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
		if _, err := k.a.Call.Call(k.prepare, k.f.vmHandle(c.VM()), k.f.diskHandle(c.Disk())); err != nil {
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

// close ends the guests. Its error counts where there was none.
func (k *checkers) close(err *error) {
	closing := k.f.state.Block(func() error {
		var errs []error
		for _, c := range k.list {
			errs = append(errs, c.Close(context.WithoutCancel(k.f.ctx)))
		}
		return errors.Join(errs...)
	})
	if *err == nil && closing != nil {
		*err = k.a.Errorf("%w", closing)
	}
}

// each runs work in a task per guest.
func (k *checkers) each(work func(c *lua.Call, checker *lab.Checker) error) error {
	tasks := make([]*task, len(k.list))
	for i, checker := range k.list {
		tasks[i] = k.e.spawn(k.a.Call.Context(), k.a.Call, k.f.state.NewFunction(k.a.Func, func(inner *lua.Call) ([]lua.Value, error) {
			return nil, work(inner, checker)
		}))
	}
	_, err := k.f.join(k.a.Call, k.e, tasks)
	return err
}

// look runs fn on a checker's guest, and tells why it failed, "" if it did not:
// it raises, or returns false, or the guest's kernel reports a failure. An error is
// the end of all.
func (k *checkers) look(c *lua.Call, checker *lab.Checker, fn *lua.Function, what string, about lua.Value) (why string, err error) {
	thread, skipped := c.Thread(), k.e.skipped
	end := k.e.trace.silent(operation{text: what, vm: checker.VM().Name(), where: k.where})
	k.e.isolating[thread]++
	values, err := c.Call(fn, k.f.vmHandle(checker.VM()), k.f.diskHandle(checker.Disk()), about)
	k.e.isolating[thread]--
	end()
	var raised *lua.Error
	switch {
	case err == nil && len(values) > 1 && values[0] == false && values[1] != nil:
		why = tostring(c, values[1])
	case err == nil && len(values) > 0 && values[0] == false:
		why = "it returned false"
	case err == nil:
	case thread.Interrupted() != nil, k.e.skipped != skipped, c.Context().Err() != nil, !errors.As(err, &raised):
		return "", err
	default:
		why = errorText(raised)
	}
	var findings []string
	err = c.Block(func(context.Context) error {
		findings = describeFindings(checker.VM())
		return nil
	})
	if k.e.meta != nil && k.e.meta.AllowOops {
		findings = nil
	}
	if why != "" {
		findings = append([]string{why}, findings...)
	}
	return strings.Join(findings, "\n"), err
}

package guestos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"provium/internal/deadline"
)

// Between two looks passes time that grows, since each costs the guest some.
const (
	shortestPause = 20 * time.Millisecond
	longestPause  = 500 * time.Millisecond
)

// NotYetError is returned for what did not come within its limit.
type NotYetError struct {
	What  string // that was waited for, such as "port 80"
	Limit string
	State string // what there was instead, "" when that is not known
}

func (e *NotYetError) Error() string {
	text := fmt.Sprintf("%s did not come within %s", e.What, e.Limit)
	if e.State != "" {
		text += ": " + e.State
	}
	return text
}

// look reports whether what is waited for is there. state says what there is instead. An error ends the wait.
type look func(ctx context.Context) (done bool, state string, err error)

var errLimit = errors.New("the limit is over")

// await looks until what is waited for is there, or the limit is over.
func await(ctx context.Context, limit *deadline.Deadline, what string, look look) error {
	limited, cancel := limit.Context(ctx, errLimit)
	defer cancel()
	state := ""
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		done, now, err := look(limited)
		switch {
		case done && err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(context.Cause(limited), errLimit):
			return &NotYetError{What: what, Limit: limit.String(), State: state}
		case err != nil:
			return err
		}
		state = now
		wait := time.NewTimer(pause)
		select {
		case <-limited.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// AwaitFile waits until something is at a path of the guest.
func AwaitFile(ctx context.Context, g Guest, limit *deadline.Deadline, path string) error {
	return await(ctx, limit, "the file "+path, func(ctx context.Context) (bool, string, error) {
		_, err := g.Stat(ctx, path, true)
		if err == nil {
			return true, "", nil
		}
		if text, ok := refused(err); ok {
			return false, text, nil
		}
		return false, "", err
	})
}

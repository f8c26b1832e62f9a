package guest

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"provium/internal/wire"
)

// LogLevels are the names of the levels of the kernel's log, the most severe first.
func LogLevels() []string {
	return []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
}

// LogFilter says which lines of the kernel's log are wanted.
type LogFilter struct {
	// Level is the number of the least severe level, an index of LogLevels.
	Level int
	// Since is the earliest time stamp; 0 is any, also none.
	Since time.Duration
}

// ErrNoStamps is returned where time stamps are asked for and the kernel has none.
var ErrNoStamps = errors.New("the lines of this kernel have no time stamps (printk.time=0)")

// KernelLog returns the kernel's log as syslog(2) has it: each line begins with its
// level in angle brackets. It begins with the oldest line that the kernel still has and
// that was not cleared.
func (c *Client) KernelLog(ctx context.Context) ([]byte, error) {
	req := &wire.KernelLog{}
	a, err := c.do(ctx, req, transfer{limit: wire.MaxKernelLog})
	if err != nil {
		return nil, err
	}
	v, ok := a.value.(*wire.FileValue)
	if !ok {
		return nil, badAnswer(req.Op(), a.value)
	}
	return join(a.in[wire.StreamData], v.Data), nil
}

// Text returns the lines of a log that the filter lets through, without their levels.
// A line without a level belongs to the one before it.
func (f LogFilter) Text(log []byte) ([]byte, error) {
	out := make([]byte, 0, len(log))
	wanted := true
	for line := range bytes.Lines(log) {
		level, text, ok := cutLevel(line)
		if ok {
			wanted = level <= f.Level
			if f.Since > 0 {
				at, stamped := stamp(text)
				if !stamped {
					return nil, ErrNoStamps
				}
				wanted = wanted && at >= f.Since
			}
		}
		if wanted {
			out = append(out, text...)
		}
	}
	return out, nil
}

// cutLevel takes "<30>" off a line; the number has the level in its low three bits.
func cutLevel(line []byte) (level int, text []byte, ok bool) {
	number, text, ok := bytes.Cut(line, []byte(">"))
	if !ok || len(number) < 2 || number[0] != '<' {
		return 0, line, false
	}
	n, err := strconv.ParseUint(string(number[1:]), 10, 32)
	if err != nil {
		return 0, line, false
	}
	return int(n & 7), text, true
}

// stamp reads the "[   12.345678]" that a line begins with.
func stamp(text []byte) (at time.Duration, ok bool) {
	inner, _, ok := bytes.Cut(text, []byte("]"))
	if !ok || len(inner) == 0 || inner[0] != '[' {
		return 0, false
	}
	seconds, micros, ok := bytes.Cut(bytes.TrimLeft(inner[1:], " "), []byte("."))
	s, err := strconv.ParseUint(string(seconds), 10, 33)
	if !ok || err != nil || len(micros) != 6 {
		return 0, false
	}
	u, err := strconv.ParseUint(string(micros), 10, 32)
	return time.Duration(s)*time.Second + time.Duration(u)*time.Microsecond, err == nil
}

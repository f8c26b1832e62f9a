package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"provium/internal/console"
	"provium/internal/stream"
)

// consoleChunk bounds what a console stream gives at once, in bytes.
const consoleChunk = 64 << 10

// Read opens a stream of what the console prints: the first one of a boot from
// its beginning, later ones from where the previous one stopped.
func (c Console) Read(site stream.Site) (*stream.Stream, error) {
	log := c.log()
	if log != nil && c.vm.host.Local {
		return nil, errors.New("console:read: VMM does not expose a console socket")
	}
	if log == nil {
		return nil, c.vm.stateError("console:read", Booted)
	}
	c.vm.mu.Lock()
	at := c.vm.consoleAt
	c.vm.mu.Unlock()
	for _, s := range c.vm.opened.Streams(nil) {
		if src, ok := s.Source().(*consoleSource); ok {
			at = max(at, src.at.Load()-int64(s.Held()))
		}
	}
	boot := log.Boot()
	if at > log.Len() {
		at = 0 // of the guest before a restore
	}
	src := &consoleSource{vm: c.vm, log: log, boot: boot}
	src.at.Store(max(at, log.BootStart(boot)))
	return c.vm.opened.AddStream(stream.Config{Kind: "console_read", Detail: c.vm.name, Noun: "console", Site: site, Source: src}), nil
}

// consoleSource reads the log of one boot.
type consoleSource struct {
	vm   *VM
	log  *console.Log
	boot int
	at   atomic.Int64
}

func (s *consoleSource) Next(ctx context.Context) ([]byte, error) {
	p, at, err := s.log.Next(ctx, s.boot, s.at.Load(), consoleChunk)
	s.at.Store(at)
	if errors.Is(err, console.ErrEnded) {
		err = io.EOF
	}
	return p, err
}

func (s *consoleSource) Ended() bool { return s.log.Exhausted(s.boot, s.at.Load()) }

func (s *consoleSource) Close(unread int) {
	s.vm.mu.Lock()
	defer s.vm.mu.Unlock()
	s.vm.consoleAt = max(s.vm.consoleAt, s.at.Load()-int64(unread))
}

// Write sends input to the console: to the device that the last console= of
// the command line names. limit 0 is none.
func (c Console) Write(ctx context.Context, data []byte, limit time.Duration) error {
	inst, err := c.vm.running("console:write", Booted)
	if err != nil {
		return err
	}
	if c.vm.host.Local {
		return errors.New("console:write: VMM does not expose a console socket")
	}
	hvc := false
	for _, word := range strings.Fields(inst.plan.cfg.Cmdline) {
		if device, ok := strings.CutPrefix(word, "console="); ok {
			device, _, _ = strings.Cut(device, ",")
			hvc = device == "hvc0"
		}
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if limit > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, limit, errWriteLimit)
	}
	defer cancel()
	n, err := inst.machine.WriteConsole(limited, hvc, data)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errWriteLimit):
		return fmt.Errorf("console:write timed out after %v: the guest took %d of %d bytes", limit, n, len(data))
	}
	return err
}

var errWriteLimit = errors.New("console:write timed out")

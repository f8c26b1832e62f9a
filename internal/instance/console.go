package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"provium/internal/console"
	"provium/internal/pattern"
	"provium/internal/stream"
)

// Console is what ttyS0 and hvc0 of a VM have printed, over all its boots. It is safe
// for concurrent use.
type Console struct {
	vm  string
	log *console.Log

	mu sync.Mutex
	at int64 // where the last stream stopped
}

// CreateConsole returns the console of the VM of that name, with its log at path.
func CreateConsole(path, vm string) (*Console, error) {
	log, err := console.CreateLog(path, console.LogConfig{})
	if err != nil {
		return nil, err
	}
	return &Console{vm: vm, log: log}, nil
}

// Write adds what a guest has printed.
func (c *Console) Write(p []byte) (int, error) { return c.log.Write(p) }

// Park has the console hold no descriptor while there is no guest, see [console.Log.Park].
func (c *Console) Park(path string) error { return c.log.Park(path) }

// MarkBoot says that a boot begins.
func (c *Console) MarkBoot() { c.log.MarkBoot() }

// markReset says that a boot begins by a reset. One that the guest makes itself does not
// move the position of Expect.
func (c *Console) markReset(byGuest bool) {
	if byGuest {
		c.log.MarkReboot()
	} else {
		c.log.MarkBoot()
	}
}

// Len returns the number of bytes printed since the first boot.
func (c *Console) Len() int64 { return c.log.Len() }

// Content returns everything printed, and where the next Expect begins.
func (c *Console) Content() (text []byte, search int64, err error) { return c.log.Content() }

// Replace makes the console that of a snapshot: with what Content returned.
func (c *Console) Replace(text []byte, search int64) error { return c.log.Replace(text, search) }

// ReadAll returns everything printed since the first boot.
func (c *Console) ReadAll() ([]byte, error) { return c.log.ReadAll() }

// Tail returns the last n bytes printed. If the log cannot be read, the text, which is
// only for people, says so.
func (c *Console) Tail(n int) string {
	b, err := c.log.Tail(n)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(b)
}

// expectTail is how much of the console the error of a failed Expect shows, in bytes.
const expectTail = 1 << 10

var errExpectTimeout = errors.New("expect timed out")

// Expect waits until a match of p has been printed after the previous match, or since
// the last boot. The position is one per VM.
func (c *Console) Expect(ctx context.Context, p pattern.Pattern, timeout time.Duration) (*pattern.Match, error) {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, errExpectTimeout)
	defer cancel()
	m, err := c.log.Expect(limited, p)
	if err != nil && errors.Is(context.Cause(limited), errExpectTimeout) {
		why := ""
		if errors.Is(err, pattern.ErrSlow) {
			why = ": " + pattern.ErrSlow.Error()
		}
		return nil, fmt.Errorf("expect timed out waiting for `%s` on the console of vm `%s`%s; it ends with:\n%s", p,
			c.vm, why, c.Tail(expectTail))
	}
	return m, err
}

// consoleChunk bounds what a console stream returns at once, in bytes.
const consoleChunk = 64 << 10

// NewSource returns the source of a stream of what the console prints: the first one
// of a boot from its beginning, later ones from where the previous one stopped. open
// are the streams of the VM that are open.
func (c *Console) NewSource(open []*stream.Stream) stream.Source {
	c.mu.Lock()
	at := c.at
	c.mu.Unlock()
	for _, s := range open {
		if src, ok := s.Source().(*consoleSource); ok {
			at = max(at, src.at.Load()-int64(s.Held()))
		}
	}
	boot := c.log.Boot()
	if at > c.log.Len() {
		at = 0 // of the guest before a restore
	}
	src := &consoleSource{console: c, boot: boot}
	src.at.Store(max(at, c.log.BootStart(boot)))
	return src
}

// consoleSource reads the log of one boot.
type consoleSource struct {
	console *Console
	boot    int
	at      atomic.Int64
}

func (s *consoleSource) Next(ctx context.Context) ([]byte, error) {
	p, at, err := s.console.log.Next(ctx, s.boot, s.at.Load(), consoleChunk)
	s.at.Store(at)
	if errors.Is(err, console.ErrEnded) {
		err = io.EOF
	}
	return p, err
}

func (s *consoleSource) Ended() bool { return s.console.log.Exhausted(s.boot, s.at.Load()) }

func (s *consoleSource) Close(unread int) {
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	s.console.at = max(s.console.at, s.at.Load()-int64(unread))
}

var errWriteLimit = errors.New("console:write timed out")

// WriteConsole sends input to the console: to the device that the last console= of the
// command line names. A limit of 0 is no limit.
func (i *Instance) WriteConsole(ctx context.Context, data []byte, limit time.Duration) error {
	hvc := false
	for _, word := range strings.Fields(i.cfg.QEMU.Cmdline) {
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
	n, err := i.machine.WriteConsole(limited, hvc, data)
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

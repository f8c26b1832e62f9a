package byhand

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"provium/internal/guest"
	"provium/internal/stream"
	"provium/internal/topology"
)

// QuitKey is the key that ends a Console: Ctrl-].
const QuitKey = 0x1d

// consoleShell is a shell on the console of a guest whose userland has none there.
const consoleShell = `t=/dev/$(sed 's/.* //' /sys/class/tty/console/active)
cd 2>/dev/null || cd /
exec setsid -c sh -l <"$t" >"$t" 2>&1`

// Console connects a terminal with the console of a guest, from the first line of its boot
// on, until QuitKey or the guest's end. The guest need not have booted, nor have an agent;
// where it has ours and no init of its own, a shell is started on the console.
func (g *Guest) Console(ctx context.Context, t *Terminal) error {
	ctx, stop := Interruptible(ctx, t.Signals)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(g.passKeys(ctx, t)) }() // a read of a key may last longer than the guest
	go g.consoleShell(ctx)
	err := g.show(ctx, t.Screen)
	if errors.Is(context.Cause(ctx), errQuit) {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// errQuit ends a console on the user's wish.
var errQuit = errors.New("quit")

// passKeys writes what is typed to the console, up to QuitKey.
func (g *Guest) passKeys(ctx context.Context, t *Terminal) error {
	buf := make([]byte, 4096)
	for {
		n, err := t.Keys.Read(buf)
		keys, _, quit := bytes.Cut(buf[:n], []byte{QuitKey})
		if len(keys) > 0 {
			// A guest that is gone is noticed by who reads its console.
			_ = g.VM.Console().Write(ctx, keys, typeLimit)
		}
		if quit || err != nil {
			return errQuit
		}
	}
}

const (
	typeLimit = 10 * time.Second // a guest that takes no key in that time misses it
	waitStep  = time.Minute      // of a console that prints nothing
)

// show prints the console, over reboots, until the guest ends.
func (g *Guest) show(ctx context.Context, screen io.Writer) error {
	for {
		s, err := g.VM.Console().Read(stream.Site{})
		if err != nil {
			return err
		}
		err = copyStream(ctx, s, screen)
		s.Close()
		if err != nil || g.VM.State() != topology.Booted {
			return err
		}
	}
}

func copyStream(ctx context.Context, s *stream.Stream, to io.Writer) error {
	for {
		p, err := s.Next(ctx, waitStep)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && p == nil && s.EOF(), errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if _, err := to.Write(p); err != nil {
			return err
		}
	}
}

// consoleShell runs a shell on the console again and again, if nothing else does, until one
// cannot be started.
func (g *Guest) consoleShell(ctx context.Context) {
	for ctx.Err() == nil {
		link, _, err := g.VM.BeginOp(ctx, "console")
		if err != nil {
			return // no agent, or no guest
		}
		own := link.Info().Init == "minimal"
		var r *guest.RunResult
		if own {
			r, err = link.Run(ctx, guest.RunRequest{Shell: consoleShell, Env: map[string]string{"TERM": "vt100"}})
		}
		g.VM.EndOp("console")
		switch {
		case !own, err != nil && link.Err() == nil:
			return
		case err == nil && r.Status == guest.Exited && (r.ExitCode == ExitNotStarted || r.ExitCode == ExitNotFound):
			return
		}
	}
}

// Package live connects a run to the terminal of the process: it passes the outputs above the
// status area of package display, and follows the clock, signals and keys for it.
//
// It decides nothing about the run. Start with Show.
package live

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/dialog"
	"provium/internal/display"
	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/run"
	"provium/internal/terminal"
)

const (
	// redrawEvery is how often the status area is brought up to date.
	redrawEvery = 100 * time.Millisecond

	// stopPause is longer than the kernel takes to stop a process.
	stopPause = 200 * time.Millisecond

	ctrlT = 0x14
)

// Terminal is what a person has of the process.
type Terminal struct {
	Stdin, Stdout, Stderr *os.File // Stdin may be nil
	// Dumb says that terminals show nothing but text, Color that they show colours.
	Dumb, Color bool
	// Notify begins to collect signals; stop ends that.
	Notify func(...os.Signal) (ch <-chan os.Signal, stop func())
}

// Shown is a run that is shown while it lasts.
type Shown struct {
	screen   *os.File  // with the status area, or nil
	out, err io.Writer // above it
	display  *display.Display
	keys     *terminal.Keys // nil: nobody types

	away bool // in the background, where nothing is drawn

	over   chan struct{}
	joined sync.WaitGroup
}

// Show has a run shown, and its outputs pass above the status area. typed, if not nil, gets the
// keys that are for the run. The caller must call Close at the end.
func Show(t Terminal, o *run.Options, typed func(key byte)) *Shown {
	screen := t.screen()
	cfg := display.Config{Notes: t.Stderr, Now: time.Now, Expected: o.Expected()}
	if screen != nil {
		cfg.Screen, cfg.Color = screen, t.Color
		cfg.Size = func() (rows, cols int) {
			r, c := terminal.Size(screen)
			return int(r), int(c)
		}
	}
	l := &Shown{screen: screen, display: display.New(cfg), over: make(chan struct{})}
	if screen != nil {
		l.out, l.err = l.display.Writer(), l.display.Writer()
	}
	o.Events.Other = append(o.Events.Other, sink.Place{To: l.display, Level: event.Progress})
	l.listen(t.Notify)
	if t.Stdin != nil && terminal.Is(t.Stdin) {
		keys, err := terminal.ReadKeys(t.Stdin, func(key byte) {
			if key == ctrlT {
				l.display.Describe()
			} else if typed != nil {
				typed(key)
			}
		})
		if err == nil { // else Ctrl-T shows nothing
			l.keys = keys
		}
	}
	l.apply(o)
	return l
}

// apply has the outputs of a run pass above the status area, and a person who looks at its tests
// have the terminal.
func (l *Shown) apply(o *run.Options) {
	if f, ok := o.Stdout.(*os.File); ok && l.screen != nil && terminal.Is(f) {
		o.Stdout = l.out
	}
	if f, ok := o.Stderr.(*os.File); ok && l.screen != nil && terminal.Is(f) {
		o.Stderr = l.err
	}
	if _, already := o.Person.(*besides); o.Person != nil && !already {
		o.Person = &besides{o.Person, l}
	}
}

// screen returns the terminal for the status area, or nil if no terminal could show it.
func (t Terminal) screen() *os.File {
	if t.Dumb {
		return nil
	}
	for _, f := range []*os.File{t.Stderr, t.Stdout} {
		if terminal.Is(f) {
			return f
		}
	}
	return nil
}

// listen follows the clock and signals.
func (l *Shown) listen(notify func(...os.Signal) (<-chan os.Signal, func())) {
	asked, stopAsking := notify(unix.SIGUSR1)
	drawn, stopDrawing := notify(unix.SIGWINCH, unix.SIGCONT)
	stopped, dontStop := notify(unix.SIGTSTP)
	tick := time.NewTicker(redrawEvery)
	l.joined.Add(1)
	go func() {
		defer l.joined.Done()
		defer tick.Stop()
		defer stopAsking()
		defer stopDrawing()
		defer dontStop()
		for {
			select {
			case <-tick.C:
				l.follow()
				l.display.Tick()
			case <-asked:
				l.display.Describe()
			case sig := <-drawn:
				if sig == unix.SIGCONT && l.keys != nil {
					l.keys.Continued()
				}
				l.follow()
				l.display.Resized()
			case <-stopped: // the shell gets the terminal as it was
				if hasShell() {
					l.pause()
					_ = unix.Kill(unix.Getpid(), unix.SIGSTOP) // one may stop oneself
					time.Sleep(stopPause)                      // threads run for a moment yet
					l.follow()
					l.resume()
				}
			case <-l.over:
				return
			}
		}
	}()
}

// follow hides the status area while the process is in the background.
func (l *Shown) follow() {
	away := l.screen != nil && terminal.IsElsewhere(l.screen)
	if away == l.away {
		return
	}
	l.away = away
	if away {
		l.display.Pause()
	} else {
		l.display.Resume()
	}
}

// hasShell reports whether there is a shell with job control, which continues what it has
// stopped. Without one, the kernel ignores Ctrl-Z.
func hasShell() bool {
	group := unix.Getpgrp()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", group)) // of the leader
	if err != nil {
		return false
	}
	var state string
	var parent int
	behindName := stat[bytes.LastIndexByte(stat, ')')+1:]
	if _, err := fmt.Sscan(string(behindName), &state, &parent); err != nil || parent <= 1 {
		return false
	}
	theirGroup, err := unix.Getpgid(parent)
	if err != nil || theirGroup == group {
		return false
	}
	ours, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	theirs, err := unix.Getsid(parent)
	return err == nil && ours == theirs
}

// pause leaves the terminal to another program, and resume ends that.
func (l *Shown) pause() {
	if l.keys != nil {
		l.keys.Pause()
	}
	l.display.Pause()
}

func (l *Shown) resume() {
	l.display.Resume()
	if l.keys != nil {
		l.keys.Resume()
	}
}

// Close ends the display and restores the terminal.
func (l *Shown) Close() {
	close(l.over)
	l.joined.Wait()
	if l.keys != nil {
		l.keys.Close()
	}
	_ = l.display.Close() // it has no error
}

// besides is a person who has the terminal for themselves while they type.
type besides struct {
	run.Person
	shown *Shown
}

// Talk implements [run.Person].
func (b *besides) Talk(intro string, x *dialog.Exchange) error {
	b.shown.pause()
	defer b.shown.resume()
	return b.Person.Talk(intro, x)
}

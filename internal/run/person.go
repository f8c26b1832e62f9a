package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"provium/internal/dialog"
	"provium/internal/script"
)

// Person is somebody at the terminal of a run.
type Person interface {
	// Talk shows the intro and lets the person type, when it is their turn.
	Talk(intro string, x *dialog.Exchange) error
	// Interrupt takes a Ctrl-C, and reports whether that was for what was typed.
	Interrupt() bool
}

// paused says that a test waits for a person.
type paused struct{ Test, Why string }

// typed is what the person wants of the test that waits.
type typed struct {
	Source   string
	Complete bool
	Break    bool // what runs shall end
	Leave    bool // the test goes on
}

// shown is what came of a typed.
type shown struct {
	Text       string
	Incomplete bool
	Names      []string
}

// pauses is the runner's way to the person. It implements script.Pauses.
type pauses struct {
	r    *runner
	turn chan struct{} // has a token during a conversation

	mu  sync.Mutex
	now *dialog.Exchange // nil while nobody talks
}

func newPauses(r *runner) *pauses { return &pauses{r: r, turn: make(chan struct{}, 1)} }

// Open implements script.Pauses.
func (p *pauses) Open(ctx context.Context, test, why string) (script.Dialog, func(), error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	x := dialog.New()
	p.mu.Lock()
	p.now = x
	p.mu.Unlock()
	done := func() {
		x.End(nil)
		p.mu.Lock()
		p.now = nil
		p.mu.Unlock()
		<-p.turn
	}
	if err := p.r.pipe.send(&message{Paused: &paused{test, why}}); err != nil {
		done()
		return nil, nil, err
	}
	return x, done, nil
}

// status says for visitors of the guests whether a person looks at them.
func (p *pauses) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		return "paused"
	}
	return ""
}

// take passes on what the person has typed. It does not wait.
func (p *pauses) take(t *typed) {
	p.mu.Lock()
	x := p.now
	p.mu.Unlock()
	switch {
	case x == nil:
	case t.Break:
		x.Break()
	case t.Leave:
		x.Close()
	default:
		go func() {
			s, err := x.Ask(dialog.Typed{Source: t.Source, Complete: t.Complete})
			if err != nil {
				s.Text = err.Error()
			}
			_ = p.r.pipe.send(&message{Shown: &shown{s.Text, s.Incomplete, s.Names}}) // else nobody is there
		}()
	}
}

// talk is the dispatcher's side of a pause.
type talk struct {
	x      *dialog.Exchange
	shown  chan dialog.Shown
	cancel context.CancelFunc
}

// startTalk lets the person look at a test of f until they leave or the file ends.
func (f *fileRun) startTalk(p *paused) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &talk{x: dialog.New(), shown: make(chan dialog.Shown, 1), cancel: cancel}
	f.talk = t
	leave := func() { _ = f.pipe.send(&message{Typed: &typed{Leave: true}}) } // else the file has ended
	if f.person == nil {
		leave()
		return
	}
	go f.passTyped(ctx, t)
	go func() {
		intro := f.job.Path + ": test `" + p.Test + "` is paused\n" + p.Why +
			"\nType Lua, or rewind for the state before the last operation; Ctrl-D or exit lets the run go on."
		if err := f.person.Talk(intro, t.x); err != nil && !errors.Is(err, dialog.ErrEnded) {
			_, _ = io.WriteString(f.stderr, "provium: "+err.Error()+"\n")
		}
		leave()
	}()
}

// passTyped passes on what the person types, and what comes of it, until ctx ends.
func (f *fileRun) passTyped(ctx context.Context, t *talk) {
	defer t.x.End(nil)
	breaks, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for {
			select {
			case <-t.x.Breaks():
				_ = f.pipe.send(&message{Typed: &typed{Break: true}})
			case <-breaks.Done():
				return
			}
		}
	}()
	for {
		wish, err := t.x.Receive(ctx)
		if err != nil {
			return
		}
		if f.pipe.send(&message{Typed: &typed{Source: wish.Source, Complete: wish.Complete}}) != nil {
			return
		}
		select {
		case s := <-t.shown:
			if t.x.Answer(s) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// endTalk ends the conversation about a file that has ended.
func (f *fileRun) endTalk() {
	if f.talk != nil {
		f.talk.cancel()
	}
}

// interrupts follows Ctrl-C: the first one ends the run with a summary, the
// second one kills what still runs and skips the summary.
type interrupts struct {
	signals    <-chan os.Signal
	stderr     io.Writer
	stop, kill func(reason string)
	person     Person // gets those for what they have typed; nil: nobody is there

	once, twice atomic.Bool
}

// watch returns when over is closed.
func (i *interrupts) watch(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case sig := <-i.signals:
			if sig == os.Interrupt && i.person != nil && i.person.Interrupt() {
				continue
			}
			reason := fmt.Sprintf("interrupted (%v)", sig)
			switch {
			case i.once.CompareAndSwap(false, true):
				fmt.Fprintf(i.stderr, "\nprovium: %v: closing what runs; once more kills it\n", sig)
				i.stop(reason)
			case i.twice.CompareAndSwap(false, true):
				i.kill(reason)
			}
		}
	}
}

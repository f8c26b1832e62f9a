package dialog

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

func TestExchange(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	x := New()
	done, waiting := make(chan error, 1), make(chan struct{})
	go func() {
		for {
			typed, err := x.Receive(ctx)
			if err != nil {
				done <- err
				return
			}
			s := Shown{Text: "ran " + typed.Source}
			if typed.Complete {
				s = Shown{Names: []string{typed.Source + "x"}}
			}
			if typed.Source == "wait" {
				close(waiting)
				<-x.Breaks()
				s.Text = "broken"
			}
			if err := x.Answer(s); err != nil {
				done <- err
				return
			}
		}
	}()
	if s, err := x.Run("a"); s.Text != "ran a" || err != nil {
		t.Error(s, err)
	}
	if names, err := x.Complete("b"); len(names) != 1 || names[0] != "bx" || err != nil {
		t.Error(names, err)
	}
	asked := make(chan Shown)
	go func() {
		s, _ := x.Ask(Typed{Source: "wait"})
		asked <- s
	}()
	<-waiting
	x.Break()
	x.Break() // one is enough
	if s := <-asked; s.Text != "broken" {
		t.Error(s)
	}
	x.Close()
	x.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestBreakThatComesTooLate has a break come when what it was meant for has ended.
func TestBreakThatComesTooLate(t *testing.T) {
	x := New()
	x.Break()
	go func() { _, _ = x.Ask(Typed{Source: "next"}) }()
	if typed, err := x.Receive(context.Background()); typed.Source != "next" || err != nil {
		t.Fatal(typed, err)
	}
	select {
	case <-x.Breaks():
		t.Error("the next wish is broken")
	default:
	}
	x.End(nil)
}

// TestEnds has either end go first.
func TestEnds(t *testing.T) {
	gone := errors.New("gone")
	x := New()
	x.End(gone)
	x.End(nil)
	if _, err := x.Run("a"); !errors.Is(err, gone) {
		t.Error(err)
	}
	if _, err := x.Complete("a"); !errors.Is(err, gone) {
		t.Error(err)
	}
	x = New()
	go func() {
		if _, err := x.Receive(context.Background()); err != nil {
			t.Error(err)
		}
		x.End(nil)
	}()
	if _, err := x.Run("a"); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(gone)
	if _, err := New().Receive(ctx); !errors.Is(err, gone) {
		t.Error(err)
	}
}

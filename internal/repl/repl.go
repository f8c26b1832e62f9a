// Package repl lets a person type Lua on a terminal, line by line, with editing, history and
// completion. It knows no Lua: what is typed is run and completed elsewhere, perhaps in
// another process.
//
// Start with Terminal.Talk.
package repl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/peterh/liner"

	"provium/internal/dialog"
	"provium/internal/terminal"
)

// Terminal is the terminal of the process. One conversation at a time takes place on it.
type Terminal struct {
	Out     *os.File
	History string // file; "" keeps none

	turn sync.Mutex // held during a conversation

	mu      sync.Mutex
	running *dialog.Exchange // while something typed runs
	talking bool
}

const (
	prompt     = "provium> "
	morePrompt = "     ...> "
)

// Talk begins a conversation when the one before has ended, shows the intro, and ends with
// Ctrl-D or the word exit. The error is of the exchange or of the terminal.
func (t *Terminal) Talk(intro string, x *dialog.Exchange) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	defer x.Close()
	select {
	case <-x.Ended(): // while another conversation went on
		return nil
	default:
	}
	fmt.Fprintln(t.Out, terminal.Escape(intro))
	line := liner.NewLiner()
	defer line.Close()
	line.SetCtrlCAborts(true)
	line.SetTabCompletionStyle(liner.TabPrints)
	line.SetCompleter(func(text string) []string {
		names, _ := x.Complete(text) // one that is gone says so at the next line
		return names
	})
	t.readHistory(line)
	defer t.writeHistory(line)
	t.setTalking(true)
	defer t.setTalking(false)
	for source := ""; ; {
		text, err := t.read(line, source != "")
		switch {
		case errors.Is(err, liner.ErrPromptAborted):
			source = ""
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(t.Out)
			return nil
		case err != nil:
			return fmt.Errorf("terminal: %w", err)
		}
		if source != "" {
			source += "\n"
		}
		source += text
		switch strings.TrimSpace(source) {
		case "":
			source = ""
			continue
		case "exit", "quit":
			return nil
		}
		answer, err := t.run(x, source)
		if err != nil {
			return err
		}
		if answer.Incomplete && text != "" {
			continue
		}
		if answer.Incomplete { // an empty line ends what makes no sense
			answer.Text = "incomplete: " + strings.ReplaceAll(strings.TrimSpace(source), "\n", " ")
		}
		remember(line, source)
		source = ""
		if answer.Text != "" {
			fmt.Fprintln(t.Out, terminal.Escape(answer.Text))
		}
	}
}

// remember adds what was typed to the history: as one line, unless a comment would reach too
// far there.
func remember(line *liner.State, source string) {
	source = strings.TrimSpace(source)
	if !strings.Contains(source, "--") {
		source = strings.ReplaceAll(source, "\n", " ")
	}
	for text := range strings.SplitSeq(source, "\n") {
		line.AppendHistory(text)
	}
}

func (t *Terminal) read(line *liner.State, more bool) (string, error) {
	if more {
		return line.Prompt(morePrompt)
	}
	return line.Prompt(prompt)
}

// run runs something typed. Interrupt ends it.
func (t *Terminal) run(x *dialog.Exchange, source string) (dialog.Shown, error) {
	t.mu.Lock()
	t.running = x
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.running = nil
		t.mu.Unlock()
	}()
	return x.Run(source)
}

func (t *Terminal) setTalking(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.talking = on
}

// Interrupt takes a Ctrl-C. It reports whether that was for what a person has typed.
func (t *Terminal) Interrupt() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		t.running.Break()
	}
	return t.talking
}

func (t *Terminal) readHistory(line *liner.State) {
	if t.History == "" {
		return
	}
	if f, err := os.Open(t.History); err == nil {
		defer f.Close()
		_, _ = line.ReadHistory(f) // what is damaged is left out
	}
}

// writeHistory keeps what was typed. A directory that cannot be written to keeps nothing.
func (t *Terminal) writeHistory(line *liner.State) {
	if t.History == "" || os.MkdirAll(filepath.Dir(t.History), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(t.History, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = line.WriteHistory(f)
}

package e2e

import (
	"strings"
	"testing"
)

// line types a line.
func (s *tmux) line(text string) {
	s.t.Helper()
	s.do("send-keys", "-l", text)
	s.do("send-keys", "Enter")
}

// awaitPrompt waits until the last line ends with a prompt.
func (s *tmux) awaitPrompt(prompt string) {
	s.t.Helper()
	s.await("the prompt "+prompt, func(screen string) bool { return strings.HasSuffix(screen, prompt) })
}

// TestShellInTmux works in a shell of a guest as a person does, in one guest.
func TestShellInTmux(t *testing.T) {
	p := emptyFolder(t)
	x := p.inTmux(80, 24, "P='"+p.bin+"' PS1='host> ' ENV= exec sh")
	x.awaitPrompt("host>")
	x.line(`"$P" shell; echo code $?.`)
	x.awaitPrompt(":~#")
	x.line("stty size")
	x.awaitText("24 80")
	x.awaitPrompt(":~#")
	x.line(`printf '\033[31m%s\033[0m\n' re''d; tty`)
	x.awaitText("\nred")
	if colored := x.do("capture-pane", "-p", "-e"); !strings.Contains(colored, "\x1b[31mred") {
		t.Errorf("no colour: %q", colored)
	}
	x.awaitText("/dev/pts/")
	x.awaitPrompt(":~#")

	// A program that draws on the whole screen follows the size.
	x.line("vi /tmp/text")
	x.awaitText("- /tmp/text")
	x.do("resize-window", "-x", "100", "-y", "40")
	x.await("a larger program", func(screen string) bool { return strings.Count(screen, "~\n") > 30 })
	x.do("send-keys", "i")
	x.awaitText("I /tmp/text")
	x.do("send-keys", "-l", "typed here")
	x.awaitText("typed here")
	x.do("send-keys", "Escape")
	x.awaitText("- /tmp/text")
	x.line(":wq")
	x.awaitPrompt(":~#")
	x.line("clear")
	x.await("a clear screen", func(screen string) bool { return !strings.Contains(screen, "typed") })
	x.line(`while [ "$(stty size)" != "40 100" ]; do sleep 0.1; done; cat /tmp/text; echo re''sized`)
	x.awaitText("typed here\nresized")

	// Ctrl-C is for what runs there, Ctrl-D for the shell in the shell.
	x.line(`sh -c 'echo be""gun; exec sleep 1000'`)
	x.awaitText("begun")
	x.do("send-keys", "C-c")
	x.line("echo ended $?.")
	x.awaitText("ended 130.")
	x.line("sh -c 'kill -TERM $$'; echo killed $?.; cat; echo en''ded")
	x.awaitText("killed 143.")
	x.do("send-keys", "-l", "read")
	x.do("send-keys", "Enter", "C-d")
	x.awaitText("read\nread\nended")

	// Afterwards the terminal is as it was.
	x.line("exit 6")
	x.awaitText("code 6.")
	x.line("stty -a | grep -o ' echo ' | wc -l; echo of the ho''st")
	x.awaitText("1\nof the host")
	x.line(`"$P" shell . -- sh -c 'test -t 0 && kill -KILL $$'; echo code $?.`)
	x.awaitText("code 137.")
}

package fakemachine

import (
	"io"
	"strconv"
	"strings"
	"time"
)

// builtins are the programs that every guest has.
var builtins = map[string]Program{
	"true":  func(*Process) int { return 0 },
	"false": func(*Process) int { return 1 },
	"echo": func(p *Process) int {
		p.Print(strings.Join(p.Args[1:], " ") + "\n")
		return 0
	},
	"cat": func(p *Process) int {
		if len(p.Args) == 1 {
			text, err := io.ReadAll(p)
			p.Print(string(text))
			if err != nil {
				return 1
			}
			return 0
		}
		for _, name := range p.Args[1:] {
			text, failure := p.Files.Read(name)
			if failure != nil {
				p.Complain("cat: " + name + ": " + failure.Text + "\n")
				return 1
			}
			p.Print(string(text))
		}
		return 0
	},
	"sleep": func(p *Process) int {
		if len(p.Args) < 2 {
			return 1
		}
		seconds, err := strconv.ParseFloat(p.Args[1], 64)
		if err != nil {
			return 1
		}
		if sleep(p.Context, time.Duration(seconds*float64(time.Second))) != nil {
			return 1
		}
		return 0
	},
}

// shell returns a program for the text of a command line: commands behind each
// other with ";" or "&&", words between blanks, "exit N", and "> FILE" or ">> FILE"
// at a command's end. Quotation marks around a word are removed.
func (m *Machine) shell(text string) Program {
	if text == "" {
		return nil
	}
	return func(p *Process) int {
		code := 0
		for _, line := range strings.Split(strings.ReplaceAll(text, "\n", ";"), ";") {
			for _, part := range strings.Split(line, "&&") {
				words := strings.Fields(part)
				if len(words) == 0 {
					continue
				}
				for i, w := range words {
					words[i] = strings.Trim(w, `"'`)
				}
				if words[0] == "exit" {
					if len(words) > 1 {
						code, _ = strconv.Atoi(words[1]) // a word is 0
					}
					return code
				}
				if code = m.command(p, words); code != 0 {
					break
				}
			}
		}
		return code
	}
}

// command carries out one command of a shell.
func (m *Machine) command(p *Process, words []string) int {
	put := func(string, []byte) {}
	redirected := false
	if n := len(words); n > 2 && (words[n-2] == ">" || words[n-2] == ">>") {
		redirected = true
		add, to := words[n-2] == ">>", words[n-1]
		put = func(_ string, data []byte) {
			if add {
				m.Files.Append(to, data)
			} else {
				m.Files.Write(to, data)
			}
		}
		words = words[:n-2]
	}
	program := m.program(words[0])
	if program == nil {
		p.Complain("/bin/sh: " + words[0] + ": not found\n")
		return 127
	}
	own := *p
	own.Args = words
	if !redirected {
		return program(&own)
	}
	own.p = &process{}
	own.p.init()
	own.p.cancel()
	own.p.stdinClosed = true
	code := program(&own)
	put("", own.p.Stdout)
	p.Complain(string(own.p.Stderr))
	return code
}

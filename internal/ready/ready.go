// Package ready is the notation of what a boot waits for: the option `wait` of a boot and the key `ready` of a
// profile.
//
// It waits for nothing: that is done by package instance (the agent, the console) and package guestos (all that the
// agent is asked for). Start with Parse.
package ready

import (
	"fmt"
	"strings"
)

// Kind is what a boot waits for.
type Kind string

// The kinds of conditions.
const (
	Agent   Kind = ""         // the agent answers
	None    Kind = "none"     // the guest runs
	Init    Kind = "init"     // PID 1 has left the initramfs
	Systemd Kind = "systemd"  // systemd has carried out what the boot consists of
	Console Kind = "console:" // the console shows a text
	Command Kind = "command:" // a command of the guest's shell succeeds
)

// Condition is what a boot waits for. Its zero value is the agent.
type Condition struct {
	Kind Kind
	Text string // of the console, or the command
}

const valid = "`agent`, `none`, `init`, `systemd`, `console:TEXT` or `command:CMD`"

// Parse understands what a user writes; "" is the agent.
func Parse(text string) (Condition, error) {
	switch k := Kind(text); k {
	case Agent, None, Init, Systemd:
		return Condition{Kind: k}, nil
	case "agent":
		return Condition{}, nil
	}
	for _, k := range []Kind{Console, Command} {
		if rest, ok := strings.CutPrefix(text, string(k)); ok && strings.TrimSpace(rest) != "" {
			return Condition{k, rest}, nil
		}
	}
	return Condition{}, fmt.Errorf("expected %s, got `%s`", valid, text)
}

// String returns the condition as a user writes it.
func (c Condition) String() string {
	if c.Kind == Agent {
		return "agent"
	}
	return string(c.Kind) + c.Text
}

// NeedsAgent reports whether the condition holds only in a guest whose agent has answered.
func (c Condition) NeedsAgent() bool { return c.Kind != None && c.Kind != Console }

// AsksGuest reports whether the agent is asked for the condition, once it has answered.
func (c Condition) AsksGuest() bool { return c.Kind == Init || c.Kind == Systemd || c.Kind == Command }

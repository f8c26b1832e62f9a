package main

import (
	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/flagtext"
	"provium/internal/event"
	"provium/internal/event/sink"
)

// eventFlags say where the event stream goes.
type eventFlags struct {
	save, socket string
	page         string
	stdout       bool
	coverage     bool
	format       event.Format
}

func (f *eventFlags) group() flagGroup {
	g := newGroup("Events")
	g.flags.Var(value(&f.page, "file", flagtext.Path), "report",
		"write an HTML page to `FILE`: timeline, failures with all that is known of them, consoles")
	g.flags.Var(value(&f.save, "path", flagtext.Path), "save-events",
		"save the event stream to the file `PATH`, for `provium report`")
	g.flags.BoolVar(&f.stdout, "events-stdout", false,
		"write the event stream to standard output, and all that is for people to standard error")
	g.flags.Var(value(&f.socket, "path", flagtext.Path), "events-socket",
		"give the event stream to all clients of the unix socket `PATH`")
	g.flags.Var(value(&f.format, "format", event.ParseFormat), "events-format",
		"`FORMAT` of event streams: msgpack or jsonl (default msgpack)")
	g.flags.BoolVar(&f.coverage, "coverage", false,
		"at the end show which specifications have tests, what was slow, and how the pool was used")
	return g
}

// check refuses a format without a stream.
func (f *eventFlags) check(cmd *cobra.Command) error {
	if f.format != "" && f.save == "" && f.socket == "" && !f.stdout {
		return usage(cmd, "--events-format needs --save-events, --events-stdout or --events-socket")
	}
	return nil
}

// eventOptions returns what the flags choose.
func (p *program) eventOptions(f *runFlags) sink.Options {
	o := sink.Options{File: p.absolute(f.events.save), Socket: p.absolute(f.events.socket),
		Format: f.events.format}
	if f.events.stdout {
		o.Pipe = p.stdout
	}
	return o
}

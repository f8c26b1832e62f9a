package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/terminal"
)

const reportHelp = `Show the results of saved event streams.

FILEs are what --save-events has written, in either format; - is standard input.
Those of several shards are shown as one run. A stream of a run that was killed is
shown up to its end, a damaged one up to the damage.`

func (p *program) reportCommand() *cobra.Command {
	var verbose, quiet, asJSON bool
	output := newGroup("Output")
	output.flags.BoolVarP(&verbose, "verbose", "v", false, "every test, with its log")
	output.flags.BoolVarP(&quiet, "quiet", "q", false, "failures and the summary only")
	output.flags.BoolVar(&asJSON, "json", false, "one JSON line per file")
	cmd := &cobra.Command{
		Use:               "report FILE... [FLAGS]",
		Short:             "Show the results of saved event streams, also of several shards",
		Long:              reportHelp,
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usage(cmd, "expected at least one FILE that --save-events has written")
			}
			if err := exclusive(cmd, [2]string{"verbose", "quiet"}); err != nil {
				return err
			}
			how := report.TerminalConfig{Out: p.stdout, Err: p.stderr, Color: p.colors()}
			switch {
			case verbose:
				how.Verbosity = report.Verbose
			case quiet:
				how.Verbosity = report.Quiet
			}
			return p.report(files, how, asJSON)
		},
	}
	finish(cmd, output)
	return cmd
}

// report shows saved streams. A damaged one is an error, after all results were shown.
func (p *program) report(files []string, how report.TerminalConfig, asJSON bool) error {
	var saved report.Saved
	var damage error
	for _, name := range files {
		before := len(saved.Files)
		err := p.readEvents(&saved, name)
		if err == nil {
			continue
		}
		if name == "-" {
			name = "standard input"
		}
		err = fmt.Errorf("%s: %w", name, err)
		if errors.Is(err, event.ErrTruncated) {
			fmt.Fprintf(p.stderr, "provium: warning: %s\n", terminal.Escape(err.Error()))
			continue
		}
		if errors.Is(err, event.ErrUnknownKind) || errors.Is(err, event.ErrUnknownField) {
			err = fmt.Errorf("%w (was it written by another version of Provium?)", err)
		}
		if len(saved.Files) == before {
			return err
		}
		damage = errors.Join(damage, fmt.Errorf("%w; only what precedes this is shown", err))
	}
	if saved.Lost > 0 {
		fmt.Fprintf(p.stderr, "provium: warning: %d events are missing, which a slow reader did not get\n", saved.Lost)
	}
	return errors.Join(p.showSaved(&saved, how, asJSON), damage)
}

// readEvents adds the stream in a file.
func (p *program) readEvents(saved *report.Saved, name string) error {
	if name == "-" {
		return saved.Read(event.NewReader(os.Stdin))
	}
	f, err := os.Open(p.absolute(name))
	if err != nil {
		return errors.Unwrap(err) // the name is said by the caller
	}
	defer f.Close()
	return saved.Read(event.NewReader(f))
}

func (p *program) showSaved(saved *report.Saved, how report.TerminalConfig, asJSON bool) error {
	counts := report.Counts{NotStarted: saved.NotStarted}
	text := report.NewTerminal(how)
	show, summary := text.File, text.Summary
	if asJSON {
		show = report.NewJSON(how.Out).File
		summary = func(c report.Counts, elapsed time.Duration) error {
			_, err := fmt.Fprintln(how.Err, report.Summary(c, elapsed))
			return err
		}
	}
	for _, f := range saved.Files {
		counts.Add(f)
		if err := show(f); err != nil {
			return err
		}
	}
	return summary(counts, saved.Elapsed)
}

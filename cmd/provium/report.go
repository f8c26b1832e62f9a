package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"provium/internal/event"
	"provium/internal/report"
	"provium/internal/report/page"
	"provium/internal/run"
	"provium/internal/terminal"
)

const reportHelp = `Show the results of saved event streams.

FILEs are what --save-events has written, in either format; - is standard input.
Those of several shards are shown as one run. A stream of a run that was killed is
shown up to its end, a damaged one up to the damage.`

func (p *program) reportCommand() *cobra.Command {
	var verbose, quiet, asJSON bool
	var out string
	output := newGroup("Output")
	output.flags.BoolVarP(&verbose, "verbose", "v", false, "every test, with its log")
	output.flags.BoolVarP(&quiet, "quiet", "q", false, "failures and the summary only")
	output.flags.BoolVar(&asJSON, "json", false, "one JSON line per file")
	output.flags.VarP(value(&out, "file", parsePath), "output", "o",
		"write an HTML page to `FILE` instead, as --report does")
	cmd := &cobra.Command{
		Use:               "report FILE... [FLAGS]",
		Short:             "Show the results of saved event streams, also of several shards",
		Long:              reportHelp,
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usage(cmd, "expected at least one FILE that --save-events has written")
			}
			if err := exclusive(cmd, [2]string{"verbose", "quiet"}, [2]string{"json", "output"}); err != nil {
				return err
			}
			if out != "" {
				b := page.Builder{Dir: filepath.Dir(p.absolute(out))}
				damage := p.readSaved(files, &b, func() bool { return b.Files() > 0 })
				if damage != nil && b.Files() == 0 {
					return damage
				}
				return errors.Join(run.WriteWhole(p.absolute(out), b.Write), damage)
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
	damage := p.readSaved(files, &saved, func() bool { return len(saved.Files) > 0 })
	if damage != nil && len(saved.Files) == 0 {
		return damage
	}
	if saved.Lost > 0 {
		fmt.Fprintf(p.stderr, "provium: warning: %d events are missing, which a slow reader did not get\n", saved.Lost)
	}
	return errors.Join(p.showSaved(&saved, how, asJSON), damage)
}

// streamReader takes saved streams.
type streamReader interface{ Read(event.Reader) error }

// readSaved reads saved streams. An error is that of streams that are damaged, or cannot be
// read; one of a run that was killed is only a warning. any reports whether to has got
// something of them, which is worth showing then.
func (p *program) readSaved(files []string, to streamReader, any func() bool) (damage error) {
	for _, name := range files {
		err := p.readEvents(to, name)
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
		if any() {
			err = fmt.Errorf("%w; only what precedes this is shown", err)
		}
		damage = errors.Join(damage, err)
	}
	return damage
}

// readEvents reads the stream in a file.
func (p *program) readEvents(to streamReader, name string) error {
	if name == "-" {
		return to.Read(event.NewReader(os.Stdin))
	}
	f, err := os.Open(p.absolute(name))
	if err != nil {
		return errors.Unwrap(err) // the name is said by the caller
	}
	defer f.Close()
	return to.Read(event.NewReader(f))
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

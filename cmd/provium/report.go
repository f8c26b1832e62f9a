package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/flagtext"
	"provium/cmd/provium/internal/mergedjunit"
	"provium/cmd/provium/internal/share"
	"provium/internal/event"
	"provium/internal/merge"
	"provium/internal/report"
	"provium/internal/report/page"
	"provium/internal/run"
	"provium/internal/terminal"
)

const reportHelp = `Show the results of saved event streams.

FILEs are what --save-events has written, in either format; - is standard input.
Those of several shards are shown as one run. A stream of a run that was killed is
shown up to its end, a damaged one up to the damage. A shard that is missing or died is
shown as a file that crashed. Shards that do not belong together are an error.`

// reportFlags are the flags of the command.
type reportFlags struct {
	out, junit, durations string
	exitCode              bool
}

// isMerge reports whether files are expected to be all of a run.
func (f *reportFlags) isMerge(files []string) bool {
	return len(files) > 1 || f.exitCode || f.junit != ""
}

func (p *program) reportCommand() *cobra.Command {
	var verbose, quiet, asJSON bool
	var f reportFlags
	output := newGroup("Output")
	output.flags.BoolVarP(&verbose, "verbose", "v", false, "every test, with its log")
	output.flags.BoolVarP(&quiet, "quiet", "q", false, "failures and the summary only")
	output.flags.BoolVar(&asJSON, "json", false, "one JSON line per file")
	output.flags.VarP(value(&f.out, "file", flagtext.Path), "output", "o",
		"write an HTML page to `FILE` instead, as --report does")
	output.flags.Var(value(&f.junit, "file", flagtext.Path), "junit", "write the results as JUnit XML to `FILE`, too")
	output.flags.Var(value(&f.durations, "file", flagtext.Path), "save-durations",
		"write how long files took to `FILE`, or into a registry, for --durations-file of the next run")
	output.flags.BoolVar(&f.exitCode, "exit-code", false,
		"exit as the run of all shards would have: 1 if a file failed, or a shard is missing or died")
	cmd := &cobra.Command{
		Use:               "report FILE... [FLAGS]",
		Short:             "Show the results of saved event streams, also of several shards",
		Long:              reportHelp,
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usage(cmd, "expected at least one FILE that --save-events has written")
			}
			if err := exclusive(cmd, [2]string{"verbose", "quiet"}, [2]string{"json", "output"},
				[2]string{"junit", "output"}, [2]string{"exit-code", "output"}); err != nil {
				return err
			}
			if f.out != "" {
				return p.reportPage(cmd.Context(), files, &f)
			}
			how := report.TerminalConfig{Out: p.stdout, Err: p.stderr, Color: p.colors()}
			switch {
			case verbose:
				how.Verbosity = report.Verbose
			case quiet:
				how.Verbosity = report.Quiet
			}
			return p.report(cmd.Context(), files, how, asJSON, &f)
		},
	}
	finish(cmd, output)
	return cmd
}

// reportPage writes the page of saved streams.
func (p *program) reportPage(ctx context.Context, files []string, f *reportFlags) error {
	b := page.Builder{Dir: filepath.Dir(p.absolute(f.out))}
	var shards merge.Shards
	damage := p.readSaved(files, &shards, &b, func() bool { return b.Files() > 0 })
	if damage != nil && b.Files() == 0 {
		return damage
	}
	if f.isMerge(files) {
		for _, lost := range shards.Lost() {
			b.Missing(lost.Shard, lost.Why)
			fmt.Fprintf(p.stderr, "provium: warning: %s: %s\n", terminal.Escape(lost.Shard), terminal.Escape(lost.Why))
		}
	}
	return errors.Join(run.WriteWhole(p.absolute(f.out), b.Write), damage, p.afterMerge(ctx, &shards, files, f))
}

// afterMerge saves the durations, and returns an error if the streams do not belong together.
func (p *program) afterMerge(ctx context.Context, shards *merge.Shards, files []string, f *reportFlags) error {
	var failed error
	if err := share.SaveDurations(ctx, f.durations, p.dir, shards.Durations(), p.stderr); err != nil {
		failed = fmt.Errorf("--save-durations: %w", err)
	}
	if conflicts := shards.Conflicts(); len(conflicts) > 0 && f.isMerge(files) {
		failed = errors.Join(failed, fmt.Errorf("these are not the shards of one run:\n  %s",
			terminal.Escape(strings.Join(conflicts, "\n  "))))
	}
	return failed
}

// report shows saved streams. A damaged one is an error, after all results were shown.
func (p *program) report(ctx context.Context, files []string, how report.TerminalConfig, asJSON bool,
	f *reportFlags) error {
	var saved report.Saved
	var shards merge.Shards
	junit := mergedjunit.File{Path: p.absolute(f.junit)}
	if f.junit != "" {
		saved.Keep = junit.Keep
	}
	damage := p.readSaved(files, &shards, &saved, func() bool { return len(saved.Files) > 0 })
	if damage != nil && len(saved.Files) == 0 {
		return damage
	}
	if f.isMerge(files) {
		for _, lost := range shards.Lost() {
			saved.Files = append(saved.Files, report.FileResult{Path: lost.Shard, Status: report.FileCrashed,
				ChunkError: lost.Why})
		}
	}
	if saved.Lost > 0 {
		fmt.Fprintf(p.stderr, "provium: warning: %d events are missing, which a slow reader did not get\n", saved.Lost)
	}
	counts, err := p.showSaved(&saved, how, asJSON)
	if f.exitCode {
		p.code = shards.ExitCode()
		if !counts.OK() || counts.NotStarted > 0 {
			p.code = max(p.code, run.ExitFailed)
		}
	}
	if f.junit != "" {
		if jerr := junit.Write(&saved, &shards); jerr != nil {
			err = errors.Join(err, fmt.Errorf("--junit: %w", jerr))
		}
	}
	return errors.Join(err, damage, p.afterMerge(ctx, &shards, files, f))
}

// streamReader takes saved streams.
type streamReader interface{ Read(event.Reader) error }

// readSaved reads saved streams. An error is that of streams that are damaged, or cannot be
// read; one of a run that was killed is only a warning. any reports whether to has got
// something of them, which is worth showing then.
func (p *program) readSaved(files []string, shards *merge.Shards, to streamReader, any func() bool) (damage error) {
	for _, name := range files {
		err := p.readEvents(to, shards, name)
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
		if errors.As(err, new(*event.DecodeError)) && any() {
			err = fmt.Errorf("%w; only what precedes this is shown", err)
		}
		damage = errors.Join(damage, err)
	}
	return damage
}

// readEvents reads the stream in a file.
func (p *program) readEvents(to streamReader, shards *merge.Shards, name string) error {
	if name == "-" {
		return to.Read(shards.Watch("standard input", event.NewReader(os.Stdin)))
	}
	f, err := os.Open(p.absolute(name))
	if err != nil {
		return errors.Unwrap(err) // the name is said by the caller
	}
	defer f.Close()
	return to.Read(shards.Watch(name, event.NewReader(f)))
}

func (p *program) showSaved(saved *report.Saved, how report.TerminalConfig, asJSON bool) (report.Counts, error) {
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
			return counts, err
		}
	}
	return counts, summary(counts, saved.Elapsed)
}

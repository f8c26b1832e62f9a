package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/coveragefile"
	"provium/cmd/provium/internal/flagtext"
	"provium/internal/event"
	"provium/internal/event/sink"
	"provium/internal/merge"
	"provium/internal/proc"
	"provium/internal/report/coverage"
	"provium/internal/run"
)

const coverageHelp = `Show which tests of saved event streams have which value of their meta.

FILEs are what --save-events has written; - is standard input. Without --by it
is the report of provium-coverage: which parts of a specification (meta.spec)
have a test that passed, what was slow, and how the pool was used. KEY is a key
of the tests' meta, tag or file.`

func (p *program) coverageCommand() *cobra.Command {
	var by []string
	format := coverage.FormatText
	output := newGroup("Output")
	output.flags.Var(list(&by, "key", flagtext.NonEmpty), "by",
		"group the tests by `KEY`: any key of their meta, tag or file; may be repeated")
	output.flags.Var(value(&format, "format", coverage.ParseFormat), "format",
		"`FORMAT` of the report: text, html or json (default text)")
	cmd := &cobra.Command{
		Use:               "coverage FILE... [FLAGS]",
		Short:             "Show which tests of saved event streams have which spec, tag or other meta",
		Long:              coverageHelp,
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return usage(cmd, "expected at least one FILE that --save-events has written")
			}
			var b coverage.Builder
			damage := p.readSaved(files, &merge.Shards{}, &b, func() bool { return b.Events() > 0 })
			if damage != nil && b.Events() == 0 {
				return damage
			}
			return errors.Join(p.showCoverage(&b, by, format), damage)
		},
	}
	finish(cmd, output)
	return cmd
}

func (p *program) showCoverage(b *coverage.Builder, by []string, format coverage.Format) error {
	var groups []coverage.Grouping
	for _, key := range by {
		if !b.HasKey(key) {
			keys := b.Keys()
			return fmt.Errorf("--by: no test has `%s` in its meta%s (there are: %s)", key,
				didYouMean(key, keys), strings.Join(keys, ", "))
		}
		groups = append(groups, b.Group(key))
	}
	if len(groups) > 0 && format == coverage.FormatText {
		return coverage.TextBy(p.stdout, groups, p.colors())
	}
	r := b.Report()
	r.By = groups
	return coverage.Write(p.stdout, format, r, p.colors())
}

// coverageTool is the program that reports an event stream.
const coverageTool = "provium-coverage"

// coverageStep is what --coverage does at the end of a run.
type coverageStep struct {
	p    *program
	tool string             // path
	temp *coveragefile.File // nil: events are in the file of --save-events
	file string
	any  bool // events came
}

// planCoverage finds the tool and adds a place for events to the options of a run. The
// caller must call remove.
func (p *program) planCoverage(o *run.Options) (*coverageStep, error) {
	s := &coverageStep{p: p, tool: filepath.Join(filepath.Dir(p.self), coverageTool), file: o.Events.File}
	if info, err := os.Stat(s.tool); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		found, err := p.programs(nil).Look(coverageTool)
		if err != nil {
			return nil, fmt.Errorf("--coverage: there is no %s beside %s, nor on PATH; `make build` makes both",
				coverageTool, p.self)
		}
		s.tool = found
	}
	if info, err := os.Stat(s.file); s.file != "" && (errors.Is(err, os.ErrNotExist) || err == nil &&
		info.Mode().IsRegular()) {
		o.Events.Other = append(o.Events.Other, sink.Place{Flag: "--coverage", To: &watchedSink{s, nil}})
		return s, nil
	}
	temp, err := coveragefile.Create(p.tempBase(), os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("--coverage: %w", err)
	}
	s.temp, s.file = temp, temp.Path()
	file, err := sink.Create(s.file, event.Msgpack)
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("--coverage: %w", err)
	}
	o.Events.Other = append(o.Events.Other, sink.Place{Flag: "--coverage", To: &watchedSink{s, file}})
	return s, nil
}

// watchedSink notes that events came, and passes them on.
type watchedSink struct {
	step *coverageStep
	to   *sink.File // or nil
}

// Put implements [event.Sink].
func (w *watchedSink) Put(b *event.Batch) error {
	w.step.any = true
	if w.to == nil {
		return nil
	}
	return w.to.Put(b)
}

// Close closes the file.
func (w *watchedSink) Close() error {
	if w.to == nil {
		return nil
	}
	return w.to.Close()
}

// remove removes the temporary file.
func (s *coverageStep) remove() {
	if s == nil || s.temp == nil {
		return
	}
	if err := s.temp.Remove(); err != nil {
		fmt.Fprintf(s.p.stderr, "provium: --coverage: %v\n", err)
	}
	s.temp = nil
}

// report runs the tool, whose report goes to out. A signal ends it.
func (s *coverageStep) report(out *os.File, signals <-chan os.Signal) error {
	if !s.any {
		fmt.Fprintln(s.p.stderr, "provium: --coverage: there is nothing to report, no file was run")
		return nil
	}
	starter := proc.NewStarter()
	defer starter.Close()
	cmd := exec.Command(s.tool, "--from", s.file)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.p.dir, out, s.p.stderr
	cmd.Env = s.p.environ()
	if s.temp != nil {
		cmd.Env = append(cmd.Env, "PROVIUM_COVERAGE_TMP="+s.temp.Path(), "PROVIUM_COVERAGE_MARKER="+s.temp.Marker())
	} else {
		cmd.Env = append(cmd.Env, "PROVIUM_COVERAGE_USER_FILE="+s.file)
	}
	child, err := starter.StartTree(cmd)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	over, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		select {
		case <-signals:
			child.Kill()
		case <-over:
		}
	}()
	err = child.Wait()
	close(over)
	<-joined
	return err
}

// noticedSignals passes signals on and notes that one came.
func noticedSignals(from <-chan os.Signal) (to <-chan os.Signal, came *atomic.Bool, stop func()) {
	ch, over := make(chan os.Signal, 2), make(chan struct{})
	came = &atomic.Bool{}
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		for {
			select {
			case sig := <-from:
				came.Store(true)
				select {
				case ch <- sig:
				default: // the receiver has enough of them
				}
			case <-over:
				return
			}
		}
	}()
	return ch, came, func() {
		close(over)
		<-joined
	}
}

// runCovered runs tests, by carryOut, and reports what they cover. A report that fails makes the exit code
// 1; a run that was interrupted, or could not be carried out, has no report.
func (p *program) runCovered(ctx context.Context, o run.Options,
	carryOut func(context.Context, run.Options) (int, error)) (code int, err error) {
	step, err := p.planCoverage(&o)
	if err != nil {
		return run.ExitError, err
	}
	defer step.remove()
	signals, came, stop := noticedSignals(o.Signals)
	defer stop()
	o.Signals = signals
	code, err = carryOut(ctx, o)
	if err != nil || came.Load() {
		return code, err
	}
	out := p.stdout
	if o.JSON || o.Events.Pipe != nil {
		out = p.stderr
	}
	fmt.Fprintln(out)
	if err := step.report(out, signals); err != nil {
		fmt.Fprintf(p.stderr, "provium: --coverage: %s: %v\n", step.tool, err)
		code = max(code, run.ExitFailed)
	}
	return code, nil
}

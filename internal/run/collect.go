package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"provium/internal/admission"
	"provium/internal/choose"
	"provium/internal/event"
	"provium/internal/proc"
	"provium/internal/run/workers"
	"provium/internal/script"
	"provium/internal/tempdir"
)

// Some names of tests are known only when the chunk of their file has run. A collector runs
// chunks without booting guests, in runners like those of a run, and takes the tests that are
// registered. A chunk that needs a guest fails; then nothing more is known.

// collectLimit is how long a chunk may take.
const collectLimit = 10 * time.Second

// collector runs chunks to see the tests that they register.
type collector struct {
	o *Options
}

// collect returns the tests of files, nil for a file whose chunk has failed.
func (c collector) collect(ctx context.Context, files []*foundFile) ([][]choose.Test, error) {
	temp, err := tempdir.New(c.o.TempBase)
	if err != nil {
		return nil, err
	}
	defer temp.Remove()
	starter := proc.NewStarter()
	defer starter.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	command := &workers.Command{Program: c.o.Self, Verb: c.o.RunnerVerb, Env: []string{"PROVIUM_TEST_FILTER="},
		Starter: starter, Stdout: null, Stderr: null}
	out := make([][]choose.Test, len(files))
	errs := make([]error, len(files))
	turns := make(chan struct{}, runtime.NumCPU())
	stopAll := make(chan struct{})
	defer context.AfterFunc(ctx, func() { close(stopAll) })()
	var running sync.WaitGroup
	for i, f := range files {
		running.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			dir := filepath.Join(temp.Path(), fmt.Sprint(i))
			if errs[i] = os.Mkdir(dir, 0o700); errs[i] != nil {
				return
			}
			local := *c.o
			local.Local, local.ImageCache = true, filepath.Join(dir, "images")
			j := local.job(Candidate{Path: f.path, Abs: f.abs}, dir)
			j.Collect = true
			run := &fileRun{job: j, command: command, resources: endless{}, limit: collectLimit,
				emit: func(...event.Encoded) {}, stderr: null}
			run.run(stopAll, nil, &stopNow{Reason: "interrupted"})
			out[i] = run.collected
		})
	}
	running.Wait()
	return out, errors.Join(errs...)
}

// endless grants everything: nothing boots.
type endless struct{}

func (endless) Acquire(_ uint64, _ string, _ []admission.Share, answer func(error)) { answer(nil) }
func (endless) Claim(_ uint64, _ int64, _ int, answer func(error))                  { answer(nil) }
func (endless) Booted()                                                             {}
func (endless) Release(uint64, int)                                                 {}
func (endless) Forget(uint64)                                                       {}

// collectedTest is a test on its way from a runner.
type collectedTest struct {
	Group   string
	Lines   []choose.Lines
	Started []byte // a TestStarted, which has name and metadata
}

// collected sends the tests that a chunk has registered.
func (r *runner) collected(path string, tests []script.Registered) {
	all := []collectedTest{}
	for _, t := range tests {
		started, err := event.EncodePayload(event.TestStarted{Path: path, Name: t.Name, Meta: t.Meta.Values})
		if err != nil {
			return // nothing is known then
		}
		all = append(all, collectedTest{Group: t.Group, Lines: linesOf(t), Started: started})
	}
	_ = r.pipe.send(&message{Collected: &collected{Tests: all}})
}

func linesOf(t script.Registered) []choose.Lines {
	lines := []choose.Lines{}
	for _, l := range t.Lines {
		lines = append(lines, choose.Lines(l))
	}
	return lines
}

// tests returns what the runner has sent.
func (c *collected) tests(path string) []choose.Test {
	out := []choose.Test{}
	for _, t := range c.Tests {
		e, err := event.DecodePayload(event.KindTestStarted, t.Started)
		if err != nil {
			return nil
		}
		started := e.(event.TestStarted)
		out = append(out, choose.Test{Path: path, Name: started.Name, Group: t.Group, Meta: started.Meta,
			Lines: t.Lines})
	}
	return out
}

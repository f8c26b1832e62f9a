package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"provium/internal/report"
	"provium/internal/report/export"
	"provium/internal/report/page"
	"provium/internal/run/evidence"
)

// Exports are files that the results of a run go to, in the formats of other programs; ""
// where there is no such file.
type Exports struct {
	JUnit, TAP, KTAP string
	// Page is the HTML page that is made of all events.
	Page string
	// Annotate writes what failed as annotations of GitHub Actions to standard error;
	// Workspace is the directory of the repository there.
	Annotate  bool
	Workspace string
}

// formats returns the flag, the path and the writer of each file.
func (e *Exports) formats() []exportFile {
	return []exportFile{
		{"--junit", e.JUnit, export.JUnit}, {"--tap", e.TAP, export.TAP}, {"--ktap", e.KTAP, export.KTAP},
	}
}

type exportFile struct {
	flag, path string
	write      func(io.Writer, export.Run) error
}

// check refuses a file that cannot be written, or that two flags name, before anything runs.
// events is the file of the event stream.
func (e *Exports) check(events string) error {
	flags := map[string]string{events: "--save-events"}
	for _, x := range append(e.formats(), exportFile{"--report", e.Page, nil}) {
		if x.path == "" {
			continue
		}
		info, err := os.Stat(x.path)
		other, twice := flags[filepath.Clean(x.path)]
		if twice && (err != nil || info.Mode().IsRegular()) {
			return fmt.Errorf("%s and %s name the same file, `%s`", other, x.flag, x.path)
		}
		flags[filepath.Clean(x.path)] = x.flag
		if err := checkWritable(x.path); err != nil {
			return fmt.Errorf("%s: %w", x.flag, err)
		}
	}
	return nil
}

// write writes the results of the iterations so far.
func (e *Exports) write(r export.Run, stderr io.Writer, project string) error {
	var failed error
	for _, x := range e.formats() {
		if x.path == "" {
			continue
		}
		if err := WriteWhole(x.path, func(w io.Writer) error { return x.write(w, r) }); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", x.flag, err))
		}
	}
	if e.Annotate {
		base, err := filepath.Rel(e.Workspace, project)
		if err != nil || base == ".." || strings.HasPrefix(base, "../") {
			base = ""
		}
		failed = errors.Join(failed, export.Annotations(stderr, r, base))
	}
	return failed
}

// checkWritable refuses a file that cannot be written.
func checkWritable(path string) error {
	_, err := os.Stat(path)
	isNew := errors.Is(err, os.ErrNotExist)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	f.Close()
	if isNew {
		os.Remove(path) // an empty file would be no report
	}
	return nil
}

// WriteWhole replaces a file in one step, so that a reader never sees half of it. What is
// no regular file, like a pipe, is written as it is, and so is a file in a directory that
// takes no others. Links are followed.
func WriteWhole(path string, write func(io.Writer) error) (err error) {
	inPlace := func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	s, missing := os.Stat(path)
	if missing == nil && !s.Mode().IsRegular() {
		return inPlace()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil && missing == nil {
		return inPlace()
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// exported is what the files of Exports tell.
type exported struct {
	o       *Options
	started time.Time
	facts   []export.Fact
	files   []report.FileResult
}

// Facts returns what all results of a run depend on. A run without guests has no accelerator.
func Facts(seed uint64, accelerator string) []export.Fact {
	facts := []export.Fact{{Name: "seed", Value: strconv.FormatUint(seed, 10)}}
	if accelerator != "" {
		facts = append(facts, export.Fact{Name: "accelerator", Value: accelerator})
	}
	return facts
}

func newExported(o *Options, accelerator string) *exported {
	facts := Facts(o.Seed, accelerator)
	if o.Select.Shuffle {
		facts = append(facts, export.Fact{Name: "shuffled with seed", Value: strconv.FormatUint(o.ShuffleSeed, 10)})
	}
	return &exported{o: o, started: time.Now(), facts: facts}
}

// add writes the files anew with the results of one more iteration. The error is of what could not be written; all
// else is.
func (e *exported) add(results []*report.FileResult) error {
	var failed error
	for _, r := range results {
		if r != nil {
			failed = errors.Join(failed, e.o.Exports.save(r, len(e.files)))
			e.files = append(e.files, *r)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	r := export.Run{Started: e.started, Elapsed: time.Since(e.started), Host: host, Facts: e.facts, Files: e.files}
	return errors.Join(failed, e.o.Exports.write(r, e.o.Stderr, e.o.Config.Dir))
}

// save writes the attachments of the file with that number beside the JUnit file, if there is one.
func (e *Exports) save(r *report.FileResult, number int) error {
	return evidence.SaveAttachments(e.JUnit, r, number)
}

// pageFile makes a page of all events at the end.
type pageFile struct {
	page.Builder
	path string
}

func newPageFile(path string) *pageFile {
	p := &pageFile{path: path}
	if whole, err := filepath.Abs(path); err == nil { // else the page has no links to folders
		p.Dir = filepath.Dir(whole)
	}
	return p
}

// Restart writes the page, and begins another one.
func (p *pageFile) Restart() error {
	err := p.Close()
	p.Builder = page.Builder{Dir: p.Dir}
	return err
}

// Close writes the page.
func (p *pageFile) Close() error { return WriteWhole(p.path, p.Write) }

// Package mergedjunit writes the JUnit file of saved event streams, with what a run itself would have written: the
// attachments of tests beside it, and what all results depend on. It reads no streams.
package mergedjunit

import (
	"errors"
	"io"

	"provium/internal/merge"
	"provium/internal/report"
	"provium/internal/report/export"
	"provium/internal/run"
	"provium/internal/run/evidence"
)

// File is a JUnit file that is not written yet.
type File struct {
	Path string

	results int
	failed  error // to save attachments
}

// Keep saves the attachments of the next result.
func (f *File) Keep(r *report.FileResult) {
	f.failed = errors.Join(f.failed, evidence.SaveAttachments(f.Path, r, f.results))
	f.results++
}

// Write writes the file, and returns what failed with it and with attachments.
func (f *File) Write(saved *report.Saved, shards *merge.Shards) error {
	all := export.Run{Started: shards.Started(), Elapsed: saved.Elapsed, Files: saved.Files}
	if started, alike := shards.Alike(); alike {
		all.Facts = run.Facts(started.Seed, started.Accelerator)
	}
	return errors.Join(f.failed, run.WriteWhole(f.Path, func(w io.Writer) error { return export.JUnit(w, all) }))
}

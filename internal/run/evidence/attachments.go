package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/artifacts"
	"provium/internal/report"
)

// attachmentsDir returns the directory for the attachments that a JUnit file names: the file
// without its suffix, and "-attachments".
func attachmentsDir(junit string) string {
	return strings.TrimSuffix(junit, filepath.Ext(junit)) + "-attachments"
}

// SaveAttachments writes the attachments of the file with that number, from 0, beside a JUnit file, which then names
// them. Those of an earlier run are removed first. "", and what is no regular file, has no attachments.
// What cannot be written is left out, and the first reason for that is returned.
func SaveAttachments(junit string, r *report.FileResult, number int) error {
	if info, err := os.Stat(junit); junit == "" || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	dir := attachmentsDir(junit)
	var failed error
	note := func(err error) bool {
		if failed == nil && err != nil {
			failed = fmt.Errorf("attachments: %w", err)
		}
		return err == nil
	}
	if number == 0 {
		old, _ := filepath.Glob(filepath.Join(dir, "[0-9]*-[0-9]*-[0-9]*-*")) // the pattern is a good one
		for _, path := range old {
			note(os.Remove(path))
		}
	}
	r.Evidence = artifacts.Files(r.Artifacts)
	for t := range r.Tests {
		r.Tests[t].Evidence = artifacts.Files(r.Tests[t].Artifacts)
		for i := range r.Tests[t].Attachments {
			a := &r.Tests[t].Attachments[i]
			if a.Data == nil {
				continue
			}
			path := filepath.Join(dir, fmt.Sprintf("%d-%d-%d-%s", number+1, t+1, i+1, artifacts.FileName(a.Name)))
			if note(os.MkdirAll(dir, 0o777)) && note(writeOrRemove(path, a.Data)) {
				a.File = path
			}
			a.Data = nil
		}
	}
	return failed
}

// writeOrRemove writes a file, and leaves no part of one.
func writeOrRemove(path string, data []byte) error {
	err := os.WriteFile(path, data, 0o666)
	if err != nil {
		os.Remove(path)
	}
	return err
}

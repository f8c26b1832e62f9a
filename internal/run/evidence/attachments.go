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
func SaveAttachments(junit string, r *report.FileResult, number int) error {
	if info, err := os.Stat(junit); junit == "" || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	dir := attachmentsDir(junit)
	if number == 0 {
		old, _ := filepath.Glob(filepath.Join(dir, "[0-9]*-[0-9]*-[0-9]*-*")) // the pattern is a good one
		for _, path := range old {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("attachments: %w", err)
			}
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
			if err := os.MkdirAll(dir, 0o777); err != nil {
				return fmt.Errorf("attachments: %w", err)
			}
			path := filepath.Join(dir, fmt.Sprintf("%d-%d-%d-%s", number+1, t+1, i+1, artifacts.FileName(a.Name)))
			if err := os.WriteFile(path, a.Data, 0o666); err != nil {
				return fmt.Errorf("attachments: %w", err)
			}
			a.File, a.Data = path, nil
		}
	}
	return nil
}

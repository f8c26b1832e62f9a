package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/network"
	"provium/internal/snapshot"
)

const (
	labFileName    = "lab.json"
	labFileVersion = 1
	maxLabFile     = 64 << 20 // bytes
	maxLabDepth    = 16       // of nested sub-labs
)

// labFile is the contents of lab.json: a lab at one moment, as docs/snapshots.md
// describes it.
type labFile struct {
	Version int      `json:"version"`
	Lab     labState `json:"lab"`
}

// labState describes a lab or a sub-lab.
type labState struct {
	Name    string          `json:"name"`
	VMs     []vmState       `json:"vms,omitempty"`
	Bridges []network.State `json:"bridges,omitempty"`
	Labs    []labState      `json:"labs,omitempty"`
}

// vmState describes a VM. Its guest, if it had one, is in File.
type vmState struct {
	Name    string    `json:"name"`
	Profile string    `json:"profile"`
	State   State     `json:"state"`
	File    string    `json:"file,omitempty"` // relative to the directory
	Opts    *BootOpts `json:"opts,omitempty"` // given at its declaration
}

// runs reports whether the VM had a guest.
func (s *vmState) runs() bool { return s.State == Booted || s.State == Paused }

// LabSnapshot is a snapshot of a lab, which is a directory.
type LabSnapshot struct {
	host *Host
	path string
}

// Path returns the directory.
func (s *LabSnapshot) Path() string { return s.path }

// Size returns the space on disk of the files in the directory, in bytes; 0 when the
// directory is gone.
func (s *LabSnapshot) Size() (int64, error) {
	entries, err := os.ReadDir(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("lab snapshot size: %w", err)
	}
	var total int64
	for _, e := range entries {
		if e.Type().IsRegular() {
			n, err := snapshot.DiskSize(filepath.Join(s.path, e.Name()))
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// Delete removes the directory and its contents. VMs that were restored from it go
// on.
func (s *LabSnapshot) Delete() error {
	var errs []error
	_ = filepath.WalkDir(s.path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".snap") {
			errs = append(errs, (&Snapshot{host: s.host, path: path}).Delete())
		}
		return nil // what cannot be read cannot be removed either: RemoveAll returns the error
	})
	if err := os.RemoveAll(s.path); err != nil {
		errs = append(errs, fmt.Errorf("lab snapshot delete: %w", err))
	}
	return errors.Join(errs...)
}

// isLabSnapshot reports whether a directory is a lab snapshot, or what is left of one.
func isLabSnapshot(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, labFileName))
	return err == nil && info.Mode().IsRegular()
}

// readLabFile reads and verifies the lab.json of a directory.
func readLabFile(dir string) (*labFile, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("`%s` is no lab snapshot (it is a file, and a lab's is a directory)", dir)
	} else if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s`: %w", dir, errors.Unwrap(err))
	}
	f, err := os.Open(filepath.Join(dir, labFileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("`%s` is no lab snapshot (it has no %s)", dir, labFileName)
	}
	if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s`: %w", dir, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLabFile+1))
	if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s`: %w", dir, err)
	}
	lf, err := decodeLabFile(text)
	if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s` %w", dir, err)
	}
	return lf, nil
}

// decodeLabFile decodes and verifies a lab.json.
func decodeLabFile(text []byte) (*labFile, error) {
	damaged := func(err error) error { return fmt.Errorf("is damaged: %s: %w", labFileName, err) }
	if len(text) > maxLabFile {
		return nil, damaged(fmt.Errorf("more than %d bytes", maxLabFile))
	}
	var head struct{ Version int }
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, damaged(err)
	}
	if head.Version != labFileVersion {
		return nil, fmt.Errorf("is in version %d of the lab snapshot format; this program reads version %d",
			head.Version, labFileVersion)
	}
	lf := &labFile{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(lf); err != nil {
		return nil, damaged(err)
	}
	if err := lf.Lab.check(0); err != nil {
		return nil, damaged(err)
	}
	return lf, nil
}

// check verifies names, states and paths.
func (s *labState) check(depth int) error {
	if depth > maxLabDepth {
		return fmt.Errorf("sub-labs are nested more than %d deep", maxLabDepth)
	}
	if depth > 0 {
		if err := checkName("lab", s.Name); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	twice := func(kind, name string) error {
		if seen[kind+name] {
			return fmt.Errorf("two %ss are called `%s`", kind, name)
		}
		seen[kind+name] = true
		return nil
	}
	for i := range s.VMs {
		v := &s.VMs[i]
		if err := checkName("vm", v.Name); err != nil {
			return err
		}
		if err := twice("vm", v.Name); err != nil {
			return err
		}
		if !slices.Contains([]State{Created, Booted, Paused, Shutdown, Dead}, v.State) {
			return fmt.Errorf("vm `%s`: state %q", v.Name, v.State)
		}
		if v.runs() != (v.File != "") || v.File != "" && (!filepath.IsLocal(v.File) || filepath.Ext(v.File) != ".snap") {
			return fmt.Errorf("vm `%s`: file %q", v.Name, v.File)
		}
		if v.Opts != nil {
			if err := v.Opts.validate(); err != nil {
				return fmt.Errorf("vm `%s`: %w", v.Name, err)
			}
		}
	}
	for i := range s.Bridges {
		if err := s.Bridges[i].Check(checkName); err != nil {
			return err
		}
		if err := twice("bridge", s.Bridges[i].Name); err != nil {
			return err
		}
	}
	for i := range s.Labs {
		if err := s.Labs[i].check(depth + 1); err != nil {
			return err
		}
		if err := twice("lab", s.Labs[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// write creates lab.json in a directory.
func (lf *labFile) write(dir string) error {
	text, err := json.MarshalIndent(lf, "", "  ")
	if err != nil {
		return err
	}
	if len(text) > maxLabFile {
		return fmt.Errorf("%s would have %d bytes, at most %d are possible", labFileName, len(text), maxLabFile)
	}
	return os.WriteFile(filepath.Join(dir, labFileName), append(text, '\n'), 0o600)
}

package topology

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

	"provium/internal/jsonerror"
	"provium/internal/network"
)

// FileName is the name of the file in the directory of a lab snapshot.
const FileName = "lab.json"

const (
	fileVersion = 1
	maxFile     = 64 << 20 // bytes
	maxDepth    = 16       // of nested sub-labs
)

// file is the contents of lab.json: a lab at one moment, as docs/snapshots.md
// describes it.
type file struct {
	Version int `json:"version"`
	Lab     Lab `json:"lab"`
}

// Lab describes a lab or a sub-lab.
type Lab struct {
	Name    string          `json:"name"`
	VMs     []VM            `json:"vms,omitempty"`
	Bridges []network.State `json:"bridges,omitempty"`
	Labs    []Lab           `json:"labs,omitempty"`
}

// VM describes a VM. Its guest, if it had one, is in File.
type VM struct {
	Name    string    `json:"name"`
	Profile string    `json:"profile"`
	State   State     `json:"state"`
	File    string    `json:"file,omitempty"` // relative to the directory
	Opts    *BootOpts `json:"opts,omitempty"` // given at its declaration
}

// Runs reports whether the VM had a guest.
func (s *VM) Runs() bool { return s.State == Booted || s.State == Paused }

// IsLab reports whether a directory is a lab snapshot, or what is left of one.
func IsLab(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, FileName))
	return err == nil && info.Mode().IsRegular()
}

// Read reads and verifies the lab.json of a directory.
func Read(dir string) (*Lab, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("`%s` is no lab snapshot (it is a file, and a lab's is a directory)", dir)
	} else if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s`: %w", dir, errors.Unwrap(err))
	}
	f, err := os.Open(filepath.Join(dir, FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("`%s` is no lab snapshot (it has no %s)", dir, FileName)
	}
	if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s`: %w", dir, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s`: %w", dir, err)
	}
	lf, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("lab snapshot `%s` %w", dir, err)
	}
	return &lf.Lab, nil
}

// decode decodes and verifies a lab.json.
func decode(text []byte) (*file, error) {
	damaged := func(err error) error { return fmt.Errorf("is damaged: %s: %w", FileName, jsonerror.Plain(err)) }
	if len(text) > maxFile {
		return nil, damaged(fmt.Errorf("more than %d bytes", maxFile))
	}
	var head struct{ Version int }
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, damaged(err)
	}
	if head.Version != fileVersion {
		return nil, fmt.Errorf("is in version %d of the lab snapshot format; this program reads version %d",
			head.Version, fileVersion)
	}
	lf := &file{}
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
func (s *Lab) check(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("sub-labs are nested more than %d deep", maxDepth)
	}
	if depth > 0 {
		if err := CheckName("lab", s.Name); err != nil {
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
		if err := CheckName("vm", v.Name); err != nil {
			return err
		}
		if err := twice("vm", v.Name); err != nil {
			return err
		}
		if !slices.Contains([]State{Created, Booted, Paused, Shutdown, Dead}, v.State) {
			return fmt.Errorf("vm `%s`: state %q", v.Name, v.State)
		}
		if v.Runs() != (v.File != "") ||
			v.File != "" && (!filepath.IsLocal(v.File) || filepath.Ext(v.File) != ".snap") {
			return fmt.Errorf("vm `%s`: file %q", v.Name, v.File)
		}
		if v.Opts != nil {
			if err := v.Opts.Validate(); err != nil {
				return fmt.Errorf("vm `%s`: %w", v.Name, err)
			}
		}
	}
	for i := range s.Bridges {
		if err := s.Bridges[i].Check(CheckName); err != nil {
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

// Write creates lab.json in a directory.
func (s *Lab) Write(dir string) error { return s.write(dir, maxFile) }

// write writes a lab.json of at most limit bytes.
func (s *Lab) write(dir string, limit int) error {
	text, err := json.MarshalIndent(&file{fileVersion, *s}, "", "  ")
	if err != nil {
		return err
	}
	if len(text) > limit {
		return fmt.Errorf("%s would have %d bytes, at most %d are possible", FileName, len(text), limit)
	}
	return os.WriteFile(filepath.Join(dir, FileName), append(text, '\n'), 0o600)
}

package artifacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	recordFile   = "replay.json"
	recordFormat = 1
	maxRecord    = 1 << 20 // bytes
)

// Record is what a replay needs of a failure: which test, and how it was run.
type Record struct {
	Format  int    `json:"format"`
	Run     string `json:"run"`     // of one process of a run, for its folders
	Project string `json:"project"` // directory
	Config  string `json:"config"`  // path of provium.toml
	File    string `json:"file"`    // relative to the project
	Test    string `json:"test"`    // "" is the file

	Seed        uint64 `json:"seed"`
	Shuffle     bool   `json:"shuffle"`
	ShuffleSeed uint64 `json:"shuffle_seed"`
	Kernel      string `json:"kernel"`           // --kernel
	QEMU        string `json:"qemu"`             // --qemu
	Picked      string `json:"picked,omitempty"` // --profile, with commas between them
	Local       bool   `json:"local"`            // --vmm local
	Cold        bool   `json:"cold"`
	// Deterministic is --deterministic.
	Deterministic bool          `json:"deterministic,omitempty"`
	Disturb       bool          `json:"disturb,omitempty"`  // --disturb
	Recorded      bool          `json:"recorded,omitempty"` // --record
	IncludeSlow   bool          `json:"include_slow"`
	Timeout       time.Duration `json:"timeout_ns"`             // of the file; 0: none
	FairTimeout   bool          `json:"fair_timeout,omitempty"` // nobody has asked for it

	Host Versions `json:"versions"`
	// Profiles are digests of what the profiles boot whose guests the test had, by name: kernel, initrd,
	// modules and QEMU.
	Profiles map[string]string `json:"profiles"`
}

// Versions are what a result may depend on beside the project.
type Versions struct {
	Provium string `json:"provium"`
	QEMU    string `json:"qemu"`
	Kernel  string `json:"host_kernel"`
}

// HostKernel returns the kernel of this machine, for people.
func HostKernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "an unknown kernel"
	}
	return fmt.Sprintf("%s %s (%s)", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]),
		unix.ByteSliceToString(u.Machine[:]))
}

func (r Record) write(w io.Writer) error {
	r.Format = recordFormat
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// ReadRecord reads the record of a folder, which may come from another machine.
func ReadRecord(dir string) (Record, error) {
	var r Record
	f, err := os.Open(filepath.Join(dir, recordFile))
	if err != nil {
		return r, fmt.Errorf("`%s` is no folder of a failed test: %w", dir, errors.Unwrap(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return r, err
	}
	if r, err = parseRecord(text); err != nil {
		return r, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return r, nil
}

// parseRecord reads a record and refuses one that names anything outside of its project.
func parseRecord(text []byte) (r Record, err error) {
	switch {
	case len(text) > maxRecord:
		return r, fmt.Errorf("more than %d bytes are no record", maxRecord)
	case json.Unmarshal(text, &r) != nil:
		return r, errors.New("it is no record of a failure")
	case r.Format != recordFormat:
		return r, fmt.Errorf("its format is %d, this program knows %d", r.Format, recordFormat)
	case !filepath.IsLocal(r.File):
		return r, fmt.Errorf("the test file `%s` is outside of the project", r.File)
	case r.Timeout < 0:
		return r, fmt.Errorf("the limit %v is negative", r.Timeout)
	case slices.ContainsFunc([]string{r.Project, r.Config, r.Kernel, r.QEMU, r.Picked, r.File}, hasNUL):
		return r, errors.New("a path has a NUL byte")
	}
	return r, nil
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

// Differences returns what is now another than when the test failed, a line each.
func (v Versions) Differences(now Versions) (lines []string) {
	for _, x := range []struct{ name, then, now string }{
		{"provium", v.Provium, now.Provium}, {"QEMU", v.QEMU, now.QEMU}, {"kernel of the host", v.Kernel, now.Kernel},
	} {
		if x.then != x.now {
			lines = append(lines, fmt.Sprintf("%s: %s, then %s", x.name, orUnknown(x.now), orUnknown(x.then)))
		}
	}
	return lines
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

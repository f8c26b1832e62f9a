package topology

import (
	"fmt"
	"path"
	"strings"
	"time"

	"provium/internal/disk"
	"provium/internal/machine"
	"provium/internal/ready"
)

const (
	defaultMemory = 512 << 20 // bytes
	defaultCPUs   = 1
)

// MaxCPUs is the largest number of vCPUs: QEMU's q35 limit without extra interrupt
// set-up.
const MaxCPUs = 255

// BootOpts say how a VM boots. Those of a boot go before those of the declaration,
// those before the profile and the defaults; a zero field leaves the choice to the
// next.
type BootOpts struct {
	Memory        int64   // bytes
	CPUs          int     //
	Cmdline       *string // replaces the profile's
	CmdlineAppend string  // added at the end, so that its parameters win
	RNGSeed       *uint64 // fixes the byte stream of the virtio-rng device
	InitialTime   *time.Time
	AgentTimeout  time.Duration
	Files         []BootFile
	Cold          *bool  // true refuses the boot cache
	Wait          string // what the boot waits for, as package ready has it; "" is what the profile says
	ExpectPanic   bool   // a panic does not end the guest: it reboots, or starts a crash kernel
	Shape         machine.Shape
	Disks         []disk.Spec // beside those of the profile; default ids boot0, boot1, ...
}

// BootFile is a file that is written into the guest's file system before its init
// starts.
type BootFile struct {
	Path    string // absolute
	Content string
	Mode    uint32 // permission bits; 0 with HasMode false is 0644
	HasMode bool
}

// Merge returns the options of o, replaced by those that over sets. Lists are joined;
// of two files with one path, the later one counts.
func (o *BootOpts) Merge(over *BootOpts) *BootOpts {
	var m BootOpts
	for _, from := range []*BootOpts{o, over} {
		if from == nil {
			continue
		}
		if from.Memory != 0 {
			m.Memory = from.Memory
		}
		if from.CPUs != 0 {
			m.CPUs = from.CPUs
		}
		if from.Cmdline != nil {
			m.Cmdline = from.Cmdline
		}
		if from.CmdlineAppend != "" {
			m.CmdlineAppend = from.CmdlineAppend
		}
		if from.RNGSeed != nil {
			m.RNGSeed = from.RNGSeed
		}
		if from.InitialTime != nil {
			m.InitialTime = from.InitialTime
		}
		if from.AgentTimeout != 0 {
			m.AgentTimeout = from.AgentTimeout
		}
		if from.Cold != nil {
			m.Cold = from.Cold
		}
		if from.Wait != "" {
			m.Wait = from.Wait
		}
		m.Shape = m.Shape.Merge(from.Shape)
		m.ExpectPanic = m.ExpectPanic || from.ExpectPanic
		m.Disks = append(m.Disks, from.Disks...)
		m.Files = joinFiles(m.Files, from.Files)
	}
	return &m
}

func joinFiles(base, over []BootFile) []BootFile {
	joined := make([]BootFile, 0, len(base)+len(over))
	at := map[string]int{}
	for _, f := range append(append([]BootFile(nil), base...), over...) {
		key := path.Clean(f.Path)
		if i, seen := at[key]; seen {
			joined[i] = f
			continue
		}
		at[key] = len(joined)
		joined = append(joined, f)
	}
	return joined
}

// Validate returns an error when an option cannot be carried out.
func (o *BootOpts) Validate() error {
	switch {
	case o.Memory < 0:
		return fmt.Errorf("memory: %d is not positive", o.Memory)
	case o.CPUs < 0 || o.CPUs > MaxCPUs:
		return fmt.Errorf("cpus: %d is not between 1 and %d", o.CPUs, MaxCPUs)
	case o.AgentTimeout < 0:
		return fmt.Errorf("agent_timeout: expected a positive number of seconds, got %v", o.AgentTimeout)
	case o.InitialTime != nil && (o.InitialTime.Year() < 1970 || o.InitialTime.Year() > 9999):
		return fmt.Errorf("initial_time: year %d is not between 1970 and 9999", o.InitialTime.Year())
	}
	if _, err := ready.Parse(o.Wait); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := machine.CheckArgs(o.Shape.Args); err != nil {
		return err
	}
	for i, f := range o.Files {
		switch {
		case CheckFilePath(f.Path) != nil:
			return fmt.Errorf("files[%d]: %w", i+1, CheckFilePath(f.Path))
		case f.Mode > 0o7777:
			return fmt.Errorf("files[%d]: mode %#o is not between 0 and 0o7777", i+1, f.Mode)
		}
	}
	return nil
}

// CheckFilePath returns an error for a path that a boot file cannot have: it must be
// absolute, name a file, and have neither `.` nor `..` among its parts, which would mean
// different files to different readers.
func CheckFilePath(name string) error {
	switch {
	case !strings.HasPrefix(name, "/") || path.Clean(name) == "/" || strings.HasSuffix(name, "/"):
		return fmt.Errorf("path must be the absolute path of a file, got %q", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("path %q holds a NUL byte", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("path must not have `.` or `..` among its parts, got %q", name)
		}
	}
	return nil
}

// MemoryBytes returns the size of the memory, or the default, in bytes.
func (o *BootOpts) MemoryBytes() int64 {
	if o.Memory == 0 {
		return defaultMemory
	}
	return o.Memory
}

// VCPUs returns the number of vCPUs, or the default.
func (o *BootOpts) VCPUs() int {
	if o.CPUs == 0 {
		return defaultCPUs
	}
	return o.CPUs
}

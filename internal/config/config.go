// Package config reads provium.toml, the one configuration file, and verifies
// it: every path it returns is absolute, every value is of the right kind.
//
// It does not look at the files that the configuration names, run build
// commands or know what a profile is booted for.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"provium/internal/machine"
	"provium/internal/ready"
	"provium/internal/userland"
)

// FileName is the name of the configuration file.
const FileName = "provium.toml"

// ArtifactsOff is in the place of a directory for evidence where none is to be kept.
const ArtifactsOff = "off"

const (
	defaultCacheMaxSize = 20 << 30 // bytes
	maxFileSize         = 4 << 20  // bytes of a configuration file
	profileFileName     = "profile.provium.toml"
	fromDirKey          = "from_dir" // of [profiles]
)

// Config is a whole provium.toml.
type Config struct {
	Path         string // of the file, absolute
	Dir          string // the project
	Roots        []string
	CacheDir     string // fixture cache
	CacheMaxSize int64  // bytes
	OopsPatterns []string
	OopsIgnore   []string
	// KernelWarnings is what the profiles that do not say it do about WARNING reports of
	// their kernels: "fail" or "note".
	KernelWarnings string
	// Artifacts is where the evidence of failed tests goes, ArtifactsOff for nowhere, "" for the default.
	Artifacts string
	// Dump has the memory of guests that hang or panic kept with that evidence.
	Dump     bool
	Profiles map[string]Profile
}

// Profile is one [profiles.NAME].
type Profile struct {
	Name string
	Dir  string // relative paths and the build start here

	Matrix           string // the profile whose matrix this is one of, "" for others
	Kernel           string // "" is automatic
	KernelRelease    string // the kernel is one with this release, or the beginning of one
	KernelForced     bool   // Kernel comes from --kernel, or from a matrix without a command line
	Root             string // tree in which the kernel is found
	Initrd           string // "" is the built-in one
	Userland         userland.Source
	Cmdline          *string // nil when absent
	CmdlineFile      string
	GuestOS          string // "linux" or "peios"
	InjectAgent      bool
	AgentOverlayPath string
	Build            string // shell command, {out} replaced, as in Cmdline
	BuildOut         string // its output directory
	Machine          string // "" is Provium's choice
	QEMU             string // program, absolute or a name on PATH; "" is the default
	FirmwareConsole  bool   // the firmware prints to the serial console
	Shape            machine.Shape
	Arch             string // of guests, as package arch names it; "" is the kernel's, or the host's
	BootCompressed   *bool  // a bzImage is booted as it is; nil is Provium's choice
	Accel            string // "auto", "kvm", "tcg"
	BootCache        bool   // boots may be served from the cache
	// BootCacheAge is how old what they are served from may be; 0: any age.
	BootCacheAge     time.Duration
	AgentBootTimeout time.Duration   // 0: the default
	OpTimeout        time.Duration   // 0: the default
	Ready            ready.Condition // when a boot is done
	ReadyTimeout     time.Duration   // 0: the default
	Modules          []string
	Symbols          []string // files and directories with the kernel's debug information
	Transport        string   // "virtio-serial" or "vsock"
	KernelWarnings   string   // "fail" or "note"; "" until the whole configuration was read
	Disks            []Disk
}

// Disk is one entry of a profile's disks: exactly one of Path, Scratch and
// Template is set.
type Disk struct {
	ID       string
	Path     string // used in place
	Scratch  int64  // bytes of a blank disk
	Template string // copied
	ReadOnly bool
	Format   string // of Path or Template; "" is found by content

	LogicalBlock, PhysicalBlock int64 // bytes; 0 is the default
	NoDiscard, NoWriteCache     bool
	Bus                         string // "virtio-blk" (or ""), "virtio-scsi", "nvme"
}

// Env is what the configuration takes from its surroundings.
type Env struct {
	Home      string // the user's home directory, for paths with ~/, or ""
	CacheHome string // the user's cache directory, e.g. ~/.cache
	BuildDir  string // $PROVIUM_BUILD_DIR, or ""
	Kernel    string // --kernel, absolute, or ""
	QEMU      string // --qemu, absolute or a name on PATH, or ""

	isCell bool // the profile is one of a matrix
}

// ReadError is a file that cannot be read.
type ReadError struct {
	Path string
	Err  error

	alsoIn []string // where a configuration was searched, too
}

// errNoneAbove is about a directory that has no configuration, nor has any above
// it.
var errNoneAbove = fmt.Errorf("no such file here or in a directory above: %w", fs.ErrNotExist)

func (e *ReadError) Error() string {
	const remedy = "`provium init` writes one, --config names another"
	switch {
	case errors.Is(e.Err, errNoneAbove):
		above := ""
		for _, dir := range e.alsoIn {
			above += fmt.Sprintf(", nor in `%s` or above", dir)
		}
		return fmt.Sprintf("read `%s`: no such file, nor in a directory above%s; %s", e.Path, above, remedy)
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("read `%s`: no such file; %s", e.Path, remedy)
	}
	var pe *fs.PathError
	if errors.As(e.Err, &pe) {
		return fmt.Sprintf("read `%s`: %v", e.Path, pe.Err)
	}
	return fmt.Sprintf("read `%s`: %v", e.Path, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// ParseError is a file that is no TOML.
type ParseError struct {
	Path string
	Err  error
}

func (e *ParseError) Error() string {
	var de *toml.DecodeError
	if errors.As(e.Err, &de) {
		line, col := de.Position()
		return fmt.Sprintf("parse `%s`: line %d, column %d: %s", e.Path, line, col,
			strings.TrimPrefix(de.Error(), "toml: "))
	}
	return fmt.Sprintf("parse `%s`: %s", e.Path, strings.TrimPrefix(e.Err.Error(), "toml: "))
}

func (e *ParseError) Unwrap() error { return e.Err }

// InvalidError is a value or key that is not valid.
type InvalidError struct {
	Path string
	Err  error
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("invalid config in `%s`: %v", e.Path, e.Err)
}

func (e *InvalidError) Unwrap() error { return e.Err }

// Find looks for provium.toml in dir and upward, then in each of the others and upward.
func Find(dir string, others ...string) (string, error) {
	path, err := findAbove(dir)
	var missing *ReadError
	if err == nil || !errors.As(err, &missing) {
		return path, err
	}
	for _, other := range others {
		if path, err := findAbove(other); err == nil {
			return path, nil
		}
		missing.alsoIn = append(missing.alsoIn, other)
	}
	return "", missing
}

// findAbove looks for provium.toml in dir and upward.
func findAbove(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(at, FileName)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
		up := filepath.Dir(at)
		if up == at {
			return "", &ReadError{Path: filepath.Join(dir, FileName), Err: errNoneAbove}
		}
		at = up
	}
}

// Load reads and verifies a configuration file.
func Load(path string, env Env) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, &ReadError{Path: path, Err: err}
	}
	text, err := readFile(path)
	if err != nil {
		return nil, &ReadError{Path: path, Err: err}
	}
	return parse(text, path, env)
}

// Builtin returns the configuration of a directory without a provium.toml: one automatic
// profile of the name given.
func Builtin(dir, profile string, env Env) (*Config, error) {
	return parse([]byte("[profiles."+profile+"]\n"), filepath.Join(dir, FileName), env)
}

// IsMissing reports whether err is that of Find where there is no configuration.
func IsMissing(err error) bool { return errors.Is(err, errNoneAbove) }

// readFile reads a file, which may be a pipe, up to maxFileSize.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(text) > maxFileSize {
		err = fmt.Errorf("more than %d MiB are no configuration", maxFileSize>>20)
	}
	return text, err
}

func parse(text []byte, path string, env Env) (*Config, error) {
	top, err := decode(text, path)
	if err != nil {
		return nil, err
	}
	c := &Config{Path: path, Dir: filepath.Dir(path), CacheMaxSize: defaultCacheMaxSize, KernelWarnings: "fail",
		Profiles: map[string]Profile{}}
	if env.CacheHome != "" {
		c.CacheDir = filepath.Join(env.CacheHome, "provium", "fixtures")
	}
	if err := c.read(top, env); err != nil {
		var nested *InvalidError
		if errors.As(err, &nested) { // of a profile's own file
			return nil, err
		}
		var re *ReadError
		var pe *ParseError
		if errors.As(err, &re) || errors.As(err, &pe) {
			return nil, err
		}
		return nil, &InvalidError{Path: path, Err: locate(err, text)}
	}
	return c, nil
}

func decode(text []byte, path string) (map[string]any, error) {
	var top map[string]any
	if err := toml.Unmarshal(text, &top); err != nil {
		return nil, &ParseError{Path: path, Err: err}
	}
	return top, nil
}

func (c *Config) read(top map[string]any, env Env) error {
	general, profiles := map[string]any{}, map[string]any{}
	err := section{where: "the top level", valid: []key{
		{"provium", tableInto(&general)},
		{"profiles", tableInto(&profiles)},
	}}.read(top)
	if err != nil {
		return err
	}
	at := base{dir: c.Dir, home: env.Home}
	err = section{where: "[provium]", key: "provium", valid: []key{
		{"roots", pathsInto(&c.Roots, at)},
		{"cache_dir", pathInto(&c.CacheDir, at)},
		{"cache_max_size", sizeInto(&c.CacheMaxSize)},
		{"oops_patterns", patternsInto(&c.OopsPatterns)},
		{"oops_ignore", patternsInto(&c.OopsIgnore)},
		{"kernel_warnings", choiceInto(&c.KernelWarnings, "fail", "note")},
		{"artifacts", func(v any) error {
			if v == ArtifactsOff {
				c.Artifacts = ArtifactsOff
				return nil
			}
			return pathInto(&c.Artifacts, at)(v)
		}},
		{"dump", boolInto(&c.Dump)},
	}}.read(general)
	if err != nil {
		return err
	}
	if dir, ok := profiles[fromDirKey]; ok {
		delete(profiles, fromDirKey)
		key := joinKey("profiles", fromDirKey)
		var path string
		if err := pathInto(&path, at)(dir); err != nil {
			return &keyError{key, fmt.Errorf("[profiles] %s: %w", fromDirKey, err)}
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return &keyError{key, fmt.Errorf("[profiles] %s: %w", fromDirKey, err)}
		}
		if err := c.readProfileDir(path, entries, env); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(profiles) {
		table, ok := profiles[name].(map[string]any)
		if !ok {
			return &keyError{joinKey("profiles", name),
				fmt.Errorf("[profiles] %s: expected a table [profiles.%s], got %s", name, name, kindOf(profiles[name]))}
		}
		if err := c.addProfile(name, joinKey("profiles", name), table, c.Dir, env); err != nil {
			return err
		}
	}
	for name, p := range c.Profiles {
		if p.KernelWarnings == "" {
			p.KernelWarnings = c.KernelWarnings
			c.Profiles[name] = p
		}
	}
	return nil
}

// readProfileDir reads every <dir>/<name>/profile.provium.toml.
func (c *Config) readProfileDir(dir string, entries []fs.DirEntry, env Env) error {
	for _, e := range entries {
		path := filepath.Join(dir, e.Name(), profileFileName)
		text, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
			continue
		}
		if err != nil {
			return &ReadError{Path: path, Err: err}
		}
		table, err := decode(text, path)
		if err != nil {
			return err
		}
		if err := c.addProfile(e.Name(), "", table, filepath.Dir(path), env); err != nil {
			return &InvalidError{Path: path, Err: locate(err, text)}
		}
	}
	return nil
}

// ProfileNames lists the profiles, sorted.
func (c *Config) ProfileNames() []string { return sortedKeys(c.Profiles) }

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

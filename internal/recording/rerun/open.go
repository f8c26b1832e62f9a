package rerun

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"provium/internal/recording"
)

// Recording is a recording in the folder of a failure.
type Recording struct {
	recording.Manifest
	base string // of the paths of its files
}

// Open finds the recording of a VM in a folder, and checks it. With "", there must be just one.
func Open(dir, vm string) (*Recording, error) {
	paths, err := filepath.Glob(filepath.Join(dir, recording.Prefix+"*"+recording.ManifestFile))
	if err != nil {
		return nil, err
	}
	var all []*Recording
	var names []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m, err := recording.ParseManifest(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if names = append(names, m.VM); vm == "" || vm == m.VM {
			all = append(all, &Recording{m, strings.TrimSuffix(path, recording.ManifestFile)})
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("`%s` has no recording: the README there says why, if the test ran with --record", dir)
	case len(all) == 0:
		return nil, fmt.Errorf("`%s` has no recording of vm `%s` (there: %s)", dir, vm, strings.Join(names, ", "))
	case len(all) > 1:
		return nil, fmt.Errorf("`%s` has several recordings; --vm NAME chooses one of %s", dir,
			strings.Join(names, ", "))
	}
	return all[0], all[0].check()
}

// check returns an error for files that are not what was recorded.
func (r *Recording) check() error {
	for _, f := range []struct {
		ending, digest string
		size           int64
	}{{recording.LogFile, r.LogDigest, r.LogLen}, {recording.StateFile, r.StateDigest, r.StateLen}} {
		path := r.base + f.ending
		sum := sha256.New()
		n, err := r.copy(sum, f.ending, f.size)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("the recording is not complete: %w", err)
		case err != nil && (n >= f.size || !errors.Is(err, io.ErrUnexpectedEOF)):
			return fmt.Errorf("%s is damaged: %w", path, err)
		case n < f.size:
			return fmt.Errorf("%s ends early: it has %d bytes of %d", path, n, f.size)
		case n > f.size || hex.EncodeToString(sum.Sum(nil)) != f.digest:
			return fmt.Errorf("%s is damaged: it is not what was recorded", path)
		}
	}
	if _, err := os.Stat(r.Kernel); err != nil {
		return fmt.Errorf("the kernel of the recording is not on this machine: %w", err)
	}
	return nil
}

// maxWindow is how far back what is packed refers, in bytes.
const maxWindow = 64 << 20

// copy copies at most one byte more than size of one of the recording's files, unpacked, and returns how many they are.
func (r *Recording) copy(w io.Writer, ending string, size int64) (n int64, err error) {
	file, err := os.Open(r.base + ending)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var in io.Reader = file
	if strings.HasSuffix(ending, ".zst") {
		z, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			return 0, err
		}
		defer z.Close()
		in = z
	}
	return io.Copy(w, io.LimitReader(in, size+1))
}

// unpackMemory writes the memory from which the guest began to a new file at path.
func (r *Recording) unpackMemory(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	n, err := r.copy(f, recording.MemoryFile, r.Memory)
	if err == nil && n != r.Memory {
		err = fmt.Errorf("it has %d bytes, not %d", n, r.Memory)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is damaged: %w", r.base+recording.MemoryFile, err)
	}
	return f, nil
}

// Moment is where a guest that runs again stops.
type Moment struct {
	At   int64  // instructions
	Text string // what it is, for people
	// Function is of the kernel: the moment is where it is first called, which only a debugger can find.
	Function string
}

// AtPanic is the word for the moment of a kernel's panic.
const AtPanic = "panic"

// AtEnd is the word for the end of what was recorded.
const AtEnd = "end"

// Find returns the moment that text names: "panic"; the name of a mark; the number of an operation, from 1 on;
// FILE:LINE or LINE, of the last operation there. "" is the panic, or the beginning of the operation that has failed.
func (r *Recording) Find(text string) (Moment, error) {
	last := Moment{At: r.End - 1, Text: "the end of the recording"}
	if r.Panicked && (text == AtPanic || text == "") {
		return Moment{At: r.End - 1, Text: "the panic", Function: "panic"}, nil
	}
	if text == AtPanic {
		return last, errors.New("the kernel of the guest has not panicked")
	}
	if text == AtEnd {
		return last, nil
	}
	number, numberErr := strconv.Atoi(text)
	operations := 0
	var found *recording.Point
	for i, p := range r.Points {
		if !p.Mark {
			operations++
		}
		switch {
		case text == "" && p.Mark && p.Text == recording.Failure:
			if i > 0 {
				return r.moment(r.Points[i-1]), nil
			}
		case p.Mark && p.Text == text, !p.Mark && numberErr == nil && number == operations:
			return r.moment(p), nil
		case text != "" && (p.Where == text || strings.HasSuffix(p.Where, "/"+text)):
			found = &r.Points[i]
		}
	}
	switch {
	case found != nil:
		return r.moment(*found), nil
	case text == "" && len(r.Points) > 0: // it ended in it
		return r.moment(r.Points[len(r.Points)-1]), nil
	case text == "":
		return last, nil
	}
	return last, fmt.Errorf("the recording has no moment `%s`; it has:\n%s", text, r.List())
}

func (r *Recording) moment(p recording.Point) Moment {
	text := "the beginning of " + p.Text
	if p.Mark {
		text = "mark `" + p.Text + "`"
	}
	if p.Where != "" {
		text += " at " + p.Where
	}
	return Moment{At: min(max(p.At, 1), r.End-1), Text: text}
}

// maxListed is how many moments a list shows: the latest.
const maxListed = 40

// List returns the moments that have names, a line each.
func (r *Recording) List() string {
	var lines []string
	operations := 0
	for _, p := range r.Points {
		name := "mark"
		if !p.Mark {
			operations++
			name = strconv.Itoa(operations)
		}
		lines = append(lines, fmt.Sprintf("  %4s  %s  %s", name, p.Text, p.Where))
	}
	if r.Panicked {
		lines = append(lines, " panic  the kernel's panic")
	}
	return strings.Join(slices.Clip(lines[max(0, len(lines)-maxListed):]), "\n")
}

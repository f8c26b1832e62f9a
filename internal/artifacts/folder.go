package artifacts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/terminal"
)

const (
	readmeFile = "README.md"
	// maxFolder is how many bytes the files of one folder have.
	maxFolder = 512 << 20
	maxReason = 64 << 10 // bytes of the reason of the failure in the README
)

// Folder is the evidence of one failure while it is written. It is used from one goroutine at a time.
// What cannot be written is told in the README and by Err, and stops nothing.
type Folder struct {
	Dir string

	place  Place
	record Record
	files  []kept
	left   []string // what is missing, and why
	size   int64    // of the files
	failed error    // the first failure to write
}

type kept struct{ name, what string }

// errFull is returned for what does not fit into a folder or a place.
var errFull = errors.New("no more is kept")

// Add writes a file of at most most bytes. The name may be any text; what says in the README what the
// file is. A file of which another one has the name gets a number.
func (f *Folder) Add(name, what string, most int64, write func(io.Writer) error) {
	unlock := f.lock()
	defer unlock()
	most = min(most, maxFolder-f.size)
	if f.place.Limit > 0 {
		most = min(most, f.place.Limit-f.place.used())
	}
	f.add(name, what, most, write)
}

// add is Add whatever else there is.
func (f *Folder) add(name, what string, most int64, write func(io.Writer) error) {
	file, name, err := f.create(visible(FileName(name)))
	if err != nil {
		f.fail(name, err)
		return
	}
	w := &cappedWriter{w: file, left: most}
	err = errors.Join(write(w), file.Close())
	f.size += w.n
	switch {
	case w.n == 0 && err != nil:
		os.Remove(file.Name())
	default:
		f.files = append(f.files, kept{name, what})
	}
	switch {
	case w.cut:
		f.left = append(f.left, fmt.Sprintf("`%s`: only its first %d bytes are kept", name, w.n))
	case err != nil:
		f.fail(name, err)
	}
}

// Omit says in the README what is missing, and why.
func (f *Folder) Omit(what string, why error) {
	f.left = append(f.left, fmt.Sprintf("%s: %v", what, why))
}

// lock keeps other processes from writing to a place with a limit. The caller must call unlock.
func (f *Folder) lock() (unlock func()) {
	if f.place.Limit == 0 {
		return func() {}
	}
	dir, err := os.Open(f.place.Dir)
	if err != nil {
		return func() {} // what is written then says why
	}
	_ = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
	return func() { dir.Close() }
}

// create makes a new file of that name, or of the name with a number.
func (f *Folder) create(name string) (*os.File, string, error) {
	suffix := filepath.Ext(name)
	for n := 1; ; n++ {
		try := name
		if n > 1 {
			try = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, suffix), n, suffix)
		}
		file, err := os.OpenFile(filepath.Join(f.Dir, try), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil || !errors.Is(err, fs.ErrExist) || n == maxFolders {
			return file, try, err
		}
	}
}

// fail records that a file could not be written.
func (f *Folder) fail(name string, err error) {
	f.left = append(f.left, fmt.Sprintf("`%s`: %v", name, err))
	if f.failed == nil {
		f.failed = err
	}
}

// Err returns why the first file could not be written that could not, or nil.
func (f *Folder) Err() error { return f.failed }

// isUnfinished reports whether a process of the same run has begun the folder and not finished it.
func (f *Folder) isUnfinished() bool {
	if _, err := os.Lstat(filepath.Join(f.Dir, readmeFile)); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	r, err := ReadRecord(f.Dir)
	return err == nil && r.Run == f.record.Run && r.File == f.record.File && r.Test == f.record.Test
}

// adopt takes over what is in the folder.
func (f *Folder) adopt() {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		f.fail(".", err)
	}
	for _, e := range entries {
		f.files = append(f.files, kept{e.Name(), "written before the process of the test file ended"})
		if info, err := e.Info(); err == nil {
			f.size += info.Size()
		}
	}
}

// Drop removes the folder: nothing has failed.
func (f *Folder) Drop() { os.RemoveAll(f.Dir) }

// Finish writes the README, and returns Err. reason is that of the failure.
func (f *Folder) Finish(reason string, took time.Duration) error {
	f.add(readmeFile, "", maxFolder, func(w io.Writer) error {
		_, err := io.WriteString(w, f.readme(reason, took))
		return err
	})
	return f.failed
}

func (f *Folder) readme(reason string, took time.Duration) string {
	r := &f.record
	var b strings.Builder
	what := r.File
	if r.Test != "" {
		what += ": " + r.Test
	}
	fmt.Fprintf(&b, "# %s\n\nIt failed", strings.ReplaceAll(terminal.Escape(what), "\n", " "))
	if took > 0 {
		fmt.Fprintf(&b, " after %v", took.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, ", on %s.\n\n", r.Host.Kernel)
	if len(reason) > maxReason {
		reason = reason[:maxReason] + "\n[...]"
	}
	for line := range strings.Lines(terminal.Escape(reason)) {
		b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
	fmt.Fprintf(&b, "\n`provium replay DIR` runs exactly this test again, with DIR the folder of this file: with the "+
		"same seeds and flags.\n\n| File | What it is |\n|---|---|\n")
	for _, k := range f.files {
		what := strings.NewReplacer("\n", " ", "|", `\|`).Replace(terminal.Escape(k.what))
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.name, what)
	}
	b.WriteString("\nConsoles, logs and captures are as guests wrote them: a terminal may act on what is in them.\n")
	if len(f.left) > 0 {
		b.WriteString("\nMissing:\n\n")
		for _, text := range f.left {
			fmt.Fprintf(&b, "- %s\n", terminal.Escape(text))
		}
	}
	return b.String()
}

// cappedWriter writes up to a number of bytes.
type cappedWriter struct {
	w    io.Writer
	left int64
	n    int64
	cut  bool // there was more
}

// Write implements io.Writer. It returns errFull for what does not fit.
func (c *cappedWriter) Write(p []byte) (int, error) {
	fits := min(int64(len(p)), max(c.left, 0))
	n, err := c.w.Write(p[:fits])
	c.n += int64(n)
	c.left -= int64(n)
	if err == nil && fits < int64(len(p)) {
		c.cut, err = true, errFull
	}
	return n, err
}

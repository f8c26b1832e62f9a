package kernelsource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Files are where the debug information of a kernel and its modules is: files, and directories
// that are searched for them.
type Files []string

// nameLimit is how long it may take to name the frames of one text.
const nameLimit = 5 * time.Second

// Name returns a text with the lines of source behind its frames, as far as they are known. The
// error says why some are not known although there are files for them; the text is good in any
// case.
func (f Files) Name(ctx context.Context, text string) (named string, err error) {
	frames := framesIn(text)
	if len(f) == 0 || len(frames) == 0 {
		return text, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, nameLimit, errSlow)
	defer cancel()
	of := map[string][]int{} // frames by their modules
	wanted := map[string]bool{}
	for i, frame := range frames {
		of[frame.module], wanted[frame.module] = append(of[frame.module], i), true
	}
	files, err := search(ctx, f, wanted)
	if err != nil {
		return text, fmt.Errorf("no frame is named by its line: %w", err)
	}
	names := make([]string, len(frames))
	var root string // of the kernel's source; the kernel comes first
	var errs []error
	for _, module := range slices.Sorted(maps.Keys(of)) {
		errs = append(errs, nameModule(ctx, files[module], frames, of[module], names, &root))
	}
	return insert(text, frames, names), errors.Join(errs...)
}

var errSlow = fmt.Errorf("it takes longer than %v", nameLimit)

// nameModule names those frames of a module, or of the kernel, whose numbers are given by the
// first of the files that is its own. The error is that of the last file.
func nameModule(ctx context.Context, files []string, frames []frame, which []int, names []string, root *string) error {
	var last error
	for _, path := range files {
		wanted := make([]frame, len(which))
		for i, n := range which {
			wanted[i] = frames[n]
		}
		places, above, err := namesIn(ctx, path, wanted, *root)
		if err == nil {
			for i, n := range which {
				names[n] = places[i]
			}
			if *root == "" {
				*root = above
			}
			return nil
		}
		last = fmt.Errorf("%s: %w", path, err)
		if ctx.Err() != nil {
			break
		}
	}
	return last
}

// namesIn names frames by one file. It returns an error if it can name none of them.
func namesIn(ctx context.Context, path string, frames []frame, root string) (names []string, above string, err error) {
	data, release, err := mapFile(path)
	if err != nil {
		return nil, "", err
	}
	defer release()
	return namesInObject(ctx, data, frames, root)
}

// namesInObject is namesIn for the content of a file.
func namesInObject(ctx context.Context, data []byte, frames []frame, root string) (names []string, above string,
	err error) {
	// A file that shrinks while it is mapped faults, and package dwarf has panicked before.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			names, err = nil, fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	o, err := openObject(data)
	if err != nil {
		return nil, "", err
	}
	addresses := o.resolve(frames)
	if !slices.ContainsFunc(addresses, func(a []uint64) bool { return len(a) > 0 }) {
		return nil, "", errOther
	}
	lines, err := o.lines(ctx, slices.Concat(addresses...), root)
	if err != nil {
		return nil, "", err
	}
	names = make([]string, len(frames))
	for i, all := range addresses {
		for n, address := range all {
			switch line := lines.at[address]; {
			case n == 0:
				names[i] = line
			case names[i] != line: // functions of one name and length
				names[i] = ""
			}
		}
	}
	return names, lines.root, nil
}

// errOther is the error of a file that has none of the functions.
var errOther = errors.New("it is not of the kernel that has printed this")

// mapFile maps a file into memory until release is called.
func mapFile(path string) (data []byte, release func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("it is no file")
	case info.Size() < 64:
		return nil, nil, errNoObject
	case info.Size() > maxFile:
		return nil, nil, fmt.Errorf("it has %d bytes, at most %d are read", info.Size(), int64(maxFile))
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	return data, func() { _ = unix.Munmap(data) }, nil
}

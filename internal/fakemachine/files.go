package fakemachine

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// File is a file or directory of a guest.
type File struct {
	Data    []byte
	Perm    uint32
	MtimeNS int64
	Dir     bool
	Link    string // target of a symbolic link; "" is another kind of file
}

// Files is the file system of a guest: /, /tmp and /root exist. It is safe for
// concurrent use.
type Files struct {
	mu      sync.Mutex
	files   map[string]*File
	changed chan struct{} // closed and replaced at each change
}

func newFiles() *Files {
	f := &Files{changed: make(chan struct{})}
	f.files = emptyTree()
	return f
}

func emptyTree() map[string]*File {
	now := time.Now().UnixNano()
	tree := map[string]*File{}
	for _, dir := range []string{"/", "/tmp", "/root", "/etc", "/dev", "/proc", "/sys"} {
		tree[dir] = &File{Dir: true, Perm: 0o755, MtimeNS: now}
	}
	return tree
}

func (f *Files) update(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Files) clear() { f.update(func() { f.files = emptyTree() }) }

func (f *Files) set(files map[string]*File) { f.update(func() { f.files = files }) }

func (f *Files) all() map[string]*File {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]*File{}
	for name, file := range f.files {
		copied := *file
		copied.Data = slices.Clone(file.Data)
		out[name] = &copied
	}
	return out
}

// find returns a file, behind symbolic links with follow. The caller must hold f.mu.
func (f *Files) find(name string, follow bool) (*File, string, *wire.Error) {
	name = path.Clean("/" + name)
	for range 40 {
		file := f.files[name]
		switch {
		case file == nil && f.belowFile(name):
			return nil, name, Errno(uint32(unix.ENOTDIR))
		case file == nil:
			return nil, name, Errno(uint32(unix.ENOENT))
		case file.Link == "" || !follow:
			return file, name, nil
		case path.IsAbs(file.Link):
			name = path.Clean(file.Link)
		default:
			name = path.Join(path.Dir(name), file.Link)
		}
	}
	return nil, name, Errno(uint32(unix.ELOOP))
}

func (f *Files) belowFile(name string) bool {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if at := f.files[dir]; at != nil {
			return !at.Dir
		}
	}
	return false
}

// create makes an entry where its directory exists. The caller must hold f.mu.
func (f *Files) create(name string, file *File) *wire.Error {
	dir, _, err := f.find(path.Dir(name), true)
	switch {
	case err != nil:
		return err
	case !dir.Dir:
		return Errno(uint32(unix.ENOTDIR))
	}
	file.MtimeNS = time.Now().UnixNano()
	f.files[name] = file
	return nil
}

// Read returns the contents of a file.
func (f *Files) Read(name string) ([]byte, *wire.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, _, err := f.find(name, true)
	switch {
	case err != nil:
		return nil, err
	case file.Dir:
		return nil, Errno(uint32(unix.EISDIR))
	}
	return slices.Clone(file.Data), nil
}

// Write creates a file or replaces its contents.
func (f *Files) Write(name string, data []byte) *wire.Error {
	return f.write(name, data, false, 0, false)
}

// Append adds to a file, which is created if it is missing.
func (f *Files) Append(name string, data []byte) *wire.Error {
	return f.write(name, data, false, 0, true)
}

func (f *Files) write(name string, data []byte, setPerm bool, perm uint32, add bool) (failure *wire.Error) {
	f.update(func() {
		file, at, err := f.find(name, true)
		switch {
		case err != nil && err.Errno != uint32(unix.ENOENT):
			failure = err
			return
		case err != nil:
			file = &File{Perm: 0o644}
			if failure = f.create(at, file); failure != nil {
				return
			}
		case file.Dir:
			failure = Errno(uint32(unix.EISDIR))
			return
		}
		if setPerm {
			file.Perm = perm
		}
		if !add {
			file.Data = nil
		}
		file.Data, file.MtimeNS = append(file.Data, data...), time.Now().UnixNano()
	})
	return failure
}

// Symlink makes a symbolic link.
func (f *Files) Symlink(target, name string) (failure *wire.Error) {
	f.update(func() { failure = f.create(path.Clean("/"+name), &File{Link: target, Perm: 0o777}) })
	return failure
}

// MkdirAll creates a directory and the directories above it.
func (f *Files) MkdirAll(name string) *wire.Error {
	return f.mkdir(&wire.Mkdir{Path: name, Parents: true})
}

func (f *Files) mkdir(r *wire.Mkdir) (failure *wire.Error) {
	perm := uint32(0o755)
	if r.SetPerm {
		perm = r.Perm
	}
	f.update(func() {
		at, name, err := f.find(r.Path, true)
		switch {
		case err == nil && at.Dir && r.Parents:
			return
		case err == nil:
			failure = Errno(uint32(unix.EEXIST))
			return
		}
		if r.Parents {
			var missing []string
			for dir := path.Dir(name); f.files[dir] == nil; dir = path.Dir(dir) {
				missing = append(missing, dir)
			}
			for _, dir := range slices.Backward(missing) {
				if failure = f.create(dir, &File{Dir: true, Perm: 0o755}); failure != nil {
					return
				}
			}
		}
		failure = f.create(name, &File{Dir: true, Perm: perm})
	})
	return failure
}

// Remove removes a file or an empty directory.
func (f *Files) Remove(name string) *wire.Error { return f.unlink(name) }

func (f *Files) unlink(name string) (failure *wire.Error) {
	f.update(func() {
		file, at, err := f.find(name, false)
		if err == nil && file.Dir && len(f.below(at)) > 0 {
			err = Errno(uint32(unix.ENOTEMPTY))
		}
		if failure = err; err == nil {
			delete(f.files, at)
		}
	})
	return failure
}

// below returns the names in a directory. The caller must hold f.mu.
func (f *Files) below(dir string) []string {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && !strings.Contains(rest, "/") {
			out = append(out, rest)
		}
	}
	return out
}

func (f *Files) rename(from, to string) (failure *wire.Error) {
	f.update(func() {
		file, at, err := f.find(from, false)
		if err == nil {
			err = f.create(path.Clean("/"+to), file)
		}
		if failure = err; err == nil {
			delete(f.files, at)
		}
	})
	return failure
}

func (file *File) kind() wire.EntryType {
	switch {
	case file.Dir:
		return wire.TypeDirectory
	case file.Link != "":
		return wire.TypeSymlink
	}
	return wire.TypeFile
}

func (f *Files) stat(r *wire.Stat) (wire.Value, *wire.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, _, err := f.find(r.Path, !r.NoFollow)
	if err != nil {
		return nil, err
	}
	return &wire.StatValue{Size: uint64(len(file.Data)), MtimeNS: file.MtimeNS, Perm: file.Perm, Type: file.kind()}, nil
}

func (f *Files) list(name string) (wire.Value, *wire.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, at, err := f.find(name, true)
	switch {
	case err != nil:
		return nil, err
	case !dir.Dir:
		return nil, Errno(uint32(unix.ENOTDIR))
	}
	out := wire.EntriesValue{}
	for _, entry := range f.below(at) {
		out = append(out, wire.Entry{Name: entry, Type: f.files[path.Join(at, entry)].kind()})
	}
	return out, nil
}

// perm returns the permission bits of a file.
func (f *Files) perm(name string) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, _, err := f.find(name, true)
	if err != nil {
		return 0
	}
	return file.Perm
}

// from returns a file's bytes from an offset on, and a channel that is closed when
// some file has changed.
func (f *Files) from(name string, offset int64) (p []byte, size int64, changed <-chan struct{}, failure *wire.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, _, err := f.find(name, true)
	if err != nil {
		return nil, 0, f.changed, err
	}
	if offset < int64(len(file.Data)) {
		p = slices.Clone(file.Data[offset:])
	}
	return p, int64(len(file.Data)), f.changed, nil
}

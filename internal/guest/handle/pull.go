package handle

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/guest"
)

// Limits of what one pull_file takes. The guest may be hostile.
const (
	maxPullEntries = 1 << 20
	maxPullData    = 64 << 30 // bytes, holes not counted
	maxPullPath    = 4096     // bytes, below the directory that is pulled
	maxPullName    = 255      // bytes, as in Linux
)

// PullFile copies a file of the guest, or a directory with all that is below it, to the
// host, without filling holes. Permission bits are kept, but no set-id and sticky bits.
// Below a directory symbolic links are copied as links, and a FIFO, socket or device is
// refused before anything is copied. Each file of the host appears when it is complete.
// What is there already stays: directories keep their modes, files and links are replaced.
// Nothing is written outside hostPath, whatever the guest says.
func (a *Actor) PullFile(ctx context.Context, guestPath, hostPath string) error {
	p := &pull{ctx: ctx, from: strings.TrimSuffix(guestPath, "/"), at: hostPath,
		entriesLeft: maxPullEntries, dataLeft: maxPullData}
	if p.from == "" {
		p.from = "/"
	}
	return changeFiles(ctx, a, "pull_file", p.both(""), func(f fileOps) error {
		p.fileOps = f
		info, err := f.Stat(ctx, p.from, true)
		switch {
		case err != nil:
			return p.failed("", err)
		case info.Type == guest.TypeDirectory:
			return p.tree(info.Perm)
		}
		return p.single()
	})
}

// pull is one copy out of a guest.
type pull struct {
	fileOps
	ctx  context.Context
	from string // guest
	at   string // host

	entriesLeft int
	dataLeft    int64
}

// both returns the two paths of a file of the tree, whose name is relative, "" for the
// root.
func (p *pull) both(name string) string { return p.guest(name) + " -> " + filepath.Join(p.at, name) }

func (p *pull) guest(name string) string {
	if name == "" {
		return p.from
	}
	return strings.TrimSuffix(p.from, "/") + "/" + name
}

// failed is an error with both paths: of the guest, or of the host's file.
func (p *pull) failed(name string, err error) error {
	var inGuest *guest.OpError
	var onHost *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &inGuest):
		inGuest.Op, inGuest.Path = "pull_file", p.both(name)
		return err
	case errors.As(err, &onHost), errors.As(err, &link):
		return fmt.Errorf("pull_file %s: host file %s: %w", p.both(name), filepath.Join(p.at, name), reason(err))
	case p.ctx.Err() != nil:
		return err
	}
	return fmt.Errorf("pull_file %s: %w", p.both(name), err)
}

// single copies one file, of any kind.
func (p *pull) single() error {
	if info, err := os.Stat(p.at); err == nil && info.IsDir() {
		return fmt.Errorf("pull_file %s: host path %s is a directory; name the file", p.both(""), p.at)
	} else if err == nil && !info.Mode().IsRegular() { // such as /dev/null, which would be replaced
		return fmt.Errorf("pull_file %s: host path %s is there and is not a regular file", p.both(""), p.at)
	}
	dir, err := os.OpenRoot(filepath.Dir(p.at))
	if err != nil {
		return p.failed("", err)
	}
	defer dir.Close()
	return p.copyFile(dir, filepath.Base(p.at), "")
}

// copyFile copies the file name of the tree to a name below dir.
func (p *pull) copyFile(dir *os.Root, to, name string) error {
	part := path.Join(path.Dir(filepath.ToSlash(to)), temporary())
	f, err := dir.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return p.failed(name, err)
	}
	bits, err := p.PullPieces(p.ctx, p.guest(name), pulledFile{p, f})
	if err == nil {
		err = f.Chmod(os.FileMode(bits & 0o777))
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = dir.Rename(part, to)
	}
	if err != nil {
		err = p.failed(name, err)
		if e := dir.Remove(part); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// temporary is the name of a file that is not complete.
func temporary() string { return ".pull-" + rand.Text() }

// pulledFile is a file of the host that is being filled.
type pulledFile struct {
	*pull
	f *os.File
}

// WriteAt writes data from the guest.
func (f pulledFile) WriteAt(p []byte, offset int64) (int, error) {
	if f.dataLeft -= int64(len(p)); f.dataLeft < 0 {
		return 0, fmt.Errorf("the guest has more than %d bytes of data", int64(maxPullData))
	}
	if f.ctx.Err() != nil {
		return 0, context.Cause(f.ctx)
	}
	return f.f.WriteAt(p, offset)
}

// Truncate sets the size of the file.
func (f pulledFile) Truncate(size int64) error { return f.f.Truncate(size) }

// pulled is one file below the directory that is pulled.
type pulled struct {
	name string // relative
	kind guest.EntryType
}

// list returns what is below the directory, directories before what is in them. It
// fails for what is not copied.
func (p *pull) list() (all []pulled, err error) {
	todo := []string{""}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		entries, err := p.ListDir(p.ctx, p.guest(dir))
		if err != nil {
			return nil, p.failed(dir, err)
		}
		if p.entriesLeft -= len(entries); p.entriesLeft < 0 {
			return nil, fmt.Errorf("pull_file %s: there are more than %d files", p.both(""), maxPullEntries)
		}
		for _, e := range entries {
			if !isName(e.Name) {
				return nil, fmt.Errorf("pull_file %s: the guest has an entry %.300q there, which cannot be the name "+
					"of a file", p.both(dir), e.Name)
			}
			name := path.Join(dir, e.Name)
			if len(name) > maxPullPath {
				return nil, fmt.Errorf("pull_file %s: the path %.100s… has %d bytes, at most %d are possible",
					p.both(""), name, len(name), maxPullPath)
			}
			kind := e.Type
			if kind == guest.TypeOther { // a file system that lists no kinds
				info, err := p.Stat(p.ctx, p.guest(name), false)
				if err != nil {
					return nil, p.failed(name, err)
				}
				kind = info.Type
			}
			switch kind {
			case guest.TypeDirectory:
				todo = append(todo, name)
			case guest.TypeFile, guest.TypeSymlink:
			default:
				return nil, fmt.Errorf("pull_file %s: %s is a %s; %s", p.both(""), p.guest(name), kind, onlyCopied)
			}
			all = append(all, pulled{name, kind})
		}
	}
	return all, nil
}

// isName reports whether a name from the guest can be that of a file.
func isName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxPullName && !strings.ContainsAny(name, "/\x00")
}

// tree copies a directory with these permission bits.
func (p *pull) tree(bits uint32) error {
	all, err := p.list()
	if err != nil {
		return err
	}
	type made struct {
		name string // relative, "" for the root
		bits uint32
	}
	var dirs []made // whose modes come last: they may forbid to write
	switch err := os.Mkdir(p.at, ownerAll); {
	case err == nil:
		dirs = append(dirs, made{"", bits})
	case !errors.Is(err, fs.ErrExist):
		return p.failed("", err)
	}
	root, err := os.OpenRoot(p.at)
	if err != nil {
		return p.failed("", err)
	}
	defer root.Close()
	for _, e := range all {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		switch e.kind {
		case guest.TypeDirectory:
			isNew, bits, err := p.makeDir(root, e.name)
			if err != nil {
				return err
			}
			if isNew {
				dirs = append(dirs, made{e.name, bits})
			}
		case guest.TypeSymlink:
			err = p.makeLink(root, e.name)
		default:
			err = p.copyFile(root, e.name, e.name)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(dirs) {
		if err := root.Chmod(path.Join(".", d.name), os.FileMode(d.bits&0o777)); err != nil {
			return p.failed(d.name, err)
		}
	}
	return nil
}

// makeDir makes a directory unless it is there. It reports whether it has, and which mode
// the guest's has.
func (p *pull) makeDir(root *os.Root, name string) (isNew bool, bits uint32, err error) {
	err = root.Mkdir(name, ownerAll)
	if errors.Is(err, fs.ErrExist) {
		info, err := root.Stat(name)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("host path %s is there and is not a directory", filepath.Join(p.at, name))
		}
		if err != nil {
			err = p.failed(name, err)
		}
		return false, 0, err
	}
	if err != nil {
		return false, 0, p.failed(name, err)
	}
	info, err := p.Stat(p.ctx, p.guest(name), false)
	if err != nil {
		return false, 0, p.failed(name, err)
	}
	return true, info.Perm, nil
}

// makeLink makes a symbolic link with the target of the guest's, which is not followed.
func (p *pull) makeLink(root *os.Root, name string) error {
	target, err := p.FileCall(p.ctx, guest.ReadlinkCall(p.guest(name)))
	if err != nil {
		return p.failed(name, err)
	}
	part := path.Join(path.Dir(name), temporary())
	if err := root.Symlink(string(target), part); err != nil {
		return p.failed(name, err)
	}
	if err := root.Rename(part, name); err != nil {
		return errors.Join(p.failed(name, err), root.Remove(part))
	}
	return nil
}

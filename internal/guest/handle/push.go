package handle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
)

// PushFile copies a file of the host, or a directory with all that is below it, into the
// guest, without filling holes. Permission bits are kept, unless perm is given for the
// files. Below a directory symbolic links are copied as links. A FIFO, socket or device,
// or a file that may not be read, is refused before anything is copied. What is in the
// guest already stays: directories keep their modes, files and links are replaced.
func (a *Actor) PushFile(ctx context.Context, hostPath, guestPath string, perm guest.Perm) error {
	p := &push{ctx: ctx, from: hostPath, at: strings.TrimSuffix(guestPath, "/"), perm: perm}
	if p.at == "" {
		p.at = "/"
	}
	tree, err := p.examine()
	if err != nil {
		return p.hostError("", err)
	}
	return changeFiles(ctx, a, "push_file", p.both(""), func(f fileOps) error {
		p.to = f
		return p.copy(tree)
	})
}

// push is one copy into a guest.
type push struct {
	ctx  context.Context
	to   fileOps
	from string // host
	at   string // guest
	perm guest.Perm
}

// node is one file of the tree, the tree's root the first one. Directories come before
// what is in them.
type node struct {
	name string // relative, "" for the root
	mode fs.FileMode
}

// both returns the two paths of a file of the tree.
func (p *push) both(name string) string { return p.host(name) + " -> " + p.guest(name) }

func (p *push) host(name string) string { return filepath.Join(p.from, name) }

func (p *push) guest(name string) string {
	if name == "" {
		return p.at
	}
	return strings.TrimSuffix(p.at, "/") + "/" + name
}

// hostError is an error of the host's file, with both paths.
func (p *push) hostError(name string, err error) error {
	at := p.host(name)
	var failed *fs.PathError
	if errors.As(err, &failed) {
		at = filepath.Clean(failed.Path)
	}
	return fmt.Errorf("push_file %s: host file %s: %w", p.both(name), at, reason(err))
}

// reason returns why a call on the host has failed, without the call and the path.
func reason(err error) error {
	var link *os.LinkError
	var path *fs.PathError
	switch {
	case errors.As(err, &link):
		return link.Err
	case errors.As(err, &path):
		return path.Err
	}
	return err
}

// guestError is an error of the guest's, with both paths.
func (p *push) guestError(name string, err error) error {
	var failed *guest.OpError
	if errors.As(err, &failed) {
		failed.Op, failed.Path = "push_file", p.both(name)
	}
	return err
}

// examine returns what there is to copy, and an error for what cannot be copied.
func (p *push) examine() (tree []node, err error) {
	info, err := os.Stat(p.from) // the root may be a link
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []node{{"", info.Mode()}}, checkCopied(p.from, info.Mode())
	}
	root := p.from + string(filepath.Separator)
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name == "." {
			name = ""
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		tree = append(tree, node{name, info.Mode()})
		return checkCopied(path, info.Mode())
	})
	return tree, err
}

// checkCopied returns an error for what is not copied.
func checkCopied(path string, mode fs.FileMode) error {
	switch {
	case mode.IsDir():
		return readable(path, unix.R_OK|unix.X_OK)
	case mode&fs.ModeSymlink != 0:
		return nil
	case mode.IsRegular():
		return readable(path, unix.R_OK)
	}
	kind := "device"
	switch {
	case mode&fs.ModeNamedPipe != 0:
		kind = "FIFO"
	case mode&fs.ModeSocket != 0:
		kind = "socket"
	}
	return &fs.PathError{Path: path, Err: fmt.Errorf("it is a %s; %s", kind, onlyCopied)}
}

const onlyCopied = "only regular files, directories and symbolic links are copied"

func readable(path string, how uint32) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, how, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Path: path, Err: err}
	}
	return nil
}

// copy copies the tree.
func (p *push) copy(tree []node) error {
	var dirs []node // whose modes come last: they may forbid to write
	for _, n := range tree {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		var err error
		switch {
		case n.mode.IsDir():
			var isNew bool
			if isNew, err = p.makeDir(n); isNew && needsChmod(permBits(n.mode)) {
				dirs = append(dirs, n)
			}
		case n.mode&fs.ModeSymlink != 0:
			err = p.makeLink(n)
		default:
			err = p.copyFile(n)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range slices.Backward(dirs) {
		if _, err := p.to.FileCall(p.ctx, guest.ChmodCall(p.guest(n.name), permBits(n.mode))); err != nil {
			return p.guestError(n.name, err)
		}
	}
	return nil
}

// ownerAll is what a directory needs while it is filled.
const ownerAll = 0o700

func needsChmod(bits uint32) bool { return bits|ownerAll != bits }

// makeDir makes a directory unless it is there. It reports whether it has.
func (p *push) makeDir(n node) (isNew bool, err error) {
	to, mode := p.guest(n.name), guest.Mode(permBits(n.mode)|ownerAll)
	if n.name != "" {
		if err = p.to.Mkdir(p.ctx, to, false, mode); err == nil {
			return true, nil
		}
	}
	info, statErr := p.to.Stat(p.ctx, to, true)
	switch {
	case statErr == nil && info.Type == guest.TypeDirectory:
		return false, nil
	case statErr == nil:
		err = guest.ErrnoError("push_file", to, int(unix.ENOTDIR))
	case n.name == "" && isErrno(statErr, unix.ENOENT):
		err = p.to.Mkdir(p.ctx, to, true, mode)
		isNew = err == nil
	case n.name == "":
		err = statErr
	}
	return isNew, p.guestError(n.name, err)
}

func isErrno(err error, errno unix.Errno) bool {
	var failed *guest.OpError
	return errors.As(err, &failed) && failed.Errno == uint32(errno)
}

// makeLink makes a symbolic link. One with another target is replaced, and so is a file.
func (p *push) makeLink(n node) error {
	target, err := os.Readlink(p.host(n.name))
	if err != nil {
		return p.hostError(n.name, err)
	}
	to := p.guest(n.name)
	_, err = p.to.FileCall(p.ctx, guest.SymlinkCall(target, to))
	if !isErrno(err, unix.EEXIST) {
		return p.guestError(n.name, err)
	}
	info, statErr := p.to.Stat(p.ctx, to, false)
	if statErr != nil || info.Type == guest.TypeDirectory {
		return p.guestError(n.name, err)
	}
	if err = p.to.Unlink(p.ctx, to); err == nil {
		_, err = p.to.FileCall(p.ctx, guest.SymlinkCall(target, to))
	}
	return p.guestError(n.name, err)
}

// copyFile copies a regular file.
func (p *push) copyFile(n node) error {
	flags := os.O_RDONLY | unix.O_NONBLOCK
	if n.name != "" {
		flags |= unix.O_NOFOLLOW
	}
	f, err := os.OpenFile(p.host(n.name), flags, 0)
	if err != nil {
		return p.hostError(n.name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return p.hostError(n.name, err)
	}
	if !info.Mode().IsRegular() {
		return p.hostError(n.name, errors.New("it is not a regular file any more"))
	}
	perm := p.perm
	if perm == (guest.Perm{}) {
		perm = guest.Mode(permBits(info.Mode()))
	}
	err = p.to.PushPieces(p.ctx, p.guest(n.name), guest.NewDataReader(hostFile{f}, hasHoles(info)), perm)
	var host *hostReadError
	if errors.As(err, &host) {
		return p.hostError(n.name, host.err)
	}
	return p.guestError(n.name, err)
}

// hostFile marks the errors of a file of the host, which the guest's must be told from.
type hostFile struct{ f *os.File }

type hostReadError struct{ err error }

func (e *hostReadError) Error() string { return e.err.Error() }
func (e *hostReadError) Unwrap() error { return e.err }

func (h hostFile) Read(p []byte) (int, error) {
	n, err := h.f.Read(p)
	return n, hostFailure(err)
}

func (h hostFile) Seek(offset int64, whence int) (int64, error) {
	at, err := h.f.Seek(offset, whence)
	return at, hostFailure(err)
}

func hostFailure(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) { // io.EOF is not one
		return &hostReadError{path.Err}
	}
	return err
}

// hasHoles reports whether a file takes less room than it has bytes.
func hasHoles(info fs.FileInfo) bool {
	const block = 512
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().IsRegular() && st.Blocks < (st.Size+block-1)/block
}

// permBits returns the permission bits of a mode as Linux has them.
func permBits(m os.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range map[os.FileMode]uint32{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

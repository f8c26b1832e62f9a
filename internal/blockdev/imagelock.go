package blockdev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse is returned for an image that another program has open in a way that conflicts
// with our use. The connection of Config.Server returns it if its program found that.
var ErrInUse = errors.New("is in use by another program")

// lockImage opens and locks the file of an image. It fails if another disk uses the image
// in a way that conflicts or, unless served, another program. The program that serves an
// image checks for others itself, and is one of them to us.
func lockImage(path string, write, served bool) (*os.File, error) {
	flags, lock := os.O_RDONLY, unix.LOCK_SH
	if write {
		flags, lock = os.O_RDWR, unix.LOCK_EX
	}
	info, err := os.Stat(path) // a FIFO would block in open
	switch {
	case err != nil:
		return nil, fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	case info.IsDir():
		return nil, fmt.Errorf("image `%s` is a directory", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("image `%s` is no regular file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("image `%s` is empty", path)
	}
	f, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("image `%s`: %w", path, errors.Unwrap(err))
	}
	err = unix.Flock(int(f.Fd()), lock|unix.LOCK_NB)
	switch {
	case err == unix.EWOULDBLOCK:
		err = fmt.Errorf("image `%s` is in use by another disk", path)
	case err != nil:
		err = fmt.Errorf("image `%s` lock: %w", path, err)
	case !served:
		if err = useOf(write).declare(f); errors.Is(err, ErrInUse) {
			err = fmt.Errorf("image `%s` %w", path, ErrInUse)
		} else if err != nil {
			err = fmt.Errorf("image `%s` lock: %w", path, err)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// imageUse is what is done with an image, in the protocol of QEMU's programs. Each locks
// a byte of the image's file for each thing that it does, and another byte for each thing
// that others must not do. The locks are shared, so that many can do the same; then each
// looks at the locks of the others.
type imageUse struct{ does, forbids []int64 }

const (
	usesRead   = 0 // the contents, which are to be consistent
	usesWrite  = 1
	usesResize = 3

	byteDoes    = 100 // the first of these bytes
	byteForbids = 200
)

func useOf(write bool) imageUse {
	u := imageUse{[]int64{usesRead}, []int64{usesWrite, usesResize}}
	if write {
		u.does = append(u.does, usesWrite, usesResize)
	}
	return u
}

// declare locks the bytes, for as long as the file is open, and then looks at those of
// the others: of two that do so at the same time, at least one sees the other.
func (u imageUse) declare(f *os.File) error {
	for _, at := range u.bytes(byteDoes, byteForbids) {
		err := lockByte(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1})
		if err == unix.EAGAIN || err == unix.EACCES {
			return ErrInUse // a program other than QEMU has locked the byte exclusively
		}
		if err != nil {
			return err
		}
	}
	for _, at := range u.bytes(byteForbids, byteDoes) {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
		if err := lockByte(f, unix.F_OFD_GETLK, &l); err != nil {
			return err
		}
		if l.Type != unix.F_UNLCK {
			return ErrInUse
		}
	}
	return nil
}

// bytes returns the offsets of the locks for the use, or of those that conflict with it.
func (u imageUse) bytes(does, forbids int64) (at []int64) {
	for _, n := range u.does {
		at = append(at, does+n)
	}
	for _, n := range u.forbids {
		at = append(at, forbids+n)
	}
	return at
}

func lockByte(f *os.File, command int, l *unix.Flock_t) error {
	for {
		if err := unix.FcntlFlock(f.Fd(), command, l); err != unix.EINTR {
			return err
		}
	}
}

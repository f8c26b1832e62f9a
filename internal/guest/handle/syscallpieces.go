package handle

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/wire"
)

// PushPieces creates a file or replaces its contents, without filling holes.
func (f syscallFiles) PushPieces(ctx context.Context, path string, from *guest.DataReader, perm guest.Perm) error {
	return f.write(ctx, "push_file", path, from, perm)
}

// write replaces the contents of a file with everything from from.
func (f syscallFiles) write(ctx context.Context, op, path string, from *guest.DataReader, perm guest.Perm) error {
	fd, err := f.open(ctx, op, path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	to := &openedFile{syscallFiles: f, ctx: ctx, op: op, path: path, fd: fd}
	defer f.closeFD(ctx, op, fd)
	piece := make([]byte, maxPiece)
	for at := int64(0); ; {
		offset, n, err := from.Next(piece)
		if err != nil && err != io.EOF {
			return err
		}
		if offset != at {
			if e := to.hole(at, offset, err == io.EOF); e != nil {
				return e
			}
		}
		if err == io.EOF {
			break
		}
		if err := to.write(piece[:n]); err != nil {
			return err
		}
		at = offset + int64(n)
	}
	bits, given := perm.Bits()
	if !given {
		return nil
	}
	// After the contents: a write clears the set-id bits.
	_, err = to.call(guest.Syscall{Nr: wire.CallFchmod, Portable: true, Args: [6]int64{fd, int64(bits)}})
	return err
}

// PullPieces copies the data of a file to w, without its holes, and returns its permission
// bits.
func (f syscallFiles) PullPieces(ctx context.Context, path string, to guest.PieceWriter) (perm uint32, err error) {
	fd, err := f.open(ctx, "pull_file", path, unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.closeFD(ctx, "pull_file", fd)
	info, err := f.fstat(ctx, "pull_file", path, fd)
	if err != nil {
		return 0, err
	}
	const block = 512
	holes := info.Type == guest.TypeFile && int64(info.Blocks) < (info.Size+block-1)/block
	from := guest.NewDataReader(&openedFile{syscallFiles: f, ctx: ctx, op: "pull_file", path: path, fd: fd}, holes)
	piece := make([]byte, maxPiece)
	for {
		offset, n, err := from.Next(piece)
		switch {
		case err == io.EOF:
			return info.Perm, to.Truncate(offset)
		case err == nil:
			_, err = to.WriteAt(piece[:n], offset)
		}
		if err != nil {
			return 0, err
		}
	}
}

// openedFile is a descriptor of an actor, for one operation.
type openedFile struct {
	syscallFiles
	ctx      context.Context
	op, path string
	fd       int64
}

// call makes a system call on the file.
func (o *openedFile) call(s guest.Syscall) (*guest.SyscallResult, error) {
	r, err := o.by.Syscall(o.ctx, o.op, s)
	if err == nil && r.Errno != 0 {
		err = o.by.errno(o.op, o.path, r.Errno)
	}
	return r, err
}

// Read reads once. It returns 0 at the end.
func (o *openedFile) Read(p []byte) (int, error) {
	r, err := o.by.Syscall(o.ctx, o.op, bufferCall(wire.CallRead, o.fd, make([]byte, len(p))))
	if err != nil {
		return 0, err
	}
	n, err := o.by.moved(o.op, o.path, r, len(p))
	copy(p[:n], r.Bufs[0])
	return n, err
}

// Seek is lseek.
func (o *openedFile) Seek(offset int64, whence int) (int64, error) {
	r, err := o.call(guest.Syscall{Nr: wire.CallLseek, Portable: true, Args: [6]int64{o.fd, offset, int64(whence)}})
	if isErrno(err, unix.ENXIO) {
		err = unix.ENXIO // as the reader of the data knows it
	}
	if err != nil {
		return 0, err
	}
	if r.Ret < 0 {
		return 0, fmt.Errorf("%s %s: the guest's kernel says that the cursor is at %d", o.op, o.path, r.Ret)
	}
	return r.Ret, nil
}

// write writes all of p.
func (o *openedFile) write(p []byte) error {
	for len(p) > 0 {
		r, err := o.by.Syscall(o.ctx, o.op, bufferCall(wire.CallWrite, o.fd, p))
		if err != nil {
			return err
		}
		taken, err := o.by.moved(o.op, o.path, r, len(p))
		if err == nil && taken == 0 {
			err = fmt.Errorf("%s %s: the guest's kernel took none of %d bytes", o.op, o.path, len(p))
		}
		if err != nil {
			return err
		}
		p = p[taken:]
	}
	return nil
}

// hole leaves out the bytes up to to, at the file's end also. What is not a regular file
// gets zeros, since what was there before may show.
func (o *openedFile) hole(from, to int64, end bool) error {
	info, err := o.fstat(o.ctx, o.op, o.path, o.fd)
	if err != nil {
		return err
	}
	switch {
	case info.Type == guest.TypeFile && end:
		_, err = o.call(guest.Syscall{Nr: wire.CallFtruncate, Portable: true, Args: [6]int64{o.fd, to}})
		return err
	case info.Type == guest.TypeFile:
		_, err = o.Seek(to, io.SeekStart)
		return err
	}
	zeros := make([]byte, min(to-from, maxPiece))
	for from < to {
		n := min(to-from, int64(len(zeros)))
		if err := o.write(zeros[:n]); err != nil {
			return err
		}
		from += n
	}
	return nil
}

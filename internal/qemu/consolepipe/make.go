package consolepipe

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// size is what users without privileges may have.
const size = 1 << 20

// Make makes the pipe of a console of that name, whose end takes 1 MiB before it is full. Both must be closed.
func Make(name string) (host, end *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("qemu %s pipe: %w", name, err)
	}
	_, err = unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, size)
	if err == nil {
		err = unix.SetNonblock(p[0], true)
	}
	host, end = os.NewFile(uintptr(p[0]), name), os.NewFile(uintptr(p[1]), name)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("qemu %s pipe: %w", name, err), host.Close(), end.Close())
	}
	return host, end, nil
}

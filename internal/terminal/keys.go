package terminal

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Keys reads single keys from a terminal, without an echo. Ctrl-C and the like stay signals,
// and output is not changed. While the process is in the background nothing is read, and the
// terminal is left as it is.
type Keys struct {
	tty  *os.File
	got  func(key byte)
	wake *os.File // read end of a pipe, closed at the end
	stop *os.File // its write end

	mu     sync.Mutex
	before *unix.Termios // of the terminal; nil while it is not ours
	paused int
	parked *sync.Cond // paused has changed, or reading has ended
	inRead bool       // a key is read, or passed on
	closed bool
	ended  chan struct{}
}

// ReadKeys begins to read keys, and calls got for each, from one goroutine. The caller must
// call Close.
func ReadKeys(tty *os.File, got func(key byte)) (*Keys, error) {
	if !Is(tty) {
		return nil, errors.New("keys: no terminal")
	}
	wake, stop, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	k := &Keys{tty: tty, got: got, wake: wake, stop: stop, ended: make(chan struct{})}
	k.parked = sync.NewCond(&k.mu)
	k.mu.Lock()
	k.take()
	k.mu.Unlock()
	go k.read()
	return k, nil
}

// take makes the terminal pass single keys on, if it is ours. The caller must hold k.mu.
func (k *Keys) take() {
	if k.before != nil || k.paused > 0 || k.closed || !inForeground(k.tty) {
		return
	}
	before, err := unix.IoctlGetTermios(int(k.tty.Fd()), unix.TCGETS)
	if err != nil {
		return
	}
	now := *before
	now.Lflag &^= unix.ICANON | unix.ECHO | unix.IEXTEN
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(int(k.tty.Fd()), unix.TCSETS, &now) == nil {
		k.before = before
	}
}

// release brings the terminal's earlier state back. The caller must hold k.mu.
func (k *Keys) release() {
	if k.before != nil && inForeground(k.tty) {
		_ = unix.IoctlSetTermios(int(k.tty.Fd()), unix.TCSETS, k.before) // it may be gone
	}
	k.before = nil
}

// inForeground reports whether the process may read from its terminal.
func inForeground(tty *os.File) bool {
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// IsElsewhere reports whether the process is in the background of its terminal, on which another
// program runs.
func IsElsewhere(tty *os.File) bool {
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}

// awayPause is how long keys of a terminal are left alone on which another program runs.
const awayPause = time.Second

// read passes keys on until Close, or the end of the terminal.
func (k *Keys) read() {
	defer close(k.ended)
	fds := []unix.PollFd{{Fd: int32(k.wake.Fd()), Events: unix.POLLIN}, {Fd: int32(k.tty.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		k.mu.Lock()
		for k.paused > 0 && !k.closed {
			k.parked.Wait()
		}
		ours := inForeground(k.tty)
		k.inRead = ours
		closed := k.closed
		k.mu.Unlock()
		if closed || fds[1].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			return
		}
		switch {
		case fds[1].Revents&unix.POLLIN == 0:
		case !ours:
			_, _ = unix.Poll(fds[:1], int(awayPause/time.Millisecond))
		default:
			k.one()
		}
		k.mu.Lock()
		k.inRead = false
		k.parked.Broadcast()
		k.mu.Unlock()
	}
}

// one reads what is there and passes it on.
func (k *Keys) one() {
	var buf [16]byte
	poll := []unix.PollFd{{Fd: int32(k.tty.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); err != nil || n == 0 {
		return // another reader was quicker, before a pause
	}
	n, err := unix.Read(int(k.tty.Fd()), buf[:])
	if err != nil {
		return
	}
	for _, key := range buf[:max(0, n)] {
		k.got(key)
	}
}

// Pause leaves the terminal, in its earlier state, to another reader until Resume is called as
// often. It must not be called from got.
func (k *Keys) Pause() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paused++
	for k.inRead && !k.closed {
		k.parked.Wait()
	}
	k.release()
}

// Resume ends a Pause.
func (k *Keys) Resume() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paused--
	k.take()
	k.parked.Broadcast()
}

// Continued must be called when the process goes on after it was stopped: the shell has used
// the terminal meanwhile.
func (k *Keys) Continued() {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.before
	k.before = nil
	k.take()
	if before != nil {
		k.before = before
	}
}

// Close brings the terminal's earlier state back.
func (k *Keys) Close() {
	k.mu.Lock()
	k.closed = true
	k.release()
	k.parked.Broadcast()
	k.mu.Unlock()
	k.stop.Close()
	<-k.ended
	k.wake.Close()
}

package proc

// #include "confine.h"
import "C"

import (
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts cmd, a program that reads what others wrote, so that it can do little
// beyond its files and sockets (confine.c): it gains no privileges and has none of
// root's capabilities, and it can start no program, look into no process, change no
// priorities and reach no network. (A script may become the program that it is about, and
// so may that one.) A credential of cmd takes effect if we are root.
// LISTEN_PID is set where LISTEN_FDS is.
//
// Where the kernel refuses the filter the program runs without it. The caller must Wait
// for cmd.
func (s *Starter) Start(cmd *exec.Cmd) error {
	if err := checkProgram(cmd); err != nil {
		return err
	}
	uid, gid := -1, -1
	if attr := cmd.SysProcAttr; attr != nil && attr.Credential != nil {
		changed := *attr
		if unix.Geteuid() == 0 {
			uid, gid = int(attr.Credential.Uid), int(attr.Credential.Gid)
		}
		changed.Credential = nil
		cmd.SysProcAttr = &changed
	}
	cmd.Args = slices.Concat([]string{C.CONFINE_NAME, strconv.Itoa(uid), strconv.Itoa(gid), cmd.Path}, cmd.Args)
	cmd.Path = ownProgram
	return s.start(s.plain, cmd, syscall.SIGKILL)
}

// File is a file that a program opens by its path.
type File struct {
	Path  string
	Write bool // for writing, too
}

// Launch starts a program that confines itself (QEMU's -sandbox). It gains no privileges,
// and has none of root's capabilities; if it could not open one of the files without, it
// keeps that of ignoring the permissions of files.
func (s *Starter) Launch(cmd *exec.Cmd, files ...File) (Process, error) {
	from := s.bare
	if s.IgnoresPermissions(cmd.Path, files...) {
		from = s.reading
	}
	if err := s.start(from, cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	return &Child{cmd: cmd}, nil
}

// IgnoresPermissions reports whether Launch lets a program that opens these files keep the
// capability of ignoring the permissions of files.
func (s *Starter) IgnoresPermissions(program string, files ...File) bool {
	return unix.Geteuid() == 0 && !s.canOpen(append(files, File{Path: program}))
}

// canOpen reports whether a program without capabilities can open files.
func (s *Starter) canOpen(files []File) bool {
	opened := func() error {
		for _, f := range files {
			flags := unix.O_RDONLY
			if f.Write {
				flags = unix.O_RDWR
			}
			fd, err := unix.Open(f.Path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err == nil {
				_ = unix.Close(fd)
			} else if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
				return err
			}
		}
		return nil
	}
	return s.on(s.bare, opened) == nil
}

// withoutPrivileges returns the preparation of a thread whose children gain no privileges
// and have none of the capabilities of root but those given. It does as much as the
// machine allows.
func withoutPrivileges(keep ...int) func() {
	return func() {
		_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		for c := range unix.CAP_LAST_CAP + 1 {
			if !slices.Contains(keep, c) {
				_ = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
			}
		}
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var have [2]unix.CapUserData
		if unix.Capget(&header, &have[0]) != nil {
			return
		}
		var mask [2]uint32
		for _, c := range keep {
			mask[c/32] |= 1 << (c % 32)
		}
		for i := range have {
			have[i].Permitted &= mask[i]
			have[i].Effective &= mask[i]
			have[i].Inheritable = 0
		}
		_ = unix.Capset(&header, &have[0])
	}
}

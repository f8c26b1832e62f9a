package proc

// #include "serve.h"
import "C"

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Serve starts a program that serves files of the host to a guest. It needs rights of root's for that, and confines
// itself. Where we are not root, it is in a namespace of users of its own, in which root is our user, and without a
// network (serve.c): it can do there what the user can.
func (s *Starter) Serve(cmd *exec.Cmd) (Process, error) { return s.serve(cmd, unix.Geteuid() == 0) }

// serve is Serve; isRoot says that we are root in whose namespace the program may be.
func (s *Starter) serve(cmd *exec.Cmd, isRoot bool) (Process, error) {
	if err := checkProgram(cmd); err != nil {
		return nil, err
	}
	if !isRoot {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
			UidMappings: []syscall.SysProcIDMap{{HostID: unix.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: unix.Getegid(), Size: 1}},
		}
		cmd.Args = slices.Concat([]string{C.SERVE_NAME, cmd.Path}, cmd.Args)
		cmd.Path = ownProgram
	}
	err := s.start(s.plain, cmd, syscall.SIGKILL)
	if !isRoot && errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: users may not have namespaces here (sysctl kernel.unprivileged_userns_clone, "+
			"kernel.apparmor_restrict_unprivileged_userns)", err)
	}
	if err != nil {
		return nil, err
	}
	return &Child{cmd: cmd}, nil
}

package proc

// #cgo CFLAGS: -O2 -Wall
// #include "keeper.h"
import "C"

import (
	"os/exec"
	"slices"
	"syscall"
)

// StartTree starts cmd so that nothing it starts outlives it, nor us: neither
// what it leaves in the background nor what leaves its process group or session.
// Between us and the program there is a keeper (keeper.c), a small process that
// becomes the parent of all that loses its own, and kills all of it when the
// program ends, when Kill is called or when we end, however that happens.
//
// The caller must call the child's Wait, which returns how the program ended, and
// when nothing of it is left.
func (s *Starter) StartTree(cmd *exec.Cmd) (*Child, error) {
	if err := checkProgram(cmd); err != nil {
		return nil, err
	}
	cmd.Args = slices.Concat([]string{C.KEEPER_NAME, cmd.Path}, cmd.Args)
	cmd.Path = ownProgram
	if err := s.start(s.plain, cmd, syscall.SIGTERM); err != nil {
		return nil, err
	}
	return &Child{cmd: cmd, tree: true}, nil
}

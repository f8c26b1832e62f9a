// Package boot gets a guest ready for the agent: it loads the modules the link
// needs, finds and opens the link's port, writes the boot files, and tells the
// C program that is PID 1 (internal/agent/init) which init to become. It also
// keeps the agent in the root directory of whatever PID 1 is later. It serves
// no operation; that is package agent.
package boot

import "golang.org/x/sys/unix"

// Where the image has the agent's things.
const (
	dir          = "/.provium"
	modulesDir   = dir + "/modules"
	earlyModules = dir + "/modules.early"
	lateModules  = dir + "/modules.late"
	filesDir     = dir + "/files"
	manifest     = filesDir + "/manifest"
	newRoot      = dir + "/root"
)

// retry repeats a call that a signal interrupted, such as the runtime's own.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

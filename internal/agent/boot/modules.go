package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// LoadEarly loads the modules that the link needs, LoadLate the others. A list
// that is absent is an empty one. A module that cannot be loaded does not keep
// the rest from being tried: the error has all that failed, except for those that nobody
// minds. A NeededError is among them if the guest must not be given to a test.
func LoadEarly() error { return loadModules(earlyModules) }

// LoadLate loads the modules of the second list.
func LoadLate() error { return loadModules(lateModules) }

func loadModules(list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return fmt.Errorf("module list: %w", err)
	}
	var failed []error
	for _, m := range parseModules(string(text)) {
		err := loadModule(m)
		switch {
		case err == nil || m.soft:
		case m.needed:
			failed = append(failed, &NeededError{err})
		default:
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// modprobe loads the drivers of the guest's devices by the image's own modprobe, where
// the image has its kernel's modules and no lists of ours: a builder has put them there.
func (s *System) modprobe() error {
	if exists(earlyModules) || !exists("/lib/modules/"+firstLine(s.proc, "sys/kernel/osrelease")) {
		return nil
	}
	for _, dir := range []string{"/sbin", "/usr/sbin", "/bin", "/usr/bin"} {
		program := dir + "/modprobe"
		if !runnable(program) {
			continue
		}
		argv := append([]string{program, "-a", "-q"}, drivers[:]...)
		pid, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{Dir: "/", Files: []uintptr{0, 1, 2}})
		if err != nil {
			return fmt.Errorf("load drivers: %s: %w", program, err)
		}
		// A driver that the kernel lacks, or has built in, is a failure to modprobe.
		if err := sys.Retry(func() error { _, err := unix.Wait4(pid, nil, 0, nil); return err }); err != nil {
			return fmt.Errorf("load drivers: %s: %w", program, err)
		}
		return nil
	}
	return nil
}

// drivers are those of the machine's devices, the link's first.
var drivers = [...]string{"virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "virtio_rng", "button", "evdev"}

func exists(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil
}

// NeededError is returned for a module without which a guest is not what its profile says.
type NeededError struct{ Err error }

func (e *NeededError) Error() string {
	return e.Err.Error() + " (the profile's `modules` list it, or need it)"
}

func (e *NeededError) Unwrap() error { return e.Err }

// module is a line of a list: a path below modulesDir and parameters.
type module struct {
	path, params string
	needed, soft bool // by a mark in front: ! and ?
}

func parseModules(text string) (out []module) {
	for line := range strings.SplitSeq(text, "\n") {
		path, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path == "" || path[0] == '#' {
			continue
		}
		m := module{params: strings.TrimSpace(params)}
		path, m.needed = strings.CutPrefix(path, "!")
		m.path, m.soft = strings.CutPrefix(path, "?")
		out = append(out, m)
	}
	return out
}

// loadModule loads one module and drops its file: the memory it takes in the
// initramfs is the guest's.
func loadModule(m module) error {
	path := modulesDir + "/" + m.path
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("load module %s: %w", m.path, err)
	}
	defer unix.Close(fd)
	err = sys.Retry(func() error { return unix.FinitModule(fd, m.params, 0) })
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("load module %s: %w", m.path, err)
	}
	_ = unix.Unlink(path)
	return nil
}

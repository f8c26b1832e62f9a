package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// LoadEarly loads the modules that the link needs, LoadLate the others. A list
// that is absent is an empty one. A module that cannot be loaded does not keep
// the rest from being tried: the error has all that failed.
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
		if err := loadModule(m); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// module is a line of a list: a path below modulesDir and parameters.
type module struct{ path, params string }

func parseModules(text string) (out []module) {
	for line := range strings.SplitSeq(text, "\n") {
		path, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path != "" && path[0] != '#' {
			out = append(out, module{path, strings.TrimSpace(params)})
		}
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

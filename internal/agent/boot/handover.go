package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// Init says what PID 1 becomes.
type Init string

// What PID 1 becomes.
const (
	// InitImage is the image's own /init, or the init of the root device.
	InitImage Init = "image"
	// InitMinimal is the small one that comes with the agent.
	InitMinimal Init = "minimal"
	// InitOther is one that was there before the agent.
	InitOther Init = "other"
)

// PID1 is what the agent knows of PID 1 when that has started it.
type PID1 struct {
	// Pipe is where PID 1 waits for its word.
	Pipe int
	// Name is the path with which PID 1 was executed.
	Name string
}

// Prepare finishes the guest on behalf of PID 1, which waits at the pipe, and
// tells it what to become: the image's /init if there is one, else the init of
// the root device that the command line names, else the minimal init. With a userland it is
// that one's init or the minimal one, see enterUserland. Where PID 1 is
// the image's /init, or was executed by it, only the last is left. It
// returns once PID 1 has become that, so that the first operation finds the
// guest as it will be. Errors that leave a usable guest go to report.
func (s *System) Prepare(pid1 PID1, report func(error)) (Init, error) {
	files, err := openFiles()
	if err != nil {
		return "", err
	}
	kind, word := InitMinimal, "M\x00"
	cmdline := parseCmdline(firstLine(s.proc, "cmdline"))
	// What the kernel has started first may hand over to the rest of the image.
	// Anything else that is PID 1 was handed over to.
	first := pid1.Name == cmdline.rdinit
	if first && pid1.Name != imageInit && runnable(imageInit) && !s.isProgram(imageInit) {
		kind, word = InitImage, "I\x00"
		err = files.write()
	} else if u, ok := readUserland(); first && ok {
		kind, word, err = s.enterUserland(u, cmdline, files, report)
	} else if first && cmdline.root != "" {
		kind, word = InitImage, cmdline.rootWord()
		err = s.prepareRoot(cmdline, files, report)
	} else {
		err = s.prepareMinimal(files, report)
	}
	if err == nil {
		root := "/"
		if strings.HasPrefix(word, "R") {
			root = newRoot
		}
		err = s.mountShares(root)
	}
	if err != nil {
		return "", err
	}
	if err := s.tell(pid1.Pipe, word); err != nil {
		return "", err
	}
	if kind == InitMinimal {
		s.minimal.Store(true)
		// It stays where it is now. A userland is another root than the initramfs.
		_, err = s.follow()
	}
	return kind, err
}

// prepareMinimal sets up the system for the minimal init.
func (s *System) prepareMinimal(files *files, report func(error)) error {
	if err := minimal(); err != nil {
		report(err)
	}
	if err := s.modprobe(); err != nil {
		report(err)
	}
	err := files.write()
	if e := setHostname(); e != nil {
		report(e)
	}
	return err
}

// tell sends PID 1 its word and waits until it has closed the pipe, which it
// does when it executes an init, or starts being one.
func (s *System) tell(pipe int, word string) error {
	defer unix.Close(pipe)
	if _, err := unix.Write(pipe, []byte(word)); err != nil {
		return fmt.Errorf("hand over to init: %w", err)
	}
	fds := []unix.PollFd{{Fd: int32(pipe)}}
	if err := sys.Retry(func() error {
		_, err := unix.Poll(fds, -1)
		return err
	}); err != nil {
		return fmt.Errorf("hand over to init: %w", err)
	}
	return nil
}

func runnable(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
}

// isProgram reports whether a file is the program that this process executes, or a copy
// of it. A signature may follow either.
func (s *System) isProgram(path string) bool {
	own, err := unix.Openat(s.proc, "self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	a := os.NewFile(uintptr(own), "self/exe")
	defer a.Close()
	b, err := os.Open(path)
	if err != nil {
		return false
	}
	defer b.Close()
	p, q := make([]byte, 64<<10), make([]byte, 64<<10)
	for same := int64(0); ; {
		n, _ := io.ReadFull(a, p)
		m, _ := io.ReadFull(b, q)
		k := min(n, m)
		if !bytes.Equal(p[:k], q[:k]) {
			return false
		}
		if same += int64(k); k < len(p) {
			return same > int64(len(p)) // the shorter one has ended
		}
	}
}

// cmdline is what of the kernel's command line concerns the first program and the root
// device.
type cmdline struct {
	rdinit, root, init, fstype, options string
	readOnly, rootwait                  bool
}

// rootWord is the word with which PID 1 executes the init of the new root.
func (c *cmdline) rootWord() string {
	init := c.init
	if init == "" {
		init = "/sbin/init"
	}
	return "R" + newRoot + "\x00" + init + "\x00"
}

func parseCmdline(text string) cmdline {
	c := cmdline{rdinit: imageInit, readOnly: true}
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "rdinit":
			c.rdinit = value
		case "root":
			c.root = value
		case "init":
			c.init = value
		case "rootfstype":
			c.fstype = value
		case "rootflags":
			c.options = value
		case "ro":
			c.readOnly = true
		case "rw":
			c.readOnly = false
		case "rootwait":
			c.rootwait = value == ""
		case "--":
			return c // the rest is init's
		}
	}
	return c
}

// prepareRoot mounts the root device and writes the boot files to it. The
// agent is back in the initramfs afterwards, where it follows PID 1 from.
func (s *System) prepareRoot(c cmdline, files *files, report func(error)) error {
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	device, err := s.awaitRoot(c.root, c.rootwait, report)
	if err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	readOnly := c.readOnly && len(files.list) == 0
	if err := s.mountRoot(device, c, readOnly); err != nil {
		return fmt.Errorf("mount root %s: %w", c.root, err)
	}
	if len(files.list) > 0 {
		if err := s.inRoot(newRoot, files.write); err != nil {
			return err
		}
		if c.readOnly {
			if err := unix.Mount("", newRoot, "", unix.MS_REMOUNT|unix.MS_RDONLY, c.options); err != nil {
				return fmt.Errorf("mount root %s read-only: %w", c.root, err)
			}
		}
	}
	return mountDev(c.root)
}

// mountDev mounts /dev of the new root: most inits expect the kernel to have done that.
func mountDev(root string) error {
	err := unix.Mount("devtmpfs", newRoot+"/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755")
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("mount %s/dev: %w", root, err)
	}
	return nil
}

// inRoot calls fn with dir as the root directory.
func (s *System) inRoot(dir string, fn func() error) (err error) {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := enter(fd); err != nil {
		return err
	}
	return errors.Join(fn(), enter(old))
}

// mountRoot tries the file systems the kernel knows, as the kernel itself
// would.
func (s *System) mountRoot(device string, c cmdline, readOnly bool) error {
	types := []string{c.fstype}
	if c.fstype == "" {
		text, err := readAll(s.proc, "filesystems")
		if err != nil {
			return err
		}
		types = types[:0]
		for line := range strings.SplitSeq(text, "\n") {
			if name, ok := strings.CutPrefix(line, "\t"); ok {
				types = append(types, name)
			}
		}
	}
	var flags uintptr
	if readOnly {
		flags = unix.MS_RDONLY
	}
	var err error = unix.ENODEV
	for _, t := range types {
		e := unix.Mount(device, newRoot, t, flags, c.options)
		if e == nil {
			return nil
		}
		if e != unix.EINVAL || err == unix.ENODEV {
			err = e
		}
	}
	return fmt.Errorf("none of the file systems %s fits: %w", strings.Join(types, ", "), err)
}

package boot

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// userland is what the host says about the root file system that the guest shall have.
type userland struct {
	serial string // of the disk that has it
	init   bool   // its /sbin/init is the guest's init
	kind   string // its file system; "" is EROFS, and of others the guest looks whether there is an init

	commands Commands
}

// Commands are what the commands of a userland have unless the host says something else.
type Commands struct {
	Env  []string
	Dir  string
	User string
}

// Commands returns what the userland says about commands. It must be called after Prepare.
func (s *System) Commands() Commands { return s.commands }

// readUserland reads what the host says in the initramfs; ok is false if the guest has no
// userland but the initramfs.
func readUserland() (u userland, ok bool) {
	text, err := readAll(unix.AT_FDCWD, userlandFile)
	if err != nil {
		return u, false
	}
	return parseUserland(text)
}

// parseUserland understands lines of a word and a quoted text, after one with the serial number
// of the disk. Other lines are of a later version.
func parseUserland(text string) (u userland, ok bool) {
	first, rest, _ := strings.Cut(text, "\n")
	word := strings.Fields(first)
	if len(word) == 0 {
		return u, false
	}
	u.serial, u.init = word[0], len(word) > 1 && word[1] == "init"
	for line := range strings.SplitSeq(rest, "\n") {
		word, quoted, _ := strings.Cut(line, " ")
		value, err := strconv.Unquote(quoted)
		if err != nil {
			continue
		}
		switch word {
		case "env":
			if strings.IndexByte(value, '=') > 0 {
				u.commands.Env = append(u.commands.Env, value)
			}
		case "filesystem":
			u.kind = value
		case "workdir":
			u.commands.Dir = value
		case "user":
			u.commands.User = value
		}
	}
	return u, true
}

// enterUserland mounts the userland as the new root, with a file system in memory on top
// that takes all changes. It returns what PID 1 becomes, and the word for it: the init that
// the command line names, the userland's own, or the minimal one.
func (s *System) enterUserland(u userland, c cmdline, files *files, report func(error)) (Init, string, error) {
	fail := func(err error) (Init, string, error) { return "", "", fmt.Errorf("userland: %w", err) }
	match := func(p map[string]string) bool { return p[serialProperty] == u.serial }
	device, err := s.awaitBlockDevice("disk "+u.serial, match, false, report)
	if err != nil {
		return fail(err)
	}
	if err := s.readAhead(device); err != nil {
		report(err)
	}
	if err := mountUserland(device, u.kind); err != nil {
		return fail(err)
	}
	if s.commands = u.commands; u.commands.Dir != "" {
		// As container engines do. A failure shows in the first command.
		_ = s.inRoot(newRoot, func() error { return os.MkdirAll(u.commands.Dir, 0o755) })
	}
	if u.kind != "" {
		u.init = s.inRoot(newRoot, func() error { _, err := os.Lstat("/sbin/init"); return err }) == nil
	}
	if !u.init && c.init == "" {
		err := s.inRoot(newRoot, func() error { return s.prepareMinimal(files, report) })
		return InitMinimal, "R" + newRoot + "\x00\x00", err
	}
	if err := s.inRoot(newRoot, files.write); err != nil {
		return fail(err)
	}
	return InitImage, c.rootWord(), mountDev("the userland")
}

// readAheadKiB is how much of a file of the userland is read at once. Each request of an
// emulated guest costs 3 ms, whatever its size; a first `python3 -c 1` makes 60 of 120.
const readAheadKiB = 512

// readAhead makes the pieces larger that the kernel reads from a device. It must be called before files
// are opened.
func (s *System) readAhead(device string) error {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Errorf("read-ahead of %s: %w", device, err)
	}
	name := fmt.Sprintf("dev/block/%d:%d/queue/read_ahead_kb", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	fd, err := unix.Openat(s.sys, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read-ahead of %s: %w", device, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, strconv.AppendInt(nil, readAheadKiB, 10)); err != nil {
		return fmt.Errorf("read-ahead of %s: %w", device, err)
	}
	return nil
}

// unrecovered are the options with which a file system is mounted that was not unmounted, without writing to it.
var unrecovered = map[string]string{"ext4": "noload", "xfs": "norecovery,nouuid", "btrfs": "rescue=nologreplay"}

// mountUserland mounts a device with an overlay in memory. kind is its file system; "" is EROFS.
func mountUserland(device, kind string) error {
	if kind == "" {
		kind = "erofs"
	}
	const lower, upper, work = dir + "/lower", dir + "/upper/files", dir + "/upper/work"
	for _, d := range []string{lower, dir + "/upper", newRoot} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(device, lower, kind, unix.MS_RDONLY, unrecovered[kind]); err != nil {
		return fmt.Errorf("mount its disk: %w", err)
	}
	if err := unix.Mount("userland", dir+"/upper", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("userland", newRoot, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	return nil
}

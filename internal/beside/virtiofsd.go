package beside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"provium/internal/machine"
	"provium/internal/tail"
)

// virtiofsds are where distributions have the program: that of its own project, and that of QEMU up to version 7.
var virtiofsds = []string{
	"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd", "/usr/local/bin/virtiofsd", ofQEMU,
}

const ofQEMU = "/usr/lib/qemu/virtiofsd"

// ErrNoVirtiofsd is returned where the program is not installed.
var ErrNoVirtiofsd = errors.New("rw: virtiofsd is not installed: Debian 13, Ubuntu 24.04 and Fedora have it in the " +
	"package `virtiofsd`, Debian 12 in `qemu-system-common`")

// FindVirtiofsd returns the path of the program on a host with these files.
func FindVirtiofsd(root fs.FS) (string, error) {
	for _, path := range virtiofsds {
		info, err := fs.Stat(root, strings.TrimPrefix(path, "/"))
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", ErrNoVirtiofsd
}

// said is how much of a program's output is kept, in bytes.
const said = 4 << 10

// share serves a directory on a socket.
func (p *Programs) share(s Starter, path, socket string, share machine.Share) error {
	if err := checkDirectory(share.Host); err != nil {
		return err
	}
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	directory, err := os.OpenFile(share.Host, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer directory.Close()
	one := &program{what: "virtiofsd of `" + share.Host + "`", socket: socket, said: &tail.Buffer{Limit: said},
		done: make(chan struct{})}
	cmd := exec.Command(path, virtiofsdArgs(path)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = one.said, one.said, []*os.File{listener, directory}
	if one.process, err = s.Serve(cmd); err != nil {
		return err
	}
	p.add(one)
	return nil
}

// directoryPath is the directory that a program inherits as file 4: its path has no letters that mean something in an
// option.
const directoryPath = "/proc/self/fd/4/."

// virtiofsdArgs returns the arguments of a program that serves directoryPath to whom connects to the socket that it
// inherits as file 3. It leaves all other directories. Devices cannot be made: they would be the host's.
func virtiofsdArgs(path string) []string {
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	files := fmt.Sprintf("--rlimit-nofile=%d", limit.Max)
	if path == ofQEMU {
		return []string{"-f", "--fd=3", files, "-o",
			"source=" + directoryPath + ",sandbox=chroot,cache=auto,modcaps=-mknod,log_level=warn"}
	}
	return []string{"--fd=3", files, "--shared-dir=" + directoryPath, "--sandbox=chroot", "--cache=auto",
		"--modcaps=-mknod",
		"--log-level=warn"}
}

// shareAt is the place of the shares on the root bus: functions of the device that is the last NIC's of a boot.
const shareAt = 0x19

func shareArgs(dir, rootBus string, shares []machine.Share) (args []string) {
	for i := range shares {
		tag := machine.Tag(i)
		device := fmt.Sprintf("vhost-user-fs-pci,id=%s,chardev=%s,tag=%s", tag, tag, tag)
		if rootBus != "" {
			device += fmt.Sprintf(",bus=%s,addr=%02x.%x,multifunction=on", rootBus, shareAt, i)
		}
		path := strings.ReplaceAll(filepath.Join(dir, tag), ",", ",,")
		args = append(args, "-chardev", "socket,id="+tag+",path="+path, "-device", device)
	}
	return args
}

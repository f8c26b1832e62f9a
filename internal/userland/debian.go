package userland

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Runner runs a program of the host to its end. env is added to the caller's own environment,
// dir is the working directory. It must be safe for concurrent use.
type Runner interface {
	Run(ctx context.Context, dir string, env []string, name string, args ...string) (stdout, stderr []byte, err error)
}

// BootstrapProgram makes Debian systems; it is in the package of the same name.
const BootstrapProgram = "mmdebstrap"

// debianSuite matches the names of Debian's releases.
var debianSuite = regexp.MustCompile(`^[a-z][a-z-]{1,30}$`)

// debianPackages are in a Debian beside what is essential: systemd as init, and what people
// expect on a machine with a network.
const debianPackages = "systemd-sysv,udev,dbus,kmod,procps,iproute2,iputils-ping,netbase"

// debianHooks are the last steps inside a new Debian: it is no copy of the host's name, and root
// may log in on the console.
var debianHooks = []string{
	`echo provium >"$1/etc/hostname"`,
	`printf '127.0.0.1\tlocalhost provium\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$1/etc/hosts"`,
	`: >"$1/etc/resolv.conf"`,
	`chroot "$1" passwd -d root >/dev/null`,
}

// ofDebian returns the tree of a Debian release. It is made once a month: with the updates of
// that time, by whoever needs it first.
func (m *Maker) ofDebian(ctx context.Context, s Source) (*tree, error) {
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	key := fmt.Sprintf("debian-%s-%s", s.Ref, now().UTC().Format("2006-01"))
	dir, err := m.Cache.Make(ctx, KindArchive, key, func(dir string) error {
		return m.bootstrap(ctx, s.Ref, dir)
	})
	if err != nil {
		return nil, err
	}
	return ofArchive(ctx, filepath.Join(dir, archiveFile))
}

// bootstrap writes a tar file of a Debian release into a directory. It needs no privileges
// where users may have namespaces of their own.
func (m *Maker) bootstrap(ctx context.Context, suite, dir string) error {
	if m.Runner == nil {
		return errors.New("it is not in the cache, and downloads are switched off")
	}
	if m.Notice != nil {
		m.Notice(fmt.Sprintf("making Debian %s with %s, once a month: this takes a minute or two", suite,
			BootstrapProgram))
	}
	args := []string{"--variant=minbase", "--format=tar", "--include=" + debianPackages}
	for _, hook := range debianHooks {
		args = append(args, "--customize-hook="+hook)
	}
	args = append(args, suite, filepath.Join(dir, archiveFile))
	_, stderr, err := m.Runner.Run(ctx, dir, []string{"LC_ALL=C"}, BootstrapProgram, args...)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s, which makes it, is not installed (package %s)", BootstrapProgram, BootstrapProgram)
	}
	return programError(BootstrapProgram, err, lastErrors(stderr))
}

// programError says why a program has failed, with its name once, and what it said.
func programError(program string, err error, said string) error {
	err, said = reason(err), strings.ReplaceAll(said, ": "+program+": ", ": ")
	if strings.HasPrefix(err.Error(), program+": ") {
		return fmt.Errorf("%w%s", err, said)
	}
	return fmt.Errorf("%s: %w%s", program, err, said)
}

// shownErrors is how many lines of a program that has failed are shown.
const shownErrors = 4

// lastErrors returns the last lines of a program that say what is wrong.
func lastErrors(stderr []byte) string {
	var lines []string
	for line := range bytes.Lines(stderr) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "E:") || strings.HasPrefix(text, "Err:") {
			lines = append(lines, text)
		}
	}
	lines = lines[max(0, len(lines)-shownErrors):]
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, "; ")
}

// Package apt gets the distribution's kernel package with the package manager, which
// needs no privileges for that.
//
// It decides neither whether a kernel is downloaded nor where it is kept. Start reading
// at Fetch.
package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"provium/internal/arch"
)

// What is fetched.
const (
	Kernel  = "kernel"         // the kernel's package; of another architecture, with busybox
	Busybox = "busybox-static" // that package alone
)

// Want says which packages are wanted.
type Want struct {
	Arch    *arch.Arch
	Foreign bool   // Arch is not the architecture that the package manager is set up for
	What    string // Kernel or Busybox
	Suite   string // of Debian, which has them; "" is the one that the package manager is set up for
}

// hasLists reports whether the package lists are not those of this machine.
func (w *Want) hasLists() bool { return w.Foreign || w.Suite != "" }

// kernelPackage matches the packages that hold a kernel and its modules.
var kernelPackage = regexp.MustCompile(`^linux-(image|modules)-[0-9][A-Za-z0-9.+~_-]*$`)

// packageError is returned when a program of the package manager fails.
type packageError struct {
	command string
	err     error
	output  string // on stderr
}

func (e *packageError) Error() string {
	text := fmt.Sprintf("`%s`: %v", e.command, e.err)
	var lines []string
	for _, l := range strings.Split(e.output, "\n") {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "E:") {
			lines = append(lines, l)
		}
	}
	if len(lines) > 0 {
		text += ": " + lines[0]
	}
	return text
}

func (e *packageError) Unwrap() error { return e.err }

// Runner runs a program of the host to its end. env is added to the caller's own
// environment, dir is the working directory. It must be safe for concurrent use.
type Runner interface {
	Run(ctx context.Context, dir string, env []string, name string, args ...string) (stdout, stderr []byte, err error)
}

// Fetch downloads packages, such as the distribution's kernel with its modules, and unpacks them
// into root, which it makes. It returns the name of the first package. tmp is a directory for
// other files; what is left in it of a download that failed or was stopped is continued by
// the next one. notice is called with a line of text before what takes long, progress with
// each step of the download.
func Fetch(ctx context.Context, run Runner, want Want, tmp, root string, notice func(text string),
	progress func(Progress)) (name string, err error) {
	a := &apt{run: run, want: want, dir: tmp, notice: notice, progress: progress}
	// It tries three times, and would wait for up to half a minute between them.
	a.options = append(a.options, "-o", "Acquire::Retries::Delay::Maximum=2")
	if os.Geteuid() == 0 {
		// Else apt warns that its own user cannot write to our directory.
		a.options = append(a.options, "-o", "APT::Sandbox::User=root")
	}
	defer a.removeLists()
	if want.hasLists() {
		notice("fetching Debian's package lists of " + strings.TrimSpace(want.Suite+" "+want.Arch.Name))
		if err := a.useLists(ctx); err != nil {
			return "", err
		}
	}
	packages, err := a.download(ctx)
	if err != nil && !want.hasLists() && ctx.Err() == nil && !isOffline(err) {
		// The lists may be missing, as in containers, or name packages that the
		// archive has replaced. Lists in a directory of ours need no privileges.
		notice("fetching package lists for a kernel to boot")
		first, outdated := err, a.usePrivateLists(ctx)
		if packages, err = a.download(ctx); err != nil && outdated != nil {
			err = first
			var unknown *packageError
			if errors.As(first, &unknown) && strings.HasPrefix(unknown.command, "apt-cache") {
				err = outdated // which is why
			}
		}
	}
	if err != nil {
		return "", err
	}
	return packages[0], a.unpack(ctx, root)
}

// isOffline reports whether a program could not reach any server, so that no other request
// would.
func isOffline(err error) bool {
	var failed *packageError
	if !errors.As(err, &failed) {
		return false
	}
	for _, text := range []string{"Temporary failure resolving", "Network is unreachable"} {
		if strings.Contains(failed.output, text) {
			return true
		}
	}
	return false
}

// download downloads the packages of the first kernel that is available and returns
// their names, the kernel's first.
func (a *apt) download(ctx context.Context) ([]string, error) {
	if a.want.What == Busybox {
		return a.downloadNamed(ctx, []string{Busybox})
	}
	var failures error
	for _, meta := range a.want.Arch.Kernels {
		packages, err := a.kernelPackages(ctx, meta)
		if err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		if len(packages) == 0 {
			continue
		}
		if a.want.Foreign {
			return a.downloadNamed(ctx, append(packages, Busybox))
		}
		why := " (no usable kernel on this host)"
		if a.want.Suite != "" {
			why = " of Debian's " + a.want.Suite
		}
		a.notice("downloading the kernel package " + packages[0] + why)
		a.debs, err = a.get(ctx, packages)
		return packages, err
	}
	if failures == nil {
		failures = errors.New("no kernel package known to the package manager")
	}
	return nil, firstError(failures)
}

// downloadNamed downloads packages of another architecture.
func (a *apt) downloadNamed(ctx context.Context, packages []string) (_ []string, err error) {
	a.notice("downloading " + strings.Join(packages, " and ") + " of " + a.want.Arch.Name)
	a.debs, err = a.get(ctx, packages)
	return packages, err
}

// firstError returns the first of joined errors, which are similar.
func firstError(err error) error {
	var list interface{ Unwrap() []error }
	for errors.As(err, &list) && len(list.Unwrap()) > 0 {
		err = list.Unwrap()[0]
	}
	return err
}

// apt runs the package manager's programs.
type apt struct {
	run     Runner
	want    Want
	dir     string
	options []string // for all programs but dpkg-deb
	debs    []string // paths of the downloaded packages
	notice  func(text string)

	progress func(Progress)
}

// apt runs a program with the options.
func (a *apt) apt(ctx context.Context, name string, args ...string) (string, error) {
	return a.do(ctx, name, append(slices.Clone(a.options), args...)...)
}

// do runs a program and returns its output.
func (a *apt) do(ctx context.Context, name string, args ...string) (string, error) {
	stdout, stderr, err := a.start(ctx, name, args...)
	if err != nil {
		words := []string{name}
		for i := 0; i < len(args); i++ {
			if args[i] == "-o" {
				i++
				continue
			}
			words = append(words, args[i])
		}
		return "", &packageError{strings.Join(words, " "), reason(err), string(stderr)}
	}
	return string(stdout), nil
}

// reason returns how a program ended, without its name.
func reason(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// output runs a program with the options and returns all that it has printed, also after an
// error.
func (a *apt) output(ctx context.Context, name string, args ...string) (string, error) {
	args = append(slices.Clone(a.options), args...)
	stdout, stderr, err := a.start(ctx, name, args...)
	if err != nil {
		err = &packageError{filepath.Base(name), reason(err), string(stderr)}
	}
	return string(stdout) + "\n" + string(stderr), err
}

func (a *apt) start(ctx context.Context, name string, args ...string) (stdout, stderr []byte, err error) {
	return a.run.Run(ctx, a.dir, []string{"LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}, name, args...)
}

// kernelPackages follows a meta package to the concrete ones.
func (a *apt) kernelPackages(ctx context.Context, meta string) ([]string, error) {
	var out []string
	todo := []string{meta}
	for len(todo) > 0 && len(out) < 8 {
		text, err := a.apt(ctx, "apt-cache", "depends", todo[0])
		if err != nil {
			return nil, err
		}
		for _, p := range parseDepends(text) {
			if kernelPackage.MatchString(p) && !strings.Contains(p, "-extra-") && !slices.Contains(out, p) {
				out = append(out, p)
				todo = append(todo, p)
			}
		}
		todo = todo[1:]
	}
	return out, nil
}

// parseDepends returns the packages that `apt-cache depends` lists as needed.
func parseDepends(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "|")
		for _, kind := range []string{"Depends: ", "PreDepends: "} {
			if name, ok := strings.CutPrefix(line, kind); ok {
				name, _, _ = strings.Cut(name, ":")
				if name = strings.TrimSpace(name); name != "" {
					out = append(out, name)
				}
			}
		}
	}
	return out
}

// usePrivateLists fetches package lists into the temporary directory, for all later
// calls. After an error there may be lists all the same, from other servers.
func (a *apt) usePrivateLists(ctx context.Context) error {
	lists, cache := a.lists()
	for _, d := range []string{filepath.Join(lists, "partial"), filepath.Join(cache, "archives", "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make image cache: %w", err)
		}
	}
	a.options = append(a.options, "-o", "Dir::State::lists="+lists, "-o", "Dir::Cache="+cache)
	_, err := a.apt(ctx, "apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
	return err
}

// lists returns the directories of private package lists.
func (a *apt) lists() (lists, cache string) {
	return filepath.Join(a.dir, "lists"), filepath.Join(a.dir, "cache")
}

// removeLists removes private package lists, which will be outdated.
func (a *apt) removeLists() {
	lists, cache := a.lists()
	_, _ = os.RemoveAll(lists), os.RemoveAll(cache) // the next sweep of the cache tries again
}

// unpack extracts the downloaded packages into root. All files are readable then,
// whatever their modes (Ubuntu's kernels are 0600), since they are ours.
func (a *apt) unpack(ctx context.Context, root string) error {
	if len(a.debs) == 0 {
		return errors.New("the package manager has left no package file")
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return fmt.Errorf("make image cache: %w", err)
	}
	for _, deb := range a.debs {
		if _, err := a.do(ctx, "dpkg-deb", "-x", deb, root); err != nil {
			return err
		}
	}
	return nil
}

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// metaPackages depend on the newest kernel of a distribution: Debian's cloud
// kernel, Ubuntu's for virtual machines, and the general ones.
var metaPackages = [...]string{"linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64", "linux-image-generic"}

// kernelPackage matches the packages that hold a kernel and its modules.
var kernelPackage = regexp.MustCompile(`^linux-(image|modules)-[0-9][A-Za-z0-9.+~_-]*$`)

// packageError is a failure of the package manager.
type packageError struct {
	command string
	err     error
	// output is what it printed on stderr.
	output string
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

const packageRoot = "root" // the unpacked tree, in an entry of kindKernel

// downloaded returns the roots of the kernel packages in the cache, the newest
// first.
func (s *Store) downloaded() []string {
	items, err := os.ReadDir(s.path(kindKernel))
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range items {
		if !strings.HasPrefix(i.Name(), ".") {
			names = append(names, i.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return compareReleases(b, a) })
	for i := range names {
		names[i] = s.path(kindKernel, names[i], packageRoot)
	}
	return names
}

// download gets the distribution's kernel package with the package manager,
// which needs no privileges for that, and unpacks it into the cache.
func (s *Store) download(ctx context.Context) error {
	if s.cfg.Runner == nil {
		return errors.New("downloads are switched off")
	}
	unlock, err := s.lock(ctx, kindKernel)
	if err != nil {
		return err
	}
	defer unlock()
	if len(s.downloaded()) > 0 {
		return nil // another process did it meanwhile
	}
	if err := os.MkdirAll(s.path(kindKernel), 0o755); err != nil {
		return fmt.Errorf("make image cache: %w", err)
	}
	tmp, err := os.MkdirTemp(s.path(kindKernel), ".get-")
	if err != nil {
		return fmt.Errorf("make image cache: %w", err)
	}
	defer os.RemoveAll(tmp)

	a := &apt{run: s.cfg.Runner, dir: tmp}
	if os.Geteuid() == 0 {
		// Else apt warns that its own user cannot write to our directory.
		a.options = append(a.options, "-o", "APT::Sandbox::User=root")
	}
	packages, err := s.get(ctx, a)
	if err != nil && ctx.Err() == nil {
		// The lists may be missing, as in containers, or name packages that the
		// archive has replaced meanwhile. Lists of our own need no privileges.
		s.cfg.Notice("fetching package lists for a kernel to boot")
		if uerr := a.usePrivateLists(ctx); uerr != nil {
			return errors.Join(err, uerr)
		}
		packages, err = s.get(ctx, a)
	}
	if err != nil {
		return err
	}
	root := filepath.Join(tmp, packageRoot)
	if err := a.unpack(ctx, root); err != nil {
		return err
	}
	return s.install(kindKernel, packages[0], func(entry string) error {
		if err := os.Mkdir(entry, 0o755); err != nil {
			return err
		}
		now := time.Now()
		if err := os.Chtimes(entry, now, now); err != nil {
			return err
		}
		return os.Rename(root, filepath.Join(entry, packageRoot))
	})
}

// get downloads the packages of the first kernel there is and returns their
// names, the kernel's first.
func (s *Store) get(ctx context.Context, a *apt) ([]string, error) {
	var failures error
	for _, meta := range metaPackages {
		packages, err := a.kernelPackages(ctx, meta)
		if err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		if len(packages) == 0 {
			continue
		}
		s.cfg.Notice("downloading the kernel package " + packages[0] + " (no usable kernel on this host)")
		_, err = a.apt(ctx, "apt-get", append([]string{"-q", "download"}, packages...)...)
		return packages, err
	}
	if failures == nil {
		failures = errors.New("no kernel package known to the package manager")
	}
	return nil, firstError(failures)
}

// firstError keeps a list of similar failures from filling the screen.
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
	dir     string
	options []string
}

func (a *apt) apt(ctx context.Context, name string, args ...string) (string, error) {
	return a.do(ctx, name, append(slices.Clone(a.options), args...)...)
}

func (a *apt) do(ctx context.Context, name string, args ...string) (string, error) {
	stdout, stderr, err := a.run.Run(ctx, a.dir, []string{"LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}, name, args...)
	if err != nil {
		words := []string{name}
		for i := 0; i < len(args); i++ {
			if args[i] == "-o" {
				i++
				continue
			}
			words = append(words, args[i])
		}
		return "", &packageError{strings.Join(words, " "), err, string(stderr)}
	}
	return string(stdout), nil
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

// parseDepends reads the packages that `apt-cache depends` names as needed.
func parseDepends(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "|")
		for _, kind := range []string{"Depends: ", "PreDepends: "} {
			if name, ok := strings.CutPrefix(line, kind); ok {
				name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
				out = append(out, name)
			}
		}
	}
	return out
}

// usePrivateLists fetches package lists into the temporary directory and makes
// all further calls use them.
func (a *apt) usePrivateLists(ctx context.Context) error {
	lists, cache := filepath.Join(a.dir, "lists"), filepath.Join(a.dir, "cache")
	for _, d := range []string{filepath.Join(lists, "partial"), filepath.Join(cache, "archives", "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make image cache: %w", err)
		}
	}
	a.options = append(a.options, "-o", "Dir::State::lists="+lists, "-o", "Dir::Cache="+cache)
	_, err := a.apt(ctx, "apt-get", "-q", "update")
	return err
}

// unpack extracts the downloaded packages into root. The files belong to us then,
// whatever their modes (Ubuntu's kernels are 0600).
func (a *apt) unpack(ctx context.Context, root string) error {
	debs, err := filepath.Glob(filepath.Join(globQuote(a.dir), "*.deb"))
	if err != nil {
		return fmt.Errorf("find downloaded packages: %w", err)
	}
	if len(debs) == 0 {
		return errors.New("the package manager has left no package file")
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return fmt.Errorf("make image cache: %w", err)
	}
	for _, deb := range debs {
		if _, err := a.do(ctx, "dpkg-deb", "-x", deb, root); err != nil {
			return err
		}
	}
	return nil
}

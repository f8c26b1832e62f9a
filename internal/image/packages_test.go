package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"provium/internal/image/apt"
)

// fakeApt stands in for the package manager.
type fakeApt struct {
	t       *testing.T
	depends map[string]string // of packages
	stale   bool              // the package lists are of no use until updated
	offline bool

	mu      sync.Mutex
	updated bool
	ran     []string
}

func (a *fakeApt) Run(_ context.Context, dir string, env []string, name string, args ...string) ([]byte, []byte,
	error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var words []string
	for i := 0; i < len(args); i++ {
		if args[i] == "-o" {
			i++
			continue
		}
		if args[i] != "-q" {
			words = append(words, args[i])
		}
	}
	command := strings.Join(append([]string{name}, words...), " ")
	a.ran = append(a.ran, command)
	fail := func(text string) ([]byte, []byte, error) {
		return nil, []byte("W: noise\n" + text), errors.New("exit status 100")
	}
	switch {
	case name == "apt-cache":
		text, ok := a.depends[words[1]]
		if !ok || a.stale && !a.updated {
			return fail("E: No packages found")
		}
		return []byte(text), nil, nil
	case command == "apt-get update":
		if a.offline {
			return fail("E: no network")
		}
		a.updated = true
		return nil, nil, nil
	case name == "apt-get" && words[0] == "--print-uris":
		return fail("E: an old version")
	case name == "apt-get":
		if a.offline {
			return fail("E: Failed to fetch")
		}
		for _, p := range words[1:] {
			put(a.t, []byte(p), dir, p+"_1_amd64.deb")
		}
		return nil, nil, nil
	case name == "dpkg-deb":
		pkg := filepath.Base(words[1])
		if strings.HasPrefix(pkg, "linux-image-") {
			release := strings.TrimSuffix(strings.TrimPrefix(pkg, "linux-image-"), "_1_amd64.deb")
			putKernel(a.t, words[2], release)
		}
		return nil, nil, nil
	}
	return nil, nil, fmt.Errorf("unexpected command %s", command)
}

func TestDownload(t *testing.T) {
	debian := map[string]string{
		"linux-image-cloud-amd64": "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n",
		"linux-image-6.1.0-56-cloud-amd64": "x\n  PreDepends: linux-base\n" +
			"  Depends: kmod\n |Depends: initramfs-tools\n",
	}
	ubuntu := map[string]string{
		"linux-image-virtual": "linux-image-virtual\n  Depends: linux-image-6.8.0-41-generic\n",
		"linux-image-6.8.0-41-generic": "x\n |Depends: linux-modules-extra-6.8.0-41-generic\n" +
			"  Depends: linux-modules-6.8.0-41-generic\n",
		"linux-modules-6.8.0-41-generic": "x\n",
	}
	for _, c := range []struct {
		name    string
		apt     *fakeApt
		release string
		ran     string
	}{
		{"debian", &fakeApt{depends: debian}, "6.1.0-56-cloud-amd64",
			"apt-get download linux-image-6.1.0-56-cloud-amd64"},
		{"ubuntu", &fakeApt{depends: ubuntu}, "6.8.0-41-generic",
			"apt-get download linux-image-6.8.0-41-generic linux-modules-6.8.0-41-generic"},
		{"no lists", &fakeApt{depends: debian, stale: true}, "6.1.0-56-cloud-amd64", "apt-get update"},
	} {
		apt := c.apt
		apt.t = t
		var notices []string
		var steps []Download
		s := testStore(t, func(cfg *Config) {
			cfg.Runner = apt
			cfg.Notice = func(text string) { notices = append(notices, text) }
			cfg.Download = func(d Download) { steps = append(steps, d) }
		})
		img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if img.Origin != Downloaded || img.Release != c.release || img.ModulesDir == "" {
			t.Errorf("%s: %+v", c.name, img)
		}
		if all := strings.Join(apt.ran, "\n"); !strings.Contains(all, c.ran) {
			t.Errorf("%s: ran\n%s", c.name, all)
		}
		if all := strings.Join(notices, "\n"); !strings.Contains(all, "downloading the kernel package linux-image-"+
			c.release) {
			t.Errorf("%s: notices %q", c.name, all)
		}
		name := "linux-image-" + c.release
		if last := len(steps) - 1; last < 1 || steps[0] != (Download{What: name, Began: true}) ||
			steps[last].What != name || !steps[last].Ended || steps[last].Err != nil || steps[last].Done == 0 {
			t.Errorf("%s: progress %+v", c.name, steps)
		}
		// The second time nothing is asked.
		n := len(apt.ran)
		if _, err := s.Resolve(t.Context(), Spec{Profile: "p"}); err != nil || len(apt.ran) != n {
			t.Errorf("%s again: %v, ran %v", c.name, err, apt.ran[n:])
		}
		if entries, err := os.ReadDir(s.cache.Path(kindKernel)); err != nil || len(entries) != 1 {
			t.Errorf("%s: %v, %v", c.name, entries, err)
		}
	}
}

func TestDownloadFails(t *testing.T) {
	for _, c := range []struct {
		name string
		run  apt.Runner
		want string
	}{
		{"offline", &fakeApt{t: t, offline: true}, "E: no network"},
		{"no package manager", nil, "downloads are switched off"},
	} {
		s := testStore(t, func(cfg *Config) { cfg.Runner = c.run })
		_, err := s.Resolve(t.Context(), Spec{Profile: "p"})
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range []string{c.want, "profile `p`: no kernel to boot", "--kernel PATH", "apt-get update"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
	}
}

// TestPackageIsLookedAtOnce resolves an image from a downloaded package again and again: its
// files are looked at once, and those that are used each time.
func TestPackageIsLookedAtOnce(t *testing.T) {
	debian := map[string]string{"linux-image-cloud-amd64": "x\n  Depends: linux-image-6.1-cloud-amd64\n",
		"linux-image-6.1-cloud-amd64": "x\n"}
	var warnings []string
	s := testStore(t, func(c *Config) {
		c.Runner = &fakeApt{t: t, depends: debian}
		c.Notice = func(text string) {
			if strings.Contains(text, "damaged") {
				warnings = append(warnings, text)
			}
		}
	})
	resolve := func() *Image {
		t.Helper()
		img, err := s.Resolve(t.Context(), Spec{Profile: "p"})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img := resolve()
	// What is not used may change unnoticed, in this process.
	unused := filepath.Join(img.ModulesDir, "kernel/dummy.ko")
	if err := os.WriteFile(unused, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := resolve(); again.Key != img.Key || len(warnings) > 0 {
		t.Errorf("%+v, %q", again, warnings)
	}
	// A store that goes on where that one is has the same memory, and tells its own user.
	first, said := s, ""
	s = testStore(t, func(c *Config) {
		*c = first.cfg
		c.Notice = func(text string) { said += text }
	})
	s.Continue(first)
	if again := resolve(); again.Key != img.Key || len(warnings) > 0 {
		t.Errorf("%+v, %q", again, warnings)
	}
	s.noticeOnce("news")
	first.noticeOnce("news")
	if said != "news" {
		t.Errorf("said: %q", said)
	}
	// A module that is used may not.
	module := img.Late[len(img.Late)-1].Path
	if err := os.Remove(module); err != nil {
		t.Fatal(err)
	}
	if again := resolve(); again.Key != img.Key || len(warnings) != 1 {
		t.Errorf("%+v, %q", again, warnings)
	}
	if text, err := os.ReadFile(unused); err != nil || string(text) == "changed" {
		t.Errorf("the package is not new: %v", err)
	}
	// Nor may an index appear that was not there.
	if err := os.WriteFile(filepath.Join(img.ModulesDir, "modules.dep"), []byte("x:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := resolve(); again.Key != img.Key || len(warnings) != 2 {
		t.Errorf("%+v, %q", again, warnings)
	}
}

// BenchmarkResolve resolves an image from a package of as many files as a distribution's has.
func BenchmarkResolve(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "cache")
	s := testStore(b, func(c *Config) { c.CacheDir = dir })
	_, err := s.cache.Install(b.Context(), kindKernel, func(dir string) (string, error) {
		root := filepath.Join(dir, packageRoot)
		putKernel(b, root, "6.1.0")
		for i := range 1200 {
			put(b, []byte("x"), root, "lib/modules/6.1.0/kernel", strconv.Itoa(i%200), strconv.Itoa(i)+".ko")
		}
		return "linux-image-6.1.0", nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Resolve(b.Context(), Spec{Profile: "p"}); err != nil {
			b.Fatal(err)
		}
	}
}

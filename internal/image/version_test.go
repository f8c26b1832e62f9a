package image

import (
	"context"
	"strings"
	"testing"
)

// debianOf is a package manager whose archive has one release of Debian.
type debianOf struct {
	*fakeApt
	archive string
}

func (d debianOf) Run(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, []byte,
	error) {
	for i, a := range args {
		if a == "indextargets" {
			d.ran = append(d.ran, strings.Join(args[i:], " "))
			return []byte(d.archive), nil, nil
		}
	}
	return d.fakeApt.Run(ctx, dir, env, name, args...)
}

// TestRelease chooses kernels by the beginning of their release: of the host, of the cache, or downloaded.
func TestRelease(t *testing.T) {
	apt := debianOf{&fakeApt{t: t, depends: map[string]string{
		"linux-image-cloud-amd64":              "x\n  Depends: linux-image-6.12.9+deb13-cloud-amd64\n",
		"linux-image-6.12.9+deb13-cloud-amd64": "x\n",
	}}, "http://deb.debian.org/debian bookworm\n"}
	var notices []string
	s := testStore(t, func(c *Config) {
		c.Runner, c.Notice = apt, func(text string) { notices = append(notices, text) }
	})
	for _, release := range []string{"6.1.0-9", "6.1.0-10", "6.15.2"} {
		putKernel(t, s.cfg.HostRoot, release)
	}
	of := func(release string) (*Image, error) {
		return s.Resolve(t.Context(), Spec{Profile: "p", Release: release})
	}
	for wanted, want := range map[string]string{"6.1": "6.1.0-10", "6.1.0-9": "6.1.0-9", "6.15": "6.15.2"} {
		img, err := of(wanted)
		if err != nil || img.Release != want || img.Origin != HostKernel || img.ModulesDir == "" {
			t.Errorf("%s: %+v, %v", wanted, img, err)
		}
	}
	if len(apt.ran) > 0 {
		t.Errorf("ran %q", apt.ran)
	}
	for range 2 {
		img, err := of("6.12")
		if err != nil || img.Release != "6.12.9+deb13-cloud-amd64" || img.Origin != Downloaded {
			t.Fatalf("%+v, %v", img, err)
		}
		if n := strings.Count(strings.Join(apt.ran, "\n"), "apt-get download"); n != 1 {
			t.Errorf("%d downloads: %q", n, apt.ran)
		}
	}
	if text := strings.Join(notices, "\n"); !strings.Contains(text, "package lists of trixie amd64") ||
		!strings.Contains(text, "of Debian's trixie") {
		t.Errorf("notices: %s", text)
	}
	// It does not take the place of what is chosen without a word.
	if img, err := s.Resolve(t.Context(), Spec{Profile: "p"}); err != nil || img.Release == "6.12.9+deb13-cloud-amd64" {
		t.Errorf("%+v, %v", img, err)
	}
	other := testStore(t, func(c *Config) { c.CacheDir = s.cfg.CacheDir })
	if img, err := other.Resolve(t.Context(), Spec{Profile: "p"}); err == nil {
		t.Errorf("on another host: %+v", img)
	}
	for wanted, want := range map[string]string{
		"6.13": "profile `p`: no kernel of the release 6.13 for amd64; on this machine: 6.1.0-10, 6.1.0-9, " +
			"6.12.9+deb13-cloud-amd64, 6.15.2; Debian's packages have 6.1 (bookworm), 6.12 (trixie); " +
			"`kernel` takes the path",
		"6.12.10": "no kernel of the release 6.12.10 for amd64, and Debian's trixie has another one",
	} {
		if _, err := of(wanted); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", wanted, err, want)
		}
	}
	apt.offline = true
	if _, err := of("6.1.99"); err == nil || !strings.Contains(err.Error(), "bookworm, which has one, could not") {
		t.Errorf("offline: %v", err)
	}
}

func TestIsOfRelease(t *testing.T) {
	for _, c := range []struct {
		release, wanted string
		want            bool
	}{{"6.1", "6.1", true}, {"6.1.0-9", "6.1", true}, {"6.12.1", "6.1", false}, {"6.1-rc3", "6.1", true},
		{"6.1.0-9", "6.1.0-9", true}, {"6.1.0-90", "6.1.0-9", false}, {"5.10", "6.1", false}, {"6.1", "6.1.0", false}} {
		if got := isOfRelease(c.release, c.wanted); got != c.want {
			t.Errorf("%s of %s: %v", c.release, c.wanted, got)
		}
	}
}

package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// noNetwork matches what is wrong with this machine's network or rights, not with the image.
var noNetwork = regexp.MustCompile(`resolv|[Cc]onnect|[Ff]ailed to fetch|[Tt]imed out|unshare|mount|keyring`)

// builder runs buildah with a storage of its own.
type builder struct {
	t       *testing.T
	options []string
}

func newBuilder(t *testing.T) *builder {
	dir := t.TempDir()
	b := &builder{t, []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}}
	t.Cleanup(func() {
		for _, what := range []string{"rm", "rmi"} {
			if out, err := b.command(what, "--all").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	})
	return b
}

func (b *builder) command(args ...string) *exec.Cmd {
	return exec.Command("buildah", append(b.options, args...)...)
}

func (b *builder) do(args ...string) string {
	b.t.Helper()
	cmd := b.command(args...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("buildah %q: %v: %s%s", args, err, out, errors.String())
	}
	return strings.TrimSpace(string(out))
}

// run runs a command in a new container of the image, with a copy of the examples as the project.
func (b *builder) run(user string, args ...string) string {
	b.t.Helper()
	project := b.t.TempDir()
	if out, err := exec.Command("cp", "-r", "../../examples/.", project).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	container := b.do("from", "--pull-never", "provium")
	return b.do(append([]string{"run", "--isolation", "chroot", "--user", user, "--env", "CI=1",
		"--volume", project + ":/project:ro", container, "provium"}, args...)...)
}

// base makes the image that the Dockerfile begins with, which comes from a registry elsewhere.
func (b *builder) base(from string) {
	b.t.Helper()
	tar := filepath.Join(b.t.TempDir(), "base.tar")
	out, err := exec.Command("mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "trixie", tar).
		CombinedOutput()
	if err != nil && noNetwork.Match(out) {
		b.t.Skipf("Debian 13 cannot be had: %s", out)
	}
	if err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	container := b.do("from", "scratch")
	b.do("add", container, tar, "/")
	b.do("commit", "--quiet", container, "docker.io/library/"+from)
}

// TestImage builds the image of the Dockerfile, and runs the examples in it as its page says: as root, and as a user
// that has no name in it.
func TestImage(t *testing.T) {
	if os.Getenv("PROVIUM_TEST_FULL") == "" {
		t.Skip("an image is built by make test-full")
	}
	for _, program := range []string{"buildah", "mmdebstrap"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("buildah makes containers without namespaces of users as root only")
	}
	from := regexp.MustCompile(`(?m)^FROM (\S+)$`).FindStringSubmatch(string(read(t, "Dockerfile")))
	if len(from) != 2 || from[1] != "debian:13-slim" {
		t.Fatalf("%q: this test stands Debian 13 in for its base", from)
	}
	b := newBuilder(t)
	b.base(from[1])
	b.do("bud", "--isolation", "chroot", "--pull-never", "--quiet", "-f", absolute(t, "../../deploy/Dockerfile"),
		"-t", "provium", absolute(t, "../.."))
	b.smallLayers()
	doctor := b.run("0", "doctor")
	for line := range strings.Lines(doctor) {
		state, rest, _ := strings.Cut(line, " ")
		what, _, _ := strings.Cut(strings.TrimSpace(rest), ":")
		// Whether there is KVM is the machine's matter. The page says how mmdebstrap is added.
		if state != "" && state != "ok" && what != "accelerator" && what != "Debian" && what != "page merging" &&
			what != "cpu pressure" && strings.Contains(line, ": ") {
			t.Errorf("the image is without something: %s", line)
		}
	}
	for _, user := range []string{"0", "12345"} {
		out := b.run(user)
		if !regexp.MustCompile(`\d+ file\(s\); \d\d passed, 0 failed`).MatchString(out) {
			t.Errorf("as user %s: %s", user, out)
		}
	}
}

// smallLayers checks the size of the image's layers as they are sent.
func (b *builder) smallLayers() {
	b.t.Helper()
	const limit = 140 << 20
	layout := filepath.Join(b.t.TempDir(), "image")
	b.do("push", "--quiet", "provium", "oci:"+layout)
	paths, err := filepath.Glob(layout + "/blobs/sha256/*")
	if err != nil || len(paths) < 3 {
		b.t.Fatal(paths, err)
	}
	var size, largest int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			b.t.Fatal(err)
		}
		size += info.Size()
		largest = max(largest, info.Size())
	}
	b.t.Logf("%d MiB, of which the largest layer has %d MiB", size>>20, largest>>20)
	if largest > limit {
		b.t.Errorf("a layer of %d MiB, more than %d MiB: has a cache of packages been left in it?", largest>>20,
			limit>>20)
	}
}

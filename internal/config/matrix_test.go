package config

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func loadText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, Env{CacheHome: "/cache"})
}

const kernelMatrix = "[profiles.k]\nmatrix.kernel = [\"6.1\", \"6.12\", \"../linux\"]\nmodules = [\"loop\"]\n"

// TestMatrix makes a profile of each kernel. The profile itself is the first, or the one that is picked.
func TestMatrix(t *testing.T) {
	c, err := loadText(t, kernelMatrix+"[profiles.host]\nkernel = \"5.10.0-9-amd64\"\n")
	if err != nil {
		t.Fatal(err)
	}
	linux := filepath.Join(filepath.Dir(c.Dir), "linux")
	kernels := func() map[string]string {
		out := map[string]string{}
		for name, p := range c.Profiles {
			if out[name] = p.KernelRelease + p.Kernel; p.Name != name {
				t.Errorf("profile %s is called %s", name, p.Name)
			}
		}
		return out
	}
	want := map[string]string{"k": "6.1", "k-6.1": "6.1", "k-6.12": "6.12", "k-linux": linux, "host": "5.10.0-9-amd64"}
	if got := kernels(); !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if p := c.Profiles["k-linux"]; p.Matrix != "k" || !p.KernelForced || !slices.Equal(p.Modules, []string{"loop"}) ||
		p.BuildOut != "/cache/provium/builds/k-linux" {
		t.Errorf("%+v", p)
	}
	if err := c.Pick([]string{"k-linux", "k-linux"}); err != nil {
		t.Error(err)
	}
	want["k"] = linux
	if got := kernels(); !maps.Equal(got, want) {
		t.Errorf("picked: %q, want %q", got, want)
	}
	for want, names := range map[string][]string{
		"`k` is not a profile of a matrix; provium.toml has: k-6.1, k-6.12, k-linux": {"k"},
		"`host` is not a profile of a matrix; provium.toml has: k-6.1":               {"host"},
		"`k-6.1` and `k-6.12` are both of the matrix of profile `k`":                 {"k-6.1", "k-6.12"},
	} {
		if err := c.Pick(names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", names, err, want)
		}
	}
	c, err = loadText(t, "[profiles.k]\nmatrix.kernel = {old = \"6.1\", mine = \"/src/a/linux\"}\n")
	if err != nil || c.Profiles["k"].Kernel != "/src/a/linux" || c.Profiles["k-old"].KernelRelease != "6.1" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = loadText(t, "[profiles.host]\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Pick([]string{"host"}); err == nil || !strings.Contains(err.Error(), "has none (key `matrix.kernel`") {
		t.Error(err)
	}
}

func TestMatrixErrors(t *testing.T) {
	for text, want := range map[string]string{
		"matrix = 3":                         "profile `k` matrix: expected a table, got an integer (line 2)",
		"matrix.kernel = 3":                  "profile `k` matrix kernel: expected an array of kernels or a table",
		"matrix.kernel = []":                 "profile `k` matrix: kernel: expected at least one kernel",
		"matrix.kernel = [3]":                "entry 1: expected a release or a path, got an integer",
		"matrix.kernel = [\" \"]":            "entry 1: expected a release or a path",
		"matrix.kernel = {a = 3}":            "`a`: expected a release or a path, got an integer",
		"matrix.kernels = [\"6.1\"]":         "unknown key `kernels` in profile `k` matrix (valid: kernel); did",
		"matrix.kernel = [\"6.1\", \"6.1\"]": "would both be profile `k-6.1`; name them, as",
		"matrix.kernel = [\"a/linux\", \"b/linux\"]": "`a/linux` and `b/linux` would both be profile `k-linux`; name " +
			"them, as `matrix.kernel = {old = \"a/linux\", new = \"b/linux\"}`",
		"matrix.kernel = [\"6.1\"]\nkernel = \"x\"":       "it has a kernel, too; the matrix says which kernels",
		"matrix.kernel = [\"6.1\"]\nroot = \"x\"":         "has both kernel and root",
		"matrix.kernel = {\"a/b\" = \"6.1\"}":             "profile name `k-a/b` is not valid",
		"matrix.kernel = [\"6.1\"]\n[profiles.\"k-6.1\"]": "`k-6.1` is one of the matrix of profile `k`, and",
	} {
		if _, err := loadText(t, "[profiles.k]\n"+text+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

package sharedcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fake "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// around stands between a registry and its users.
type around func(w http.ResponseWriter, r *http.Request, serve http.Handler)

// inMemory returns a registry that keeps all in memory.
func inMemory() http.Handler { return fake.New(fake.Logger(log.New(io.Discard, "", 0))) }

// withEachRegistry runs a test with a registry in memory, and with the one that distributions ship.
func withEachRegistry(t *testing.T, test func(t *testing.T, ref string, before *atomic.Pointer[around])) {
	t.Run("in memory", func(t *testing.T) {
		ref, before := startRegistry(t, inMemory())
		test(t, ref, before)
	})
	t.Run("docker-registry", func(t *testing.T) {
		ref, before := startRegistry(t, dockerRegistry(t))
		test(t, ref, before)
	})
}

// startRegistry returns a reference into a registry, and a place for what stands before it.
func startRegistry(t *testing.T, serve http.Handler) (ref string, before *atomic.Pointer[around]) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	before = new(atomic.Pointer[around])
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := before.Load(); f != nil {
			(*f)(w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://") + "/team/cache:ci", before
}

func open(t *testing.T, ref string, silence time.Duration) *Cache {
	t.Helper()
	c, err := Open(ref, t.TempDir(), silence)
	must(t, err)
	return c
}

// noise returns bytes that cannot be compressed.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// sample makes a directory with files of all kinds.
func sample(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "sample")
	must(t, os.MkdirAll(dir+"/sub/deep", 0o755))
	must(t, os.WriteFile(dir+"/large", append(noise(1<<20+100), make([]byte, 2<<20)...), 0o644))
	must(t, os.WriteFile(dir+"/sub/program", []byte("#!/bin/sh\n"), 0o755))
	must(t, os.WriteFile(dir+"/sub/deep/empty", nil, 0o600))
	must(t, os.WriteFile(dir+"/zeroes", make([]byte, 2<<20), 0o644))
	must(t, os.Symlink("../large", dir+"/sub/link"))
	return dir
}

func local(key, dir string) Local {
	return Local{Header: Header{Kind: Boot, Key: key, Note: "host"}, Paths: map[string]string{"tree": dir}}
}

func entries(t *testing.T, c *Cache) []Entry {
	t.Helper()
	all, err := c.List(t.Context(), func(err error) { t.Error(err) })
	must(t, err)
	return all
}

func same(t *testing.T, want, got string) {
	t.Helper()
	must(t, filepath.WalkDir(want, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(want, path)
		other := filepath.Join(got, rel)
		if d.Type().IsRegular() {
			a, _ := os.ReadFile(path)
			b, err := os.ReadFile(other)
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s has another content: %v", rel, err)
			}
		} else if a, _ := os.Readlink(path); a != "" {
			if b, _ := os.Readlink(other); a != b {
				t.Errorf("%s leads to %q", rel, b)
			}
		}
		return err
	}))
	if info, err := os.Stat(got + "/sub/program"); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestPushPull moves an entry by way of a registry and of a directory.
func TestPushPull(t *testing.T) { withEachRegistry(t, pushAndPull) }

func pushAndPull(t *testing.T, ref string, before *atomic.Pointer[around]) {
	dir := sample(t)
	for _, ref := range []string{ref, "docker://" + ref, "oci:" + t.TempDir() + "/new"} {
		c := open(t, ref, 0)
		if all := entries(t, c); len(all) > 0 && !strings.HasPrefix(ref, "docker") {
			t.Errorf("%s has %d entries", ref, len(all))
		}
		stored, err := c.Push(t.Context(), local("abc", dir))
		if must(t, err); stored == strings.HasPrefix(ref, "docker") {
			t.Errorf("%s: stored is %t", ref, stored)
		}
		all := entries(t, c)
		if len(all) != 1 || all[0].Key != "abc" || all[0].Note != "host" || all[0].Packed < 1<<20 ||
			all[0].Packed > 2<<20 {
			t.Fatalf("%s: %+v", ref, all)
		}
		to := t.TempDir()
		must(t, c.Pull(t.Context(), &all[0], to))
		same(t, dir, to+"/tree")
	}
	// Another entry with the same large file sends only what is new.
	var sent atomic.Int64
	count := around(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if r.Method == http.MethodPatch || r.Method == http.MethodPut {
			sent.Add(max(r.ContentLength, 0))
		}
		serve.ServeHTTP(w, r)
	})
	before.Store(&count)
	must(t, os.WriteFile(dir+"/sub/more", []byte("more"), 0o644))
	_, err := open(t, ref, 0).Push(t.Context(), local("abd", dir))
	if must(t, err); sent.Load() == 0 || sent.Load() > 1<<19 {
		t.Errorf("%d bytes were sent for a small file", sent.Load())
	}
}

// TestTwoPushes pushes from several places at once: nothing is lost.
func TestTwoPushes(t *testing.T) { withEachRegistry(t, pushAtOnce) }

func pushAtOnce(t *testing.T, remote string, _ *atomic.Pointer[around]) {
	dir := sample(t)
	for _, ref := range []string{remote, "oci:" + t.TempDir()} {
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for _, key := range []string{fmt.Sprintf("a%d", i), "ff"} {
					if _, err := open(t, ref, 0).Push(context.Background(), local(key, dir)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		c := open(t, ref, 0)
		all := entries(t, c)
		if len(all) != 4 {
			t.Errorf("%s has %d entries", ref, len(all))
		}
		for i := range all {
			must(t, c.Pull(t.Context(), &all[i], t.TempDir()))
		}
	}
}

// TestDamagedChunk has a registry change what it sends.
func TestDamagedChunk(t *testing.T) { withEachRegistry(t, pullDamage) }

func pullDamage(t *testing.T, ref string, before *atomic.Pointer[around]) {
	c := open(t, ref, 0)
	_, err := c.Push(t.Context(), local("abc", sample(t)))
	must(t, err)
	all := entries(t, c)
	for name, change := range map[string]func([]byte) []byte{
		"a bit":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":    func(b []byte) []byte { return b[:len(b)/2] },
		"longer": func(b []byte) []byte { return append(b, 0) },
	} {
		f := around(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				serve.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			serve.ServeHTTP(rec, r)
			_, _ = w.Write(change(rec.Body.Bytes()))
		})
		before.Store(&f)
		if err := c.Pull(t.Context(), &all[0], t.TempDir()); err == nil || !strings.Contains(err.Error(), ref) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAway asks registries that answer nothing, refuse, or fall silent.
func TestAway(t *testing.T) {
	ref, before := startRegistry(t, inMemory())
	c := open(t, ref, 50*time.Millisecond)
	silent := around(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() })
	before.Store(&silent)
	var away *AwayError
	_, err := c.List(t.Context(), nil)
	if !errors.As(err, &away) || !strings.Contains(err.Error(), "it has been silent for 50ms") {
		t.Errorf("silent: %v", err)
	}
	full := around(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if r.Method == http.MethodPost {
			http.Error(w, `{"errors":[{"code":"DENIED","message":"quota exceeded"}]}`, http.StatusInsufficientStorage)
			return
		}
		serve.ServeHTTP(w, r)
	})
	before.Store(&full)
	if _, err := open(t, ref, 0).Push(t.Context(), local("abc", sample(t))); err == nil || errors.As(err, &away) {
		t.Errorf("full: %v", err)
	}
	s := httptest.NewServer(nil)
	s.Close()
	gone := strings.TrimPrefix(s.URL, "http://") + "/cache"
	if _, err := open(t, gone, 0).List(t.Context(), nil); !errors.As(err, &away) {
		t.Errorf("gone: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for ref, want := range map[string]string{
		"oci:":                   "the directory is missing",
		"oci:" + file:            "it is not a directory",
		"":                       "neither `HOST/NAME[:TAG]` nor `oci:DIR`",
		"Host/UPPER":             "neither `HOST/NAME[:TAG]` nor `oci:DIR`",
		"http://host/cache":      "neither `HOST/NAME[:TAG]` nor `oci:DIR`",
		"http://host:5000/cache": "give the registry without `http://`, as in `host:5000/cache`",
		"dockr://host/cache":     "unknown scheme `dockr://`",
		"docker://":              "it is empty",
		"cache":                  "it names no host, as `registry.example/cache` does; a directory is `oci:cache`",
		"host:5000":              "the name behind the host is missing, as in `host:5000/cache`",
		"OCI:/dir":               "`OCI:` is neither a host nor `oci:`",
		"oci://host/cache":       "give `host/cache` for a registry, or `oci:/DIR` for a directory",
		"host/cache@sha256:" + strings.Repeat("a", 64): "a cache changes",
		"host/cache:" + strings.Repeat("a", 61):        "longer than 60 characters",
	} {
		if _, err := Open(ref, "/", 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestDiffers(t *testing.T) {
	here := Fit{Form: "3-a", Arch: "amd64", QEMU: "7.2", Accel: "tcg", CPU: "Xeon"}
	for _, c := range []struct {
		fit  Fit
		want string
	}{
		{Fit{}, ""}, {here, ""}, {Fit{CPU: "max"}, ""}, {Fit{CPU: "host of Xeon"}, ""},
		{Fit{CPU: "host of EPYC"}, "CPU EPYC, here Xeon"},
		{Fit{QEMU: "8.0", Accel: "kvm"}, "QEMU 8.0, here 7.2; accelerator kvm, here tcg"},
	} {
		if got := c.fit.Differs(here); got != c.want {
			t.Errorf("%+v: %q", c.fit, got)
		}
	}
}

// FuzzManifest reads what a registry says of an entry.
func FuzzManifest(f *testing.F) {
	img, err := pack(context.Background(), Local{Header: Header{Kind: Boot, Key: "abc"}, Paths: map[string]string{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(img.manifest)
	f.Fuzz(func(t *testing.T, text []byte) {
		m, h, err := decodeManifest(text)
		if err == nil && (m == nil || h.Key == "" || m.Config.Size < 0 || m.Config.Size > maxConfig) {
			t.Errorf("%+v", m)
		}
	})
}

// FuzzContent reads the description of an entry, and makes its files in an empty directory.
func FuzzContent(f *testing.F) {
	f.Add([]byte(`{"version":1,"header":{"kind":"boot","key":"a","size":3},"files":[{"name":"d","mode":2147484141},`+
		`{"name":"d/f","mode":420,"size":3}],"chunks":[]}`), 0)
	f.Fuzz(func(t *testing.T, text []byte, layers int) {
		c, err := decodeContent(text, layers)
		if err != nil {
			return
		}
		for _, file := range c.Files {
			if !filepath.IsLocal(file.Name) || file.Size < 0 || file.Size > maxEntry {
				t.Errorf("%+v", file)
			}
		}
	})
}

// FuzzUnpack decompresses a chunk into no more than it may have.
func FuzzUnpack(f *testing.F) {
	enc, err := encoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc.EncodeAll([]byte("text"), nil), int64(4))
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*ChunkSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, z []byte, length int64) {
		if length <= 0 || length > ChunkSize {
			return
		}
		if _, err := unpack(dec, z, chunk{Length: length}); err == nil {
			t.Error("there is no digest")
		}
	})
}

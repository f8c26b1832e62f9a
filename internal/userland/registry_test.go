package userland

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// fakeRegistry is a registry whose answers a test changes.
type fakeRegistry struct {
	*httptest.Server
	requests atomic.Int64
	around   atomic.Pointer[func(w http.ResponseWriter, r *http.Request, serve http.Handler)]
}

func newRegistry(t *testing.T) *fakeRegistry {
	r := &fakeRegistry{}
	serve := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.requests.Add(1)
		if around := r.around.Load(); around != nil {
			(*around)(w, q, serve)
			return
		}
		serve.ServeHTTP(w, q)
	}))
	t.Cleanup(r.Close)
	return r
}

// push puts an image into the registry, and returns its name.
func (r *fakeRegistry) push(t *testing.T, tag, architecture string) string {
	t.Helper()
	ref := strings.TrimPrefix(r.URL, "http://") + "/some/image:" + tag
	parsed, err := name.ParseReference(ref)
	must(t, err)
	must(t, remote.Write(parsed, ociImage(t, architecture)))
	return ref
}

func TestRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r := newRegistry(t)
	ref := r.push(t, "v1", "amd64")
	m := newMaker(t)
	u, err := m.Make(t.Context(), Source{Kind: Registry, Ref: ref})
	must(t, err)
	if !u.HasInit || u.Config.WorkDir != "/srv" || !slices.Equal(u.Config.Env, []string{"A=b"}) ||
		!strings.HasPrefix(u.Digest, "sha256:") {
		t.Errorf("%+v", u)
	}
	before := r.requests.Load()
	again, err := m.Make(t.Context(), Source{Kind: Registry, Ref: ref})
	must(t, err)
	if again.Key != u.Key || r.requests.Load()-before > 2 {
		t.Errorf("%s and %s, %d requests", u.Key, again.Key, r.requests.Load()-before)
	}
	if _, err := m.Make(t.Context(), Source{Kind: Registry, Ref: r.push(t, "arm", "arm64")}); err == nil ||
		!strings.Contains(err.Error(), "the image is for arm64") {
		t.Error(err)
	}
	_, err = m.Make(t.Context(), Source{Kind: Registry, Ref: strings.Replace(ref, "v1", "v9", 1)})
	if err == nil || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
		t.Error(err)
	}

	r.Close()
	pinned := strings.Replace(ref, ":v1", "@"+u.Digest, 1)
	if again, err = m.Make(t.Context(), Source{Kind: Registry, Ref: pinned}); err != nil || again.Key != u.Key ||
		again.Config.WorkDir != "/srv" {
		t.Errorf("an image in the cache: %+v, %v", again, err)
	}
	if _, err := m.Make(t.Context(), Source{Kind: Registry, Ref: ref}); err == nil ||
		!strings.Contains(err.Error(), "connection refused") ||
		!strings.Contains(err.Error(), "needs no registry once") {
		t.Error(err)
	}
}

// TestDamagedLayer has a registry send other bytes than it has announced.
func TestDamagedLayer(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r := newRegistry(t)
	ref := r.push(t, "v1", "amd64")
	damage := func(w http.ResponseWriter, q *http.Request, serve http.Handler) {
		record := httptest.NewRecorder()
		serve.ServeHTTP(record, q)
		body := record.Body.Bytes()
		if strings.Contains(q.URL.Path, "/blobs/") && len(body) > 100 && body[0] != '{' {
			body[len(body)/2] ^= 1
		}
		for k, v := range record.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(record.Code)
		w.Write(body)
	}
	r.around.Store(&damage)
	m := newMaker(t)
	_, err := m.Make(t.Context(), Source{Kind: Registry, Ref: ref})
	if err == nil || !strings.Contains(err.Error(), "registry 127.0.0.1") {
		t.Fatal(err)
	}
	t.Log(err)
	if entries, _ := os.ReadDir(m.Cache.Dir + "/" + KindArchive); len(entries) > 1 {
		t.Error("something stays in the cache:", entries)
	}
	r.around.Store(nil)
	if _, err := m.Make(t.Context(), Source{Kind: Registry, Ref: ref}); err != nil {
		t.Error(err)
	}
}

// TestSilentRegistry has a registry accept requests, and answer nothing.
func TestSilentRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r := newRegistry(t)
	ref := r.push(t, "v1", "amd64")
	silent := func(_ http.ResponseWriter, q *http.Request, _ http.Handler) { <-q.Context().Done() }
	r.around.Store(&silent)
	m := newMaker(t)
	m.RegistryLimit = 10 * time.Millisecond
	if _, err := m.Make(t.Context(), Source{Kind: Registry, Ref: ref}); err == nil ||
		!strings.Contains(err.Error(), "has sent nothing for 10ms") {
		t.Error(err)
	}
	m.RegistryLimit = 0
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := m.Make(ctx, Source{Kind: Registry, Ref: ref}); err != context.Canceled &&
		!strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}

package e2e

import (
	"errors"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// faultyRegistry is a registry in memory, with a fault before it.
type faultyRegistry struct {
	ref   string
	fault atomic.Pointer[fault]
}

// fault answers a request in place of a registry, or has it answered by serve.
type fault func(w http.ResponseWriter, r *http.Request, serve http.Handler)

func newFaultyRegistry(t *testing.T) *faultyRegistry {
	f := new(faultyRegistry)
	serve := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bad := f.fault.Load(); bad != nil && *bad != nil {
			(*bad)(w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	f.ref = strings.TrimPrefix(s.URL, "http://") + "/team/cache"
	return f
}

// set has the registry have a fault; nil: it has none.
func (f *faultyRegistry) set(to fault) { f.fault.Store(&to) }

// on has requests for paths with a part in them have a fault.
func on(part string, bad fault) fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if strings.Contains(r.URL.Path, part) {
			bad(w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	}
}

// answer has a registry answer a status.
func answer(status int) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, `{"errors":[{"code":"UNKNOWN","message":"by the test"}]}`, status)
	}
}

// changed has a registry's answers changed. Without a Content-Length it is what is sent.
func changed(change func(body []byte) []byte, length string) fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		rec := httptest.NewRecorder()
		serve.ServeHTTP(rec, r)
		maps.Copy(w.Header(), rec.Header())
		w.Header().Del("Content-Length")
		w.Header().Del("Docker-Content-Digest")
		if length != "" {
			w.Header().Set("Content-Length", length)
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(change(rec.Body.Bytes()))
	}
}

func whole(b []byte) []byte { return b }
func half(b []byte) []byte  { return b[:len(b)/2] }

// silent takes a request and never answers.
func silent(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }

// stalls sends half of an answer.
func stalls(w http.ResponseWriter, r *http.Request, serve http.Handler) {
	changed(half, "")(w, r, serve)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// redirects leads to the same place again.
func redirects(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
}

// endlessTags has a list of tags whose every page has a next one.
func endlessTags(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Link", "<"+r.URL.Path+`?n=1>; rel="next"`)
	_, _ = io.WriteString(w, `{"name":"x","tags":["latest.boot.00"]}`)
}

// foreign changes the entries to those of another machine.
func foreign(b []byte) []byte {
	return regexp.MustCompile(`\\"qemu\\":\\"[^\\]*\\"`).ReplaceAll(b, []byte(`\"qemu\":\"1.2.3\"`))
}

// registryFaults are faults of a registry, and what a run says of them.
var registryFaults = []struct {
	name string
	bad  fault
	say  string
}{
	{"never answers", silent, "it has been silent for 15s"},
	{"500", answer(500), "it answers 500 Internal Server Error: by the test"},
	{"503", answer(503), "it answers 503 Service Unavailable: by the test; try again later"},
	{"429", answer(429), "it answers 429 Too Many Requests: by the test; try again later, or use a mirror"},
	{"401", answer(401), "it answers 401 Unauthorized: by the test; log in with `docker login 127.0.0.1:"},
	{"redirects", redirects, "it redirects more than 8 times"},
	{"tags without end", on("/tags/list", endlessTags), "its list of tags does not end"},
	{"a web page", on("/tags/list", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		_, _ = io.WriteString(w, "<html>Log in</html>")
	}), "it may be something else than a registry"},
	{"cut manifests", on("/manifests/", changed(half, "")), "its manifest cannot be read"},
	{"blobs 500", on("/blobs/", answer(500)), "it answers 500 Internal Server Error"},
	{"blobs 429", on("/blobs/", answer(429)), "it answers 429 Too Many Requests"},
	{"no blobs", on("/blobs/", answer(404)), "it answers 404 Not Found"},
	{"blobs redirect", on("/blobs/", redirects), "it redirects more than 8 times"},
	{"stalls in a chunk", on("/blobs/", stalls), "it has been silent for 15s"},
	{"cut blobs", on("/blobs/", changed(half, "")), "is damaged; the run goes on without it"},
	{"longer blobs", on("/blobs/", changed(func(b []byte) []byte { return append(b, 0) }, "")), "is damaged"},
	{"shorter than said", on("/blobs/", changed(whole, "100000000")), "an answer ends before its length"},
}

// bootProject is a project with a test that boots and one that does not.
func bootProject(t *testing.T) *project {
	p := newProject(t, hostProfile)
	p.env = append(p.env, "DOCKER_CONFIG="+p.dir)
	p.write("tests/a.test.lua", `
test("boots", function(t) t:assert_eq(provium:vm("a", "host"):boot():run("echo x").stdout, "x\n") end)
`)
	p.write("tests/plain.test.lua", `test("boots nothing", function(t) end)`)
	return p
}

// bootedProject is a bootProject whose cache "one" has what its tests need, and a registry.
func bootedProject(t *testing.T) (*project, *faultyRegistry) {
	p, reg := bootProject(t), newFaultyRegistry(t)
	p.freshCache("one")
	p.run("tests/a.test.lua").expect(0, "1 passed")
	return p, reg
}

// boots returns how many booted guests the cache of that name has.
func (p *project) boots(name string) int {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, name, "provium", "boots", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(files)
}

// TestFaultyRegistry runs beside registries with faults: each run says once what is wrong, takes nothing of what
// came, and passes.
func TestFaultyRegistry(t *testing.T) {
	t.Parallel()
	p, reg := bootedProject(t)
	p.run("cache", "push", reg.ref).expect(0, "pushed boot")
	check := func(name, ref, say string) {
		t.Helper()
		p.env = append(p.env, "XDG_CACHE_HOME="+filepath.Join(p.dir, name))
		r := p.run("--cache", ref, "tests/plain.test.lua")
		r.expect(0, "1 passed", say)
		if n := strings.Count(r.stderr.String(), "warning: "); n != 1 || p.boots(name) != 0 {
			t.Errorf("%s: %d warnings, %d booted guests\n%s", name, n, p.boots(name), r.report())
		}
	}
	for _, f := range registryFaults {
		reg.set(f.bad)
		check(f.name, reg.ref, f.say)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	check("refused", strings.TrimPrefix(gone.URL, "http://")+"/team/cache", "it cannot be reached")

	// Half of a chunk came, and the guest boots as without a cache.
	reg.set(on("/blobs/", stalls))
	p.freshCache("stalled")
	p.run("--cache", reg.ref, "tests/a.test.lua").expect(0, "1 passed", "it has been silent for 15s")

	reg.set(on("/manifests/", changed(foreign, "")))
	p.freshCache("foreign")
	p.run("cache", "ls", reg.ref).expect(0, "not for this machine: QEMU 1.2.3, here ")
	p.run("--cache", reg.ref, "tests/plain.test.lua").expect(0, "1 passed", "1 are not for this machine")
	if n := p.boots("foreign"); n != 0 {
		t.Errorf("%d guests of another QEMU were brought", n)
	}
}

// TestPushes pushes to a registry that is full, and from two processes at once, from a machine whose clock is years
// ahead. What was pushed serves another machine.
func TestPushes(t *testing.T) {
	t.Parallel()
	p, reg := bootedProject(t)
	reg.set(on("/uploads/", answer(http.StatusInsufficientStorage)))
	p.run("cache", "push", reg.ref).expect(2, "it answers 507 Insufficient Storage: by the test; remove entries")
	reg.set(nil)

	future := time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
	err := filepath.WalkDir(filepath.Join(p.dir, "one", "provium"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, future, future))
	})
	if err != nil {
		t.Fatal(err)
	}
	a, b := p.start("cache", "push", reg.ref), p.start("cache", "push", reg.ref)
	a.wait().expect(0, ", 0 failed")
	b.wait().expect(0, ", 0 failed")

	p.freshCache("two")
	p.run("--cache", reg.ref).expect(0, "2 passed", "shared cache: pulled ")
	if p.boots("two") == 0 {
		t.Error("no booted guest was brought")
	}
	err = filepath.WalkDir(filepath.Join(p.dir, "two", "provium"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().Year() >= 2090 {
			t.Errorf("%s has the time of the machine that pushed it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

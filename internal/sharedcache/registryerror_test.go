package sharedcache

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRegistryWithoutTLS asks a registry for TLS that has none, and one whose certificate nobody knows.
func TestRegistryWithoutTLS(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	plain, safe := httptest.NewServer(inMemory()), httptest.NewUnstartedServer(inMemory())
	safe.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told that it is not trusted
	safe.StartTLS()
	defer plain.Close()
	defer safe.Close()
	// A name that is not asked without TLS, and leads here.
	dial := http.DefaultTransport.(*http.Transport).DialContext
	defer func() { http.DefaultTransport.(*http.Transport).DialContext = dial }()
	for server, want := range map[*httptest.Server]string{
		plain: "registry registry.example.com: it speaks HTTP without TLS, and only registries on this machine",
		safe:  "certificate signed by unknown authority; SSL_CERT_FILE names a file",
	} {
		http.DefaultTransport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
		}
		c := open(t, "registry.example.com/team/cache", 0)
		_, err := c.Push(t.Context(), local("abc", sample(t)))
		if away := (*AwayError)(nil); !errors.As(err, &away) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestAccounts has configurations of docker that cannot be read, or name a program that is not there.
func TestAccounts(t *testing.T) {
	ref, _ := startRegistry(t, inMemory())
	host, _, _ := strings.Cut(ref, "/")
	for config, want := range map[string]string{
		`{bad`:                      "config.json): invalid character 'b'",
		`{"credsStore": "no/such"}`: "docker-credential-no/such",
		`{"auths": {"` + host + `": {"auth": "!"}}}`: "illegal base64",
	} {
		dir := t.TempDir()
		t.Setenv("DOCKER_CONFIG", dir)
		must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600))
		_, err := open(t, ref, 0).List(t.Context(), nil)
		if away := (*AwayError)(nil); !errors.As(err, &away) || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "docker's configuration cannot be used: ") {
			t.Errorf("%s: %v", config, err)
		}
	}
}

package sharedcache

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// dockerRegistryProgram is Debian's docker-registry, which scripts/setup unpacks.
const dockerRegistryProgram = "../../dist/registry/usr/bin/docker-registry"

// dockerRegistryConfig has it listen on a free port, which it prints.
const dockerRegistryConfig = `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}}
http: {addr: "127.0.0.1:0"}
`

// dockerRegistry starts a registry that keeps all in a directory, and returns what leads to it.
func dockerRegistry(t *testing.T) http.Handler {
	t.Helper()
	if _, err := os.Stat(dockerRegistryProgram); err != nil {
		t.Skip("the package docker-registry cannot be had here: ", err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, dockerRegistryConfig, dir), 0o644))
	cmd := exec.Command(dockerRegistryProgram, "serve", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	address, rest := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(rest)
		defer close(address)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, after, ok := strings.Cut(lines.Text(), "listening on "); ok {
				address <- strings.FieldsFunc(after, func(r rune) bool { return r == ' ' || r == '"' })[0]
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-rest
		_ = cmd.Wait()
	})
	host, ok := <-address
	if !ok {
		t.Fatal("docker-registry has ended")
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: host})
		r.Out.Host = r.In.Host // it makes addresses of it
	}}
}

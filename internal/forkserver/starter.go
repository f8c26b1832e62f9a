package forkserver

import (
	"embed"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"provium/internal/proc"
)

// The library that the build puts there. Without it, processes are started the ordinary
// way.
//
//go:embed all:payload
var payload embed.FS

const libraryFile = "payload/forkserver.so"

// Starter starts processes, those of Launch as copies. It is safe for concurrent use.
type Starter struct {
	plain   *proc.Starter
	library []byte

	mu      sync.Mutex
	servers map[key]*server // nil for one that has no server
}

// key says which processes a server can make.
type key struct {
	program, environment string
	ignoresPermissions   bool // as proc.Starter.Launch lets them
}

// NewStarter returns a Starter over plain, which starts the servers and what cannot be a
// copy.
func NewStarter(plain *proc.Starter) *Starter {
	library, err := payload.ReadFile(libraryFile)
	if err != nil {
		library = nil
	}
	return &Starter{plain: plain, library: library, servers: map[key]*server{}}
}

// Start starts a program the ordinary way, confined.
func (s *Starter) Start(cmd *exec.Cmd) error { return s.plain.Start(cmd) }

// Serve starts a program that serves files of the host, the ordinary way.
func (s *Starter) Serve(cmd *exec.Cmd) (proc.Process, error) { return s.plain.Serve(cmd) }

// Launch starts a QEMU, which opens those files. It is confined as one that is started the
// ordinary way.
func (s *Starter) Launch(cmd *exec.Cmd, opens ...proc.File) (proc.Process, error) {
	if r := s.request(cmd); r != nil {
		if server := s.server(cmd, opens); server != nil {
			p, err := server.launch(r)
			if err == nil {
				return p, nil
			}
		}
	}
	cmd.Env = append(cmd.Environ(), hugeHeap)
	return s.plain.Launch(cmd, opens...)
}

// hugeHeap has the C library ask for huge pages for the heap, half of which the kernel takes
// that QEMU reads. The server has its own way.
const hugeHeap = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"

// request returns what a server is asked for, nil for a command that it cannot serve.
func (s *Starter) request(cmd *exec.Cmd) *request {
	if s.library == nil || cmd.Err != nil || cmd.Stdin != nil || cmd.Stdout != nil || cmd.SysProcAttr != nil ||
		len(cmd.ExtraFiles) > maxFiles-4 || slices.Contains(cmd.ExtraFiles, nil) {
		return nil
	}
	text := append([]string{cmd.Dir}, cmd.Args[1:]...)
	if cmd.Dir == "" || slices.ContainsFunc(text, func(a string) bool { return strings.ContainsRune(a, 0) }) {
		return nil
	}
	r := &request{text: []byte(strings.Join(text, "\x00") + "\x00"), files: cmd.ExtraFiles, stderr: cmd.Stderr}
	if len(r.text) > maxRequest {
		return nil
	}
	return r
}

// server returns the server for a command, which it starts if there is none. It returns
// nil if there cannot be one.
func (s *Starter) server(cmd *exec.Cmd, opens []proc.File) *server {
	env := cmd.Env
	if env == nil {
		env = os.Environ()
	}
	k := key{cmd.Path, strings.Join(env, "\x00"), s.plain.IgnoresPermissions(cmd.Path, opens...)}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.servers[k]
	if !known && s.servers != nil {
		launch := func(c *exec.Cmd) (proc.Process, error) { return s.plain.Launch(c, opens...) }
		have, _ = startServer(launch, cmd.Path, env, s.library) // the ordinary way says what is wrong
		s.servers[k] = have
	}
	return have
}

// Servers returns the process ids of the servers, and whether a copy runs that is not a template.
func (s *Starter) Servers() (pids []int, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.servers {
		if server != nil {
			pids = append(pids, server.child.PID())
			busy = busy || server.isBusy()
		}
	}
	return pids, busy
}

// Close ends the servers with all that they have started, and waits for that.
func (s *Starter) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.servers {
		if server != nil {
			server.close()
		}
	}
	s.servers = nil
	s.library = nil
}

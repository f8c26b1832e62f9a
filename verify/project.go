//go:build verify

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// supervised is the first argument of this program when it starts another one whose system
// calls may fail.
const supervised = "supervised"

// programFile is the build that is verified, unless the environment names another one.
const (
	programFile = "bin/provium"
	programEnv  = "PROVIUM_BIN"
)

// verifier is what all parts share.
type verifier struct {
	until   time.Time // when the part should end; zero: when it has been tried often enough
	guests  int       // of the soak, after which it ends; 0: any number
	acts    int       // of each file of the soak
	only    *regexp.Regexp
	piece   string // of the sweeps
	program string
	dir     string // temporary
	random  *rand.Rand
	busy    *project // see busyProject
}

func newVerifier() (*verifier, error) {
	program, err := filepath.Abs(cmp.Or(os.Getenv(programEnv), programFile))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; run make build", err)
	}
	// What a killed run leaves behind becomes our child, and can be told from all else.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", err)
	}
	dir, err := os.MkdirTemp("/tmp", "verify-") // short, for the paths of sockets
	if err != nil {
		return nil, err
	}
	seed := uint64(time.Now().UnixNano())
	fmt.Fprintf(os.Stderr, "verify: seed %d\n", seed)
	return &verifier{program: program, dir: dir, random: rand.New(rand.NewPCG(seed, 0))}, nil
}

// late reports whether the part should end.
func (v *verifier) late() bool { return !v.until.IsZero() && time.Now().After(v.until) }

func (v *verifier) close() { _ = os.RemoveAll(v.dir) }

// project is a directory with test files, and with caches of its own.
type project struct {
	program, dir, temp string
	caches             string // of the user that it is for
	env                []string
}

// project makes one of files by name, beside the configuration.
func (v *verifier) project(files map[string]string) (*project, error) {
	dir, err := os.MkdirTemp(v.dir, "")
	if err != nil {
		return nil, err
	}
	p := &project{program: v.program, dir: dir, temp: filepath.Join(dir, "t"), caches: filepath.Join(dir, ".cache")}
	for _, d := range []string{p.temp, p.caches} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	p.env = append(os.Environ(), "TMPDIR="+p.temp, "HOME="+dir, "XDG_CACHE_HOME="+p.caches,
		"NO_COLOR=1",
		"PROVIUM_RERUN_STATE="+filepath.Join(dir, "rerun.json"))
	return p, p.borrowKernels()
}

// borrowKernels copies the kernels of the host's architecture that were downloaded before: a fresh cache must not
// lead to another download. Those of other architectures have their names in front.
func (p *project) borrowKernels() error {
	home, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	from, err := filepath.Glob(filepath.Join(home, "provium", "images", "kernels", "linux-image-*"))
	if err != nil || len(from) == 0 {
		return err // the host has a kernel, or the program downloads one
	}
	to := filepath.Join(p.caches, "provium", "images", "kernels")
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	if out, err := exec.Command("cp", append([]string{"-a", "-t", to}, from...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the kernels: %w: %s", err, out)
	}
	return nil
}

// command returns the command of a run of all files.
func (p *project) command(out io.Writer, args ...string) *exec.Cmd {
	cmd := exec.Command(p.program, append([]string{"--json", "--cpu-overcommit", "8"}, args...)...)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

// outcome is what a run has printed of its tests.
type outcome struct {
	passed, failed, files int
	logs                  map[string][]string // by test
	messages              map[string]string   // of the tests that failed, and of the files that did not load
	text                  string
}

// read reads the lines of files in the output of a run.
func read(out []byte) outcome {
	o := outcome{logs: map[string][]string{}, messages: map[string]string{}, text: string(out)}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var f struct {
			Path       string
			Status     string
			ChunkError *string `json:"chunk_error"`
			Tests      []struct {
				Name, Status string
				Message      string
				Log          []string
			}
		}
		if json.Unmarshal(lines.Bytes(), &f) != nil || f.Path == "" {
			continue
		}
		o.files++
		if f.ChunkError != nil {
			o.messages[f.Path] = *f.ChunkError
		} else if f.Status == "crashed" {
			o.messages[f.Path] = "the file crashed"
		}
		for _, t := range f.Tests {
			o.logs[f.Path+": "+t.Name] = t.Log
			switch t.Status {
			case "passed":
				o.passed++
			default:
				o.failed++
				o.messages[f.Path+": "+t.Name] = t.Message
			}
		}
	}
	return o
}

// run runs all files, and fails unless they pass.
func (p *project) run(ctx context.Context, args ...string) (outcome, time.Duration, error) {
	var out bytes.Buffer
	cmd := p.command(&out, args...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return outcome{}, 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return outcome{}, 0, fmt.Errorf("a run without faults failed: %w\n%s", err, out.Bytes())
	}
	return read(out.Bytes()), time.Since(began), nil
}

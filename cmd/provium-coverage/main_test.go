package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/event"
)

// saved is the stream of a run of one file.
func saved(t *testing.T, f event.Format) []byte {
	t.Helper()
	var out []byte
	meta := event.Meta{"spec": "s1"}
	for i, e := range []event.Event{
		event.RunStarted{ProtocolVersion: event.ProtocolVersion, Iteration: 1, Files: 1},
		event.FileDispatched{Path: "a"},
		event.TestStarted{Path: "a", Name: "works", Meta: meta},
		event.TestPassed{Path: "a", Name: "works", Meta: meta},
		event.FileCompleted{Path: "a", Status: event.FilePassed, DurationNS: 2e9},
		event.RunCompleted{DurationNS: 3e9},
	} {
		b, err := event.NewBatch(int64(i)*1e9, event.Encoded{Event: e}).Bytes(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

func tempFile(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

// runTool runs a command line.
func runTool(t *testing.T, stdin []byte, vars map[string]string, signals chan os.Signal, args ...string) (
	code int, stdout, stderr string) {
	t.Helper()
	x := &tool{env: func(name string) string { return vars[name] }, stdin: tempFile(t, stdin), stdout: tempFile(t, nil),
		stderr: tempFile(t, nil), interrupts: func() <-chan os.Signal { return signals }}
	code = x.main(args)
	var texts [2]string
	for i, f := range []*os.File{x.stdout, x.stderr} {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	return code, texts[0], texts[1]
}

func TestTool(t *testing.T) {
	dir := t.TempDir()
	whole, lines := saved(t, event.Msgpack), saved(t, event.JSONL)
	damaged := append([]byte{}, whole...)
	damaged[len(whole)-20] = 0xc1
	other, err := event.AppendFrame(nil, event.Envelope{Event: event.RunStarted{ProtocolVersion: 99}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"whole": whole, "lines": lines, "cut": whole[:len(whole)-10],
		"damaged": damaged, "other": other, "text": []byte("no events at all\n"), "tiny": []byte("ab"), "empty": nil,
		"kind": []byte(`{"ts":1,"kind":"gone","payload":{}}` + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	none, byRun := map[string]string{}, map[string]string{"PROVIUM_COVERAGE_TMP": "x"}
	byUser := map[string]string{"PROVIUM_COVERAGE_USER_FILE": "x"}
	const html, text = "<!DOCTYPE html>", "coverage: 1 file, 1 test, 3.00s"
	const help = " (see `provium-coverage --help`)"
	for _, c := range []struct {
		args           string
		vars           map[string]string
		code           int
		stdout, stderr string
	}{
		{"--from whole", none, 0, html, ""},
		{"--from whole", byRun, 0, text, ""},
		{"--from whole", byUser, 0, text, ""},
		{"--from whole --format html", byRun, 0, html, ""},
		{"--from whole --format text", none, 0, text, ""},
		{"--from lines --format=json", none, 0, `"value": "s1",`, ""},
		{"--from -", byRun, 0, text, ""},
		{"--from empty", none, 0, html, ""},
		{"--from cut", byRun, 0, "coverage: 1 file, 1 test", "warning: cut: event decode at offset "},
		{"--from damaged", byRun, 1, "coverage: 1 file, 1 test", "damaged: event decode at offset "},
		{"--from other", byRun, 1, "", "other: the stream has protocol version 99, this program reads version "},
		{"--from kind", byRun, 1, "", "unknown kind `gone` (was it written by another version of Provium?)\n"},
		{"--from text", byRun, 1, "", "text: event decode at offset 0: frame too large"},
		{"--from tiny", byRun, 1, "", "tiny: event decode at offset 0: truncated frame: 2 of 4 header bytes (is it an"},
		{"--from gone", none, 1, "", "gone: no such file or directory"},
		{"--from .", none, 1, "", ".: is a directory"},
		{"--from-socket gone", none, 1, "", "gone: connect: no such file or directory"},
		{"--from-socket whole", none, 1, "", "whole: connect: connection refused"},
		{"--from whole --from-socket x", none, 1, "", "--from and --from-socket exclude each other" + help},
		{"", none, 1, "", "--from or --from-socket is missing" + help},
		{"--from whole x", none, 1, "", "unexpected argument `x`" + help},
		{"--from", none, 1, "", "flag needs an argument: --from" + help},
		{"--form x", none, 1, "", "unknown flag: --form" + help},
		{"--from whole --format xml", none, 1, "", "--format `xml`: expected text, html or json" + help},
		{"--help", none, 0, "Usage:\n  provium-coverage (--from FILE | --from-socket PATH)", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Chdir(dir)
			code, stdout, stderr := runTool(t, whole, c.vars, nil, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) ||
				c.stderr == "" && stderr != "" || c.stdout == "" && stdout != "" {
				t.Errorf("code %d, stdout\n%s\nstderr %q", code, stdout, stderr)
			}
		})
	}
}

// TestSocket reads until the run ends, or the user has enough.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, interrupted := range []bool{false, true} {
		signals := make(chan os.Signal, 1)
		served := make(chan net.Conn, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				t.Error(err)
				close(served)
				return
			}
			if _, err := conn.Write(saved(t, event.Msgpack)); err != nil {
				t.Error(err)
			}
			if interrupted {
				signals <- os.Interrupt
			} else {
				conn.Close()
			}
			served <- conn
		}()
		code, stdout, stderr := runTool(t, nil, nil, signals, "--from-socket", path, "--format", "text")
		if conn := <-served; conn != nil {
			conn.Close()
		}
		if code != 0 || stderr != "" || !strings.Contains(stdout, "coverage: 1 file, 1 test") {
			t.Errorf("interrupted %v: code %d, %q, %q", interrupted, code, stdout, stderr)
		}
	}
}

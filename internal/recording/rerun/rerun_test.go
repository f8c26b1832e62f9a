package rerun

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"provium/internal/recording"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func pack(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err == nil {
		_, err = z.Write([]byte(text))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// folder makes a folder with a recording.
func folder(t *testing.T, change func(m *recording.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	m := recording.Manifest{Format: 2, VM: "n1", QEMU: "7.2.22", Machine: "q35", Memory: 1 << 20,
		Kernel: filepath.Join(dir, "vmlinux"), StateLen: 5, LogLen: 3,
		StateDigest: digest("state"), LogDigest: digest("log"),
		End: 100, Points: []recording.Point{
			{At: 5, Text: `vm:run("a")`, Where: "tests/a.test.lua:3"},
			{At: 9, Text: "before", Where: "tests/a.test.lua:4", Mark: true},
			{At: 9, Text: `vm:run("b")`, Where: "tests/a.test.lua:5"},
			{At: 50, Text: recording.Failure, Mark: true},
			{At: 60, Text: `vm:run("cleaning up")`, Where: "tests/a.test.lua:9"},
		}}
	if change != nil {
		change(&m)
	}
	f, err := os.Create(filepath.Join(dir, "guest-"+m.VM+".json"))
	if err == nil {
		err = m.Write(f)
	}
	files := map[string]string{"vmlinux": "", "guest-n1.log.zst": pack(t, "log"), "guest-n1.state": "state"}
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFind(t *testing.T) {
	r, err := Open(folder(t, nil), "")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int64{"": 9, "1": 5, "2": 9, "3": 60, "before": 9, "a.test.lua:3": 5,
		"tests/a.test.lua:9": 60, "end": 99} {
		if m, err := r.Find(text); err != nil || m.At != want {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
	for text, want := range map[string]string{"panic": "has not panicked",
		"4": "no moment `4`; it has:\n     1  vm:run",
		"x": "no moment"} {
		if _, err := r.Find(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r.Panicked = true
	if m, err := r.Find(""); err != nil || m.Function != "panic" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "has no recording") {
		t.Error(err)
	}
	if _, err := Open(folder(t, nil), "n2"); err == nil ||
		!strings.Contains(err.Error(), "no recording of vm `n2` (there: n1)") {
		t.Error(err)
	}
	for want, change := range map[string]func(m *recording.Manifest){
		"guest-n1.log.zst ends early: it has 3 bytes of 4": func(m *recording.Manifest) { m.LogLen = 4 },
		"guest-n1.log.zst is damaged":                      func(m *recording.Manifest) { m.LogDigest = digest("x") },
		"guest-n1.state is damaged":                        func(m *recording.Manifest) { m.StateLen = 4 },
		"the kernel of the recording is not":               func(m *recording.Manifest) { m.Kernel = "/nonexistent" },
		"its format is 9":                                  func(m *recording.Manifest) { m.Format = 9 },
	} {
		if _, err := Open(folder(t, change), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	r, err := Open(folder(t, nil), "n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.fits("10.0.0"); err == nil || !strings.Contains(err.Error(), "only the same can run it again") {
		t.Error(err)
	}
}

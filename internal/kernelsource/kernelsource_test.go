package kernelsource

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const report = `[   15.0] BUG: KASAN: slab-use-after-free in demo_fail+0x6/0x10
[   15.0] RIP: 0010:demo_fail+0x0/0x10
[   15.0] Call Trace:
[   15.0]  <TASK>
[   15.0]  ? demo_init+0xb/0x10 [demo]
[   15.0]  demo_read+0x3/0x6 [demo 0123456789abcdef0123456789abcdef01234567]
[   15.0]  _start+0x16/0x20
[   15.0]  other_cold+0x3/0x6
[   15.0]  twin+0x3/0x10
[   15.0]  demo_fail+0x6/0x500
[   15.0]  other_module+0x1/0x2 [absent]
`

const named = `[   15.0] BUG: KASAN: slab-use-after-free in demo_fail+0x6/0x10 (core.c:9)
[   15.0] RIP: 0010:demo_fail+0x0/0x10 (core.c:9)
[   15.0] Call Trace:
[   15.0]  <TASK>
[   15.0]  ? demo_init+0xb/0x10 [demo] (demo.c:9)
[   15.0]  demo_read+0x3/0x6 [demo 0123456789abcdef0123456789abcdef01234567] (demo.c:3)
[   15.0]  _start+0x16/0x20 (core.c:17)
[   15.0]  other_cold+0x3/0x6 (other.c:14)
[   15.0]  twin+0x3/0x10
[   15.0]  demo_fail+0x6/0x500
[   15.0]  other_module+0x1/0x2 [absent]
`

func TestName(t *testing.T) {
	for _, files := range []Files{{"testdata/vmlinux", "testdata/demo.ko"}, {"testdata"}} {
		got, err := files.Name(t.Context(), report)
		if err != nil || strings.ReplaceAll(got, "/src/linux/testdata/", "") != named {
			t.Errorf("%q: %v\n%s", files, err, got)
		}
	}
	twice, err := Files{"testdata"}.Name(t.Context(), named)
	if err != nil || twice != named {
		t.Errorf("named twice: %v\n%s", err, twice)
	}
}

// TestNameOutside names where a CPU is, and what is on its stack: the instruction at its RIP is the next one, those
// on the stack have called.
func TestNameOutside(t *testing.T) {
	got, err := Files{"testdata"}.Name(t.Context(),
		"CPU 0 runs the kernel, RIP 0xffffffff81000006 (demo_fail+0x6/0x10)\n    demo_fail+0x6/0x10")
	want := "(demo_fail+0x6/0x10 (core.c:10))\n    demo_fail+0x6/0x10 (core.c:9)"
	if got = strings.ReplaceAll(got, "/src/linux/testdata/", ""); err != nil || !strings.HasSuffix(got, want) {
		t.Errorf("%v\n%s\nwant %s", err, got, want)
	}
}

// TestNameWithout has no file, or no frame, that a name could come from.
func TestNameWithout(t *testing.T) {
	if got, err := (Files)(nil).Name(t.Context(), report); got != report || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
	text := "Kernel panic - not syncing: no frames"
	if got, err := (Files{"/nonexistent"}).Name(t.Context(), text); got != text || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestNameOfOther has files that say nothing of the report.
func TestNameOfOther(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	vmlinux, err := os.ReadFile("testdata/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	text := "RIP: 0010:demo_fail+0x6/0x10"
	for _, tc := range []struct{ path, text, want string }{
		{"/nonexistent/vmlinux", text, "no such file"},
		{write("text", []byte(strings.Repeat("no kernel\n", 20))), text, "no ELF file"},
		{write("empty", nil), text, "no ELF file"},
		{write("cut", vmlinux[:len(vmlinux)/2]), text, ""},
		{write("plain", bytes.ReplaceAll(vmlinux, []byte(".debug_"), []byte(".dubeg_"))), text, "no debug information"},
		{"testdata/vmlinux", "RIP: 0010:demo_fail+0x6/0x50", "not of the kernel that has printed this"},
		{"/dev/null", text, "it is no file"},
	} {
		got, err := Files{tc.path}.Name(t.Context(), tc.text)
		if got != tc.text || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v\n%s", tc.path, err, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := (Files{"testdata"}).Name(ctx, text); got != text || err == nil {
		t.Errorf("cancelled: %v\n%s", err, got)
	}
}

// TestShrunk has a file become shorter while it is mapped, as one that is being built.
func TestShrunk(t *testing.T) {
	vmlinux, err := os.ReadFile("testdata/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, vmlinux, 0o600); err != nil {
		t.Fatal(err)
	}
	data, release, err := mapFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := namesInObject(t.Context(), data, framesIn("demo_fail+0x6/0x10"), ""); err == nil {
		t.Error("a file that is gone has named a frame")
	}
}

// TestMemory has a text named after its files are gone, and one that there was no time for.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile("testdata/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "vmlinux")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	const text, want = "RIP: 0010:demo_fail+0x0/0x10", "RIP: 0010:demo_fail+0x0/0x10 (core.c:9)"
	m := NewMemory(Files{path})
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := m.Name(late, text); err == nil || got != text {
		t.Errorf("%q without time, %v", got, err)
	}
	for range 2 {
		if got, err := m.Name(t.Context(), text); err != nil || got != want {
			t.Errorf("%q, %v", got, err)
		}
		os.Remove(path)
	}
	for i := range 2 * maxRemembered {
		if _, err := m.Name(t.Context(), fmt.Sprint(i, text)); err == nil {
			t.Errorf("%d is named without a file", i)
		}
	}
	if len(m.known) != maxRemembered {
		t.Error(len(m.known))
	}
}

func TestNear(t *testing.T) {
	dir := t.TempDir()
	boot := filepath.Join(dir, "linux/arch/x86/boot")
	if err := os.MkdirAll(boot, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"linux/vmlinux", "other/vmlinux"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("\x7fELF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for kernel, want := range map[string]string{
		"linux/arch/x86/boot/bzImage": "linux",
		"linux/vmlinux":               "linux/vmlinux",
		"other/bzImage":               "other/vmlinux",
		"none/bzImage":                "",
	} {
		got := Near(filepath.Join(dir, kernel), "")
		if want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0] != filepath.Join(dir, want) {
			t.Errorf("%s: %q", kernel, got)
		}
	}
	debug := filepath.Join(dir, "root/usr/lib/debug")
	if got := Near("", filepath.Join(dir, "root")); got != nil {
		t.Errorf("there is nothing, but %q", got)
	}
	if err := os.MkdirAll(debug, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := Near("", filepath.Join(dir, "root")); len(got) != 1 || got[0] != debug {
		t.Errorf("below a root: %q", got)
	}
}

func TestAbove(t *testing.T) {
	for _, tc := range []struct {
		files []string
		tops  map[string]bool
		want  string
	}{
		{nil, nil, ""},
		{[]string{"/src/linux/fs/a.c", "/src/linux/mm/b.c", "/src/linux/fs/c.c"}, nil, "/src/linux"},
		{[]string{"/src/linux/arch/x86/entry/a.S", "/src/linux/arch/x86/kernel/b.S"}, map[string]bool{"arch": true},
			"/src/linux"},
		{[]string{"/a/b.c", "/c/d.c"}, nil, ""},
	} {
		if got := above(tc.files, tc.tops); got != tc.want {
			t.Errorf("%q: %q", tc.files, got)
		}
	}
}

// FuzzObject reads damaged files. They name frames by printable words, or nothing.
func FuzzObject(f *testing.F) {
	for _, name := range []string{"vmlinux", "demo.ko"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	frames := framesIn(report)
	f.Fuzz(func(t *testing.T, data []byte) {
		names, _, err := namesInObject(t.Context(), data, frames, "")
		if err == nil && len(names) != len(frames) {
			t.Errorf("%d names of %d frames", len(names), len(frames))
		}
		for _, name := range names {
			if len(name) > maxPath || strings.ContainsAny(name, "\x00\x1b\n") {
				t.Errorf("%q", name)
			}
		}
	})
}

package e2e

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestCoreOfAPanic reads the memory that --dump keeps of a guest whose kernel panics: it has the
// registers and the kernel's note, and by its addresses the kernel's name for itself.
func TestCoreOfAPanic(t *testing.T) {
	t.Parallel()
	p := newProject(t, hostProfile)
	p.write("tests/x.test.lua", `
test("panics", function(t)
  provium:vm("a", "host", {memory = "128M"}):boot():run("echo c > /proc/sysrq-trigger; sleep 1000")
end)
`)
	kept := filepath.Join(p.dir, "kept")
	p.run("--dump", "--artifacts", kept).expect(1, "sysrq triggered crash")
	files, err := filepath.Glob(filepath.Join(kept, "*", "core-a.zst"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	core := unpackCore(t, files[0])
	f, err := elf.NewFile(bytes.NewReader(core))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || len(f.Progs) < 2 {
		t.Fatalf("%+v", f.FileHeader)
	}
	notes, err := io.ReadAll(f.Progs[0].Open())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(notes, []byte("CORE\x00")) {
		t.Error("there are no registers")
	}
	const form = "SYMBOL(init_uts_ns)="
	_, rest, ok := strings.Cut(string(notes), form)
	if !ok {
		t.Fatalf("the kernel's note is missing: %.200q", notes)
	}
	text, _, _ := strings.Cut(rest, "\n")
	address, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, prog := range f.Progs[1:] {
		if at := address - prog.Vaddr; prog.Vaddr != 0 && at < prog.Filesz {
			name := make([]byte, 64)
			if _, err := prog.ReadAt(name, int64(at)); err != nil || !bytes.Contains(name, []byte("Linux\x00")) {
				t.Errorf("the kernel calls itself %q, %v", name, err)
			}
			return
		}
	}
	t.Errorf("no segment has %#x", address)
}

func unpackCore(t *testing.T, path string) []byte {
	t.Helper()
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := zstd.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	core, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return core
}

package userland

import (
	"archive/tar"
	"debug/elf"
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"
)

// program returns the head of an ELF file.
func program(machine elf.Machine, order binary.ByteOrder) string {
	head := make([]byte, 64)
	copy(head, elf.ELFMAG)
	head[elf.EI_CLASS], head[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	if order == binary.BigEndian {
		head[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	order.PutUint16(head[18:], uint16(machine))
	return string(head)
}

// TestForeignPrograms refuses trees whose init or shell is for another architecture, wherever the symlinks lead.
func TestForeignPrograms(t *testing.T) {
	arm := program(elf.EM_AARCH64, binary.LittleEndian)
	own := program(elf.EM_X86_64, binary.LittleEndian)
	for name, c := range map[string]struct {
		files, links map[string]string
		want         string
	}{
		"own":     {map[string]string{"bin/sh": own, "sbin/init": own}, nil, ""},
		"32 bits": {map[string]string{"bin/sh": program(elf.EM_386, binary.LittleEndian)}, nil, ""},
		"script":  {map[string]string{"sbin/init": "#!/bin/sh\n"}, nil, ""},
		"short":   {map[string]string{"bin/sh": "\x7fELF"}, nil, ""},
		"shell": {map[string]string{"bin/sh": arm}, nil,
			"its /bin/sh is a program for arm64, and guests with a userland are x86-64 (amd64)"},
		"big-endian": {map[string]string{"bin/sh": program(elf.EM_S390, binary.BigEndian)}, nil,
			"its /bin/sh is a program for EM_S390"},
		"absolute": {map[string]string{"usr/lib/systemd/systemd": arm, "bin/sh": own},
			map[string]string{"sbin/init": "/usr/lib/systemd/systemd"}, "its /sbin/init is a program for arm64"},
		"escaping": {map[string]string{"usr/bin/busybox": arm},
			map[string]string{"bin": "usr/bin", "usr/bin/sh": "../../../usr/../usr/bin/busybox"},
			"its /bin/sh is a program for arm64"},
		"loop":    {map[string]string{"x": "x"}, map[string]string{"bin/sh": "sh"}, ""},
		"nowhere": {map[string]string{"x": "x"}, map[string]string{"bin/sh": "/none/sh"}, ""},
	} {
		dir := t.TempDir()
		for path, content := range c.files {
			put(t, filepath.Join(dir, path), content, 0o755)
		}
		for path, target := range c.links {
			link(t, target, filepath.Join(dir, path))
		}
		_, err := newMaker(t).Make(t.Context(), Source{Kind: Directory, Path: dir})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestForeignArchive reads the program out of a tar file.
func TestForeignArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.tar")
	text := pack(t, []tar.Header{{Name: "etc/first", Typeflag: tar.TypeReg, Mode: 0o644, Size: 700},
		{Name: "bin/sh", Typeflag: tar.TypeReg, Mode: 0o755, Size: 64}})
	at := strings.Index(string(text), strings.Repeat("h", 64))
	copy(text[at:], program(elf.EM_RISCV, binary.LittleEndian))
	put(t, path, string(text), 0o644)
	_, err := newMaker(t).Make(t.Context(), Source{Kind: Directory, Path: path})
	if err == nil || !strings.Contains(err.Error(), "its /bin/sh is a program for riscv64") {
		t.Errorf("%v", err)
	}
}

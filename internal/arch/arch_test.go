package arch

import (
	"debug/elf"
	"testing"
)

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range All() {
		if seen[a.Name] || seen[a.QEMU] {
			t.Errorf("%s is there twice", a.Name)
		}
		seen[a.Name], seen[a.QEMU] = true, true
		if a.Machine == "" || a.CPU == "" || a.Console == "" || len(a.Kernels) == 0 || a.MaxCmdline < len(a.Cmdline) ||
			len(a.Packages) != len(AMD64.Packages) {
			t.Errorf("%s lacks something: %+v", a.Name, a)
		}
		for _, name := range []string{a.Name, a.Uname} {
			if got, err := Named(name); err != nil || got != a {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		if OfELF(a.ELF) != a || a.ImageMagic != "" && OfImage(a.ImageMagic) != a {
			t.Errorf("%s is not found by its files", a.Name)
		}
	}
}

func TestUnknown(t *testing.T) {
	if _, err := Named("vax"); err == nil || err.Error() !=
		"unknown architecture `vax` (valid: amd64, arm64, riscv64)" {
		t.Error(err)
	}
	if OfELF(elf.EM_VAX) != nil || OfImage("") != nil || OfImage("\x00\x00\x00\x00") != nil {
		t.Error("something was found")
	}
}

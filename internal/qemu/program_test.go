package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/arch"
)

func TestProgram(t *testing.T) {
	arm, err := arch.Named("arm64")
	if err != nil {
		t.Fatal(err)
	}
	path, beside, own := t.TempDir(), t.TempDir(), t.TempDir()
	for _, f := range []string{path + "/" + arm.QEMU, beside + "/" + arm.QEMU, own + "/my-qemu"} {
		if err := os.WriteFile(f, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", path)
	for given, want := range map[string]string{
		"":                                    arm.QEMU,
		"qemu-system-x86_64":                  arm.QEMU,
		filepath.Join(own, "my-qemu"):         filepath.Join(own, "my-qemu"),
		filepath.Join(own, arch.AMD64.QEMU):   arm.QEMU,
		beside + "/" + arch.AMD64.QEMU:        beside + "/" + arm.QEMU,
		beside + "/" + arm.QEMU:               beside + "/" + arm.QEMU,
		filepath.Join(beside, "qemu-missing"): "!no such file or directory (give the path of a qemu-system-aarch64",
	} {
		got, err := Program(given, arm)
		if missing, fails := strings.CutPrefix(want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), missing) {
				t.Errorf("%q: %v", given, err)
			}
		} else if got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", given, got, err, want)
		}
	}
	_, err = Program("", arch.AMD64)
	if err == nil || !strings.Contains(err.Error(), "Debian has it in qemu-system-x86") {
		t.Error(err)
	}
}

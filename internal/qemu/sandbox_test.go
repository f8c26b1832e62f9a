package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/proc"
)

// TestQEMUWithoutSandbox has a QEMU that was built without seccomp, and one on a kernel
// that refuses the filter.
func TestQEMUWithoutSandbox(t *testing.T) {
	for name, complains := range map[string]string{
		"old":       "-sandbox support is not enabled in this QEMU binary",
		"container": "failed to install seccomp syscall filter in the kernel",
	} {
		t.Run(name, func(t *testing.T) {
			s := proc.NewStarter()
			defer s.Close()
			dir := t.TempDir()
			binary, kernel, starts := filepath.Join(dir, "qemu"), filepath.Join(dir, "k"), filepath.Join(dir, "starts")
			script := `#!/bin/sh
case "$*" in
*-sandbox*) echo with >>` + starts + `; echo "qemu-system-x86_64: ` + complains + `" >&2; exit 1;;
esac
echo without >>` + starts + `
echo '{"QMP":{}}' >&4
read -r line <&4
id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
echo '{"return":{},"id":"'$id'"}' >&4
exec cat <&4
`
			for _, err := range []error{os.WriteFile(binary, []byte(script), 0o700), os.WriteFile(kernel, nil, 0o600)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			cfg := Config{Starter: s, Binary: binary, Dir: dir, Memory: 64 << 20, Kernel: kernel,
				Sandboxes: &Sandboxes{}}
			for range 2 {
				m, err := Start(context.Background(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				m.Kill()
				<-m.Done()
			}
			text, err := os.ReadFile(starts)
			if err != nil || string(text) != "with\nwithout\nwithout\n" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// TestOtherErrorsAreNotTheSandboxs has a QEMU that fails by itself: it is not started
// again.
func TestOtherErrorsAreNotTheSandboxs(t *testing.T) {
	s := proc.NewStarter()
	defer s.Close()
	dir := t.TempDir()
	binary, kernel, starts := filepath.Join(dir, "qemu"), filepath.Join(dir, "k"), filepath.Join(dir, "starts")
	script := "#!/bin/sh\necho start >>" + starts + "\necho 'qemu: no such machine' >&2\nexit 1\n"
	for _, err := range []error{os.WriteFile(binary, []byte(script), 0o700), os.WriteFile(kernel, nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var boxes Sandboxes
	_, err := Start(context.Background(), Config{Starter: s, Binary: binary, Dir: dir, Memory: 64 << 20,
		Kernel: kernel, Sandboxes: &boxes})
	var se *StartError
	if !errors.As(err, &se) || !strings.Contains(err.Error(), "no such machine") {
		t.Error(err)
	}
	if text, _ := os.ReadFile(starts); string(text) != "start\n" || boxes.lacks(binary) {
		t.Errorf("%q", text)
	}
}

package hostcheck

import (
	"context"
	"errors"
	"strings"

	"provium/internal/proc"
	"provium/internal/qemu"
)

// Sandbox checks whether QEMU can confine itself, by the QEMU that FindQEMU finds.
func Sandbox(ctx context.Context, h Host) Result {
	r := Result{Name: "sandbox"}
	found := FindQEMU(h)
	if found.Status != OK || found.Effect != "" {
		r.Found, r.Effect = "not checked", "there is no QEMU to ask, see above"
		return r
	}
	// It ends at once with the list, after it has confined itself.
	_, err := h.Programs.Run(ctx, found.Found, "-sandbox", qemu.SandboxOption, "-cpu", "help")
	if err == nil {
		r.Found = "QEMU's sandbox works"
		r.Effect = "a guest that takes over its QEMU can start no program and gain no privileges"
		return r
	}
	said := errorOutput(err)
	r.Status, r.Found = Note, "QEMU's sandbox does not work: "+said
	r.Effect = "guests run without it; QEMU still gains no privileges and has no capabilities"
	r.Remedy = "use a QEMU that was built with seccomp"
	if strings.Contains(said, "install") {
		r.Remedy = "in a container, allow seccomp filters (with Docker: the default profile does)"
	}
	return r
}

// errorOutput returns the last line that a failed program printed, or its error.
func errorOutput(err error) string {
	var failed *proc.RunError
	if errors.As(err, &failed) {
		lines := strings.Split(strings.TrimSpace(string(failed.Stderr)), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return last
		}
	}
	return err.Error()
}

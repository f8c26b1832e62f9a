package api

import (
	"strings"
	"testing"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
)

func TestRunResultTexts(t *testing.T) {
	ok := &guest.RunResult{Status: guest.Exited, Stdout: []byte("abc")}
	if err := commandError(ok); err != nil {
		t.Error(err)
	}
	if got := resultText(ok); got != "RunResult{ status=exited, stdout=<3 bytes>, stderr=<0 bytes> }" {
		t.Error(got)
	}
	for want, r := range map[string]*guest.RunResult{
		`command failed: status=exited code=3 stdout="a\n" stderr="\x00"`: {
			Status: guest.Exited, ExitCode: 3, Stdout: []byte("a\n"), Stderr: []byte{0},
		},

		`command failed: status=signalled signal=9 (SIGKILL) stdout="" stderr=""`: {
			Status: guest.Signalled, ExitCode: -1, Signal: 9,
		},

		`command failed: status=signalled signal=35 (SIGRTMIN+1) stdout="" stderr=""`: {
			Status: guest.Signalled, ExitCode: -1, Signal: 35,
		},

		`command failed: status=timed_out stdout="" stderr=""`: {
			Status: guest.TimedOut, ExitCode: -2,
		},
	} {
		if got := commandError(r); got == nil || got.Error() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	long := commandError(&guest.RunResult{ExitCode: 1, Stdout: []byte(strings.Repeat("x", 9000) + "end")}).Error()
	if !strings.Contains(long, `(9003 bytes) ...`) || !strings.Contains(long, `xend"`) {
		t.Error(long[:200])
	}
}

func TestConsoleHandlesAreComparable(t *testing.T) {
	// A handle is found again by its Go object, which so must be comparable.
	var _ map[lua.Value]int = map[lua.Value]int{lab.Console{}: 1, handle.Clock{}: 2}
}

package portable

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

func TestNumbersOfTheProtocol(t *testing.T) {
	for from, to := range numbers {
		if runtime.GOARCH == "amd64" && from != to {
			t.Errorf("call %d of the protocol is %d on x86-64", from, to)
		}
	}
}

func TestFlags(t *testing.T) {
	const all = wire.OpenDirectory | wire.OpenNoFollow | wire.OpenDirect
	want := int64(unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_DIRECT | unix.O_CLOEXEC | unix.O_RDWR)
	if got := flags(all | unix.O_CLOEXEC | unix.O_RDWR); got != want {
		t.Errorf("flags are %#x, want %#x", got, want)
	}
}

func TestCallsOfTestsStay(t *testing.T) {
	r := &wire.Syscall{Nr: 9999}
	if err := Call(r); err != nil || r.Nr != 9999 {
		t.Errorf("call %d, %v", r.Nr, err)
	}
}

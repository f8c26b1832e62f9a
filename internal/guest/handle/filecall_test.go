package handle

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/wire"
)

// TestFileCallsOfEveryActor has the agent and a worker do the operations that are one
// system call.
func TestFileCallsOfEveryActor(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			dir := "/" + name
			must(t, a.Mkdir(ctx, dir, false, guest.Perm{}))
			must(t, a.WriteFile(ctx, dir+"/f", []byte("text")))
			do := func(f guest.FileCall) []byte {
				t.Helper()
				data, err := a.FileCall(ctx, f)
				must(t, err)
				return data
			}
			do(guest.ChmodCall(dir+"/f", 0o4751))
			do(guest.TruncateCall(dir+"/f", 2))
			do(guest.LinkCall(dir+"/f", dir+"/g"))
			do(guest.ChownCall(dir+"/f", -1, -1, true))
			do(guest.SymlinkCall("some/where", dir+"/link"))
			do(guest.ChownCall(dir+"/link", int64(os.Getuid()), -1, false))
			if got := do(guest.ReadlinkCall(dir + "/link")); string(got) != "some/where" {
				t.Errorf("%q", got)
			}
			do(guest.MknodCall(dir+"/fifo", unix.S_IFIFO|0o622, 0, 0))
			info, err := a.Stat(ctx, dir+"/fifo", true)
			must(t, err)
			if info.Type != guest.TypeFIFO || info.Perm != 0o622 {
				t.Errorf("%+v", info)
			}
			info, err = a.Stat(ctx, dir+"/g", true)
			must(t, err)
			if info.Size != 2 || info.Nlink != 2 || info.Ino == 0 || info.UID != uint64(os.Getuid()) ||
				info.AtimeNS == 0 || info.CtimeNS == 0 {
				t.Errorf("%+v", info)
			}
			if zero, err := a.Stat(ctx, dir+"/f", true); err != nil || *zero != *info {
				t.Errorf("%+v, %+v, %v", zero, info, err)
			}
			long := strings.Repeat("v", 20000)
			if unix.Setxattr(vm.guest.path(dir+"/f"), "user.probe", nil, 0) == nil {
				do(guest.SetxattrCall(dir+"/f", "user.a", "one", true, 0))
				if got := do(guest.GetxattrCall(dir+"/f", "user.a", true)); string(got) != "one" {
					t.Errorf("%q", got)
				}
				if got := do(guest.GetxattrCall(dir+"/f", "user.probe", false)); got == nil || len(got) != 0 {
					t.Errorf("an empty attribute is %v", got)
				}
				if got := do(guest.GetxattrCall(dir+"/f", "user.none", true)); got != nil {
					t.Errorf("%q", got)
				}
				_, err := a.FileCall(ctx, guest.SetxattrCall(dir+"/f", "user.a", "two", true, unix.XATTR_CREATE))
				wantErrno(t, err, "setxattr", dir+"/f", unix.EEXIST)
			}
			// An attribute that is longer than what rides in a message of its own.
			for _, nr := range []int64{wire.CallGetxattr, wire.CallReadlinkat} {
				vm.guest.onSyscall(nr, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) {
					return int64(copy(bufs[len(bufs)-1], long)), 0
				})
			}
			if got := do(guest.GetxattrCall(dir+"/f", "user.long", true)); string(got) != long {
				t.Errorf("%d bytes", len(got))
			}
			for _, nr := range []int64{wire.CallGetxattr, wire.CallReadlinkat} {
				vm.guest.onSyscall(nr, nil)
			}

			_, err = a.FileCall(ctx, guest.ReadlinkCall(dir+"/f"))
			wantErrno(t, err, "readlink", dir+"/f", unix.EINVAL)
			_, err = a.FileCall(ctx, guest.LinkCall(dir+"/none", dir+"/x"))
			wantErrno(t, err, "link", dir+"/none -> "+dir+"/x", unix.ENOENT)
			wantError(t, err, "vm `a`: link ", "No such file or directory (ENOENT, os error 2) [errno 2]")
		})
	}
}

// TestFileCallThatLies has a kernel say that it returned more than there was room for.
func TestFileCallThatLies(t *testing.T) {
	vm, all := actors(t)
	vm.guest.onSyscall(wire.CallReadlinkat, func(*wire.Syscall, [][]byte) (int64, uint32) { return 1 << 40, 0 })
	_, err := all["worker"].FileCall(t.Context(), guest.ReadlinkCall("/f"))
	wantError(t, err, "readlink /f: the guest's kernel says that it returned 1099511627776 of at most 4096 bytes")
}

package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/script/apitest"
)

// calls remembers the system calls that a guest got.
type calls struct {
	mu  sync.Mutex
	all []string
}

// on has a call answered with a text in its last buffer, or an errno.
func (c *calls) on(m *fakemachine.Machine, call guest.FileCall, name, answer string, errno uint32) {
	m.OnSyscall(call.Call().Nr, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) {
		var args []string
		for _, b := range s.Bufs {
			if text := strings.TrimRight(string(b), "\x00"); text != "" || len(b) < 100 {
				args = append(args, text)
			}
		}
		for _, n := range s.Args {
			if n != 0 && n != 64<<10 && n != unix.PathMax {
				args = append(args, fmt.Sprintf("%#x", n))
			}
		}
		c.mu.Lock()
		c.all = append(c.all, name+"("+strings.Join(args, ",")+")")
		c.mu.Unlock()
		if errno != 0 {
			return -1, errno
		}
		if answer != "" {
			return int64(copy(s.Bufs[len(s.Bufs)-1], answer)), 0
		}
		return 0, 0
	})
}

func (c *calls) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := strings.Join(c.all, " ")
	c.all = nil
	return out
}

// TestFileCalls has every operation that is one system call arrive as that call, on the
// VM, on a worker and in a batch.
func TestFileCalls(t *testing.T) {
	h, machines := newHost(t)
	var seen calls
	machines.Prepare(func(m *fakemachine.Machine) {
		for name, call := range map[string]guest.FileCall{
			"fchmodat":  guest.ChmodCall("", 0),
			"fchownat":  guest.ChownCall("", 0, 0, true),
			"symlinkat": guest.SymlinkCall("", ""),
			"linkat":    guest.LinkCall("", ""),
			"mknodat":   guest.MknodCall("", 0, 0, 0),
			"truncate":  guest.TruncateCall("", 0),
			"setxattr":  guest.SetxattrCall("", "", "", true, 0),
			"lsetxattr": guest.SetxattrCall("", "", "", false, 0),
			"umount":    guest.UmountCall("", 0),
		} {
			seen.on(m, call, name, "", 0)
		}
		seen.on(m, guest.ReadlinkCall(""), "readlinkat", "to\xff", 0)
		seen.on(m, guest.GetxattrCall("", "", true), "getxattr", "value", 0)
		seen.on(m, guest.GetxattrCall("", "", false), "lgetxattr", "", uint32(unix.ENODATA))
	})
	s := apitest.New(t, h)
	const each = `
		b:chmod("/f", 0x1ed) b:chown("/f", 1, -1) b:chown("/f", 0, 0, {follow = false})
		b:symlink("to", "/l") b:readlink("/l") b:link("/f", "/g")
		b:mknod("/n", {type = "char", major = 1, minor = 0x103}) b:mknod("/p", {type = "fifo", perm = 0x1b6})
		b:truncate("/f", 5) b:getxattr("/f", "user.a") b:getxattr("/f", "user.b", {follow = false})
		b:setxattr("/f", "user.a", "v", {create = true}) b:setxattr("/f", "user.a", "", {follow = false, replace = true})
		b:umount("/m", {lazy = true, force = true})`
	const want = `fchmodat(/f,-0x64,0x1ed) fchownat(/f,-0x64,0x1,-0x1) fchownat(/f,-0x64,0x100) ` +
		`symlinkat(to,/l,-0x64) readlinkat(/l,-0x64) linkat(/f,/g,-0x64,-0x64) ` +
		`mknodat(/n,-0x64,0x21a4,0x100103) mknodat(/p,-0x64,0x11b6) truncate(/f,0x5) ` +
		`getxattr(/f,user.a) lgetxattr(/f,user.b) setxattr(/f,user.a,v,0x1,0x1) lsetxattr(/f,user.a,,0x2) ` +
		`umount(/m,0x3)`
	for name, text := range map[string]string{
		"vm":     `local b = vm ` + each,
		"worker": `local b = vm:spawn_worker() ` + each,
		"batch": `local r = vm:batch(function(b) ` + each + ` end)
			eq(r[5].ok, "to\xff") eq(r[11].ok, nil) eq(r[11].err, nil)`,
	} {
		if err := s.Run(strings.ReplaceAll(booted, "n1", name) + text); err != nil {
			t.Error(err)
		}
		if got := seen.take(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	if err := s.Run(booted + `eq(vm:readlink("/l"), "to\xff") eq(vm:getxattr("/f", "user.a"), "value")
		eq(select("#", vm:getxattr("/f", "user.b", {follow = false})), 1)
		eq(select("#", vm:chmod("/f", 0)), 0)`); err != nil {
		t.Error(err)
	}
}

func TestMounts(t *testing.T) {
	h, machines := newHost(t)
	var seen calls
	machines.Prepare(func(m *fakemachine.Machine) {
		seen.on(m, guest.UmountCall("", 0), "umount", "", 0)
		mount := guest.MountCall("", "", "", 0, "").Call().Nr
		m.OnSyscall(mount, func(_ context.Context, s *fakemachine.Syscall) (int64, uint32) {
			var text []string
			for _, b := range s.Bufs {
				text = append(text, strings.TrimRight(string(b), "\x00"))
			}
			seen.mu.Lock()
			defer seen.mu.Unlock()
			seen.all = append(seen.all, fmt.Sprintf("mount(%s,%#x)", strings.Join(text, ","), s.Args[3]))
			if text[0] == "/fails" && s.Args[3]&unix.MS_REMOUNT != 0 {
				return -1, uint32(unix.EPERM)
			}
			return 0, 0
		})
	})
	s := apitest.New(t, h)
	for i, tc := range []struct{ text, want string }{
		{`vm:mount("tmpfs", "/m", "tmpfs")`, "mount(tmpfs,/m,tmpfs,0x0)"},
		{`vm:mount("tmpfs", "/m", "tmpfs", {options = "ro,size=64k,nosuid,rw,,mode=0700", timeout = "1m"})`,
			"mount(tmpfs,/m,tmpfs,size=64k,mode=0700,0x2)"},
		{`vm:mount("/a", "/m", nil, {options = "rbind"})`, "mount(/a,/m,,0x5000)"},
		{`vm:mount("/a", "/m", nil, {options = "bind,ro"})`, "mount(/a,/m,,0x1000) mount(/a,/m,,0x1021)"},
		{`vm:mount("none", "/m", nil, {options = "rprivate"})`, "mount(none,/m,,0x44000)"},
		{`refused("vm ` + "`v6`" + `: mount /fails -> /m: Operation not permitted (EPERM, os error 1) [errno 1]",
			vm.mount, vm, "/fails", "/m", nil, {options = "bind,ro"})`,
			"mount(/fails,/m,,0x1000) mount(/fails,/m,,0x1021) umount(/m,0x2)"},
		{`eq(vm:batch(function(b) b:mount("a", "/m", "proc", {options = "noexec"}) end)[1].err, nil)`,
			"mount(a,/m,proc,0x8)"},
		{`refused("not possible in a batch (use vm:mount)", vm.batch, vm,
			function(b) b:mount("/a", "/m", nil, {options = "bind,ro"}) end)`, ""},
		{`refused("argument 3 (fstype) is missing", vm.mount, vm, "/a", "/m")`, ""},
		{`refused("opts.options ` + "`bind,private`" + `: shared, private, slave and unbindable need a mount call",
			vm.mount, vm, "/a", "/m", nil, {options = "bind,private"})`, ""},
		{`refused("opts.options holds a NUL byte", vm.mount, vm, "/a", "/m", "x", {options = "a\0b"})`, ""},
		{`refused("opts.options has 5000 bytes", vm.mount, vm, "/a", "/m", "x", {options = ("x"):rep(5000)})`, ""},
	} {
		if err := s.Run(strings.ReplaceAll(booted, "n1", fmt.Sprint("v", i+1)) + tc.text); err != nil {
			t.Error(err)
		}
		if got := seen.take(); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.text, got, tc.want)
		}
	}
}

// TestFileCallArguments has what users get wrong refused before anything is sent.
func TestFileCallArguments(t *testing.T) {
	apitest.Check(t, host, booted, map[string]string{
		`vm:chmod("/f")`:              "argument 2 (mode) must be an integer, got nil",
		`vm:chmod("/f", 0x1000)`:      "argument 2 (mode) must be between 0 and 4095, got 4096",
		`vm:chmod("/f", 0.5)`:         "argument 2 (mode) must be an integer, got 0.5",
		`vm:chmod("", 0)`:             "argument 1 (path) must not be empty",
		`vm:chmod("/f", 0, {perm=1})`: "unknown option `perm` (valid: timeout)",
		`vm:chown("/f", 0)`:           "argument 3 (gid) must be an integer, got nil",
		`vm:chown("/f", -2, 0)`:       "argument 2 (uid) must be between -1 and 4294967294, got -2",
		`vm:symlink("a\0b", "/f")`:    "argument 1 (target) holds a NUL byte",
		`vm:link("/f")`:               "argument 2 (path) must be a string, got nil",
		`vm:mknod("/f")`:              "argument 2 (opts) must be a table such as {type = \"char\"",

		`vm:mknod("/f", {})`:                         "opts.type is missing (valid: char, block, fifo, socket, file)",
		`vm:mknod("/f", {type = "char", major = 1})`: "opts.minor belongs to type `char` and `block`",
		`vm:mknod("/f", {type = "fifo", minor = 1})`: "and to no other; the type is `fifo`",

		`vm:mknod("/f", {type = "block", major = 4096, minor = 0})`: "opts.major must be between 0 and 4095, got 4096",

		`vm:truncate("/f", -1)`: "argument 2 (size) must be between 0 and",
		`vm:getxattr("/f")`:     "argument 2 (name) must be a string, got nil",

		`vm:setxattr("/f", "user.a", ("x"):rep(65537))`: "argument 3 (value) has 65537 bytes, at most 65536",

		`vm:umount("/m", {detach = true})`: "unknown option `detach` (valid: lazy, force, timeout)",

		`vm:batch(function(b) b:chmod("/f", "x") end)`: "batch:chmod: argument 2 (mode) must be an integer, got string",

		`vm:batch(function(b) b:readlink("/f", {timeout=1}) end)`: "unknown option `timeout`",
	})
}

// TestFileCallTimeouts has each call end at its limit, with the VM and the path.
func TestFileCallTimeouts(t *testing.T) {
	h, machines := newHost(t)
	machines.Prepare(func(m *fakemachine.Machine) {
		for _, call := range []guest.FileCall{guest.ChmodCall("", 0), guest.MountCall("", "", "", 0, ""),
			guest.ReadlinkCall("")} {
			m.OnSyscall(call.Call().Nr, func(ctx context.Context, _ *fakemachine.Syscall) (int64, uint32) {
				<-ctx.Done()
				return -1, uint32(unix.EINTR)
			})
		}
	})
	s := apitest.New(t, h)
	if err := s.Run(booted + `
		local limit = {timeout = "10ms"}
		for name, by in pairs{vm = vm, worker = vm:spawn_worker()} do
			refused("vm ` + "`n1`" + `: chmod /f: timed out after 10ms", by.chmod, by, "/f", 0, limit)
			refused("vm ` + "`n1`" + `: mount a -> /m: timed out after 10ms", by.mount, by, "a", "/m", "x", limit)
			refused("vm ` + "`n1`" + `: readlink /l: timed out after 1ns", by.readlink, by, "/l", {timeout = 0})
		end
	`); err != nil {
		t.Error(err)
	}
}

package api_test

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/script/apitest"
)

// Every operation on files takes a timeout. At its end the error names the VM, the
// operation, the path and the limit.
func TestFileTimeouts(t *testing.T) {
	h, machines := newHost(t)
	machines.Prepare(func(m *fakemachine.Machine) {
		m.Block("read_file", "write_file", "stat", "listdir", "mkdir", "unlink", "rename", "tail_file")
		m.OnSyscall(unix.SYS_OPENAT, func(ctx context.Context, _ *fakemachine.Syscall) (int64, uint32) {
			<-ctx.Done()
			return -1, uint32(unix.EINTR)
		})
	})
	s := apitest.New(t, h)
	if err := s.Run(booted + `
		local limit = {timeout = "10ms"}
		refused("vm ` + "`n1`" + `: read_file /f: timed out after 10ms", vm.read_file, vm, "/f", limit)
		refused("vm ` + "`n1`" + `: read_file /f: timed out after 1ns", vm.read_file, vm, "/f", {timeout = 0})
		refused("write_file /f: timed out after 10ms", vm.write_file, vm, "/f", "x", limit)
		refused("stat /f: timed out", vm.stat, vm, "/f", {follow = false, timeout = 0.01})
		refused("listdir /f: timed out", vm.listdir, vm, "/f", limit)
		refused("mkdir /f: timed out", vm.mkdir, vm, "/f", {parents = true, timeout = "10ms"})
		refused("unlink /f: timed out", vm.unlink, vm, "/f", limit)
		refused("rename /f -> /g: timed out", vm.rename, vm, "/f", "/g", limit)
		refused("vm ` + "`n1`" + `: open_file /f: timed out after 10ms", vm.open_file, vm, "/f", {read = true, timeout = "10ms"})
		refused("vm ` + "`n1`" + `: tail_file /f: timed out after 10ms", vm.tail_file, vm, "/f", limit)
		refused("vm ` + "`n1`" + `: batch: timed out after 10ms", vm.batch, vm, function(b) b:read_file("/f") end, limit)
		refused("unknown option ` + "`timout`" + ` (valid: timeout)", vm.read_file, vm, "/f", {timout = 1})
		refused("opts.timeout", vm.read_file, vm, "/f", {timeout = -1})
		refused("opts.timeout", vm.write_file, vm, "/f", "x", {timeout = "soon"})
	`); err != nil {
		t.Error(err)
	}
}

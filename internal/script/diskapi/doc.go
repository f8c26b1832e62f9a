// Package diskapi is the Lua API of disks: attaching and detaching, sectors, faults, power
// cuts, recordings, and the explorations that run a function of the test on one content of
// a disk after the other (crash_points and sweep).
//
// It has no logic of disks: it checks arguments, calls package lab and turns results into
// Lua values. What it needs of the running test is behind binding.Runner and Execution.
//
// Start with Open, which lists the methods, then checkers.go for the explorations.
package diskapi

import (
	"maps"

	"provium/internal/disk"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// env is what the methods get.
type env struct {
	*binding.Env
	running func() (Execution, error)
}

// Execution is the running chunk or test body, as an exploration sees it.
type Execution interface {
	// Parallel runs work in n tasks and returns the error of the task that failed first.
	// what names the tasks in tracebacks.
	Parallel(c *lua.Call, what string, n int, work func(c *lua.Call, i int) error) error
	// Try calls fn, whose failures do not fail the test: failure is the text of its error,
	// "" without one. err is what ends the test, such as its time limit. Meanwhile text is
	// shown as what goes on at the line where, on vm.
	Try(c *lua.Call, text, where string, vm *lab.VM, fn *lua.Function, values ...lua.Value) (results []lua.Value,
		failure string, err error)
	// Findings takes the failures of a guest's kernel and describes those that count.
	Findings(c *lua.Call, vm *lab.VM) ([]string, error)
	// Fail fails the test and returns the error to raise.
	Fail(c *lua.Call, text string) error
}

// Open makes the types of disks and recordings, and returns the methods that VMs have. It
// calls running for the execution that a method is called by.
func Open(shared *binding.Env, running func() (Execution, error)) (vm map[string]lua.GoFunc) {
	x := &env{shared, running}
	x.Types.Disk = newDiskType(x)
	x.Types.Recording = newRecordingType(x)
	return binding.MethodTable(x, "vm", map[string]binding.Method[*env, *lab.VM]{
		"attach_disk": vmAttachDisk,
		"disk":        vmDisk,
	})
}

func diskMethods() map[string]diskMethod {
	methods := map[string]diskMethod{
		"id":   func(_ *env, _ value.Args, d *disk.Disk) ([]lua.Value, error) { return []lua.Value{d.ID()}, nil },
		"size": func(_ *env, _ value.Args, d *disk.Disk) ([]lua.Value, error) { return []lua.Value{d.Size()}, nil },
		"is_detached": func(_ *env, _ value.Args, d *disk.Disk) ([]lua.Value, error) {
			return []lua.Value{d.IsDetached()}, nil
		},
		"detach":        diskDetach,
		"read_sectors":  diskReadSectors,
		"write_sectors": diskWriteSectors,
	}
	maps.Copy(methods, diskFaultMethods())
	maps.Copy(methods, diskRuleMethods())
	maps.Copy(methods, diskCrashMethods())
	return methods
}

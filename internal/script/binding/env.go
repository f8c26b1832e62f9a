package binding

import (
	"context"
	"errors"

	"provium/internal/disk"
	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// Runner is the execution of a chunk or test body, as the methods of the API see it. Its
// methods must be called with the baton of the Lua state held.
type Runner interface {
	// Op carries out the blocking operation that a call asks for, without the baton. The
	// operation appears in failure reports with the text of the call. on is the VM that it
	// concerns, or nil. Op returns ErrIdle outside of the chunk and of test bodies.
	Op(a value.Args, on handle.VM, do func(ctx context.Context) error) error
	// Returned is called when a method has returned values, or the error err. object is that
	// of the handle.
	Returned(a value.Args, object any, values []lua.Value, err error)
	// Touch records that the execution concerns VMs: a failure report shows their consoles.
	Touch(vms ...*lab.VM)
	// Warn puts a warning into the log of the test.
	Warn(text string)
	// Ended returns the error of a call on a VM, bridge or lab whose scope has ended, nil
	// while it lasts.
	Ended(a value.Args, kind, name string, object any) error
	// Own registers a resource to be closed with the running scope. Disown takes it off.
	Own(kind Kind, r Resource)
	Disown(kind Kind, r Resource)
	// Site returns the line of the test file that calls.
	Site(c *lua.Call) stream.Site
	// Root is the lab of file scope, Scope the one of the running test, or else Root.
	Root() *lab.Lab
	Scope() *lab.Lab
	// Seed is the seed of the run.
	Seed() uint64
	// BesideFile makes a path absolute that starts at the directory of the Lua file which
	// contains the call.
	BesideFile(c *lua.Call, path string) string
	// InProject makes a path absolute that starts at the project.
	InProject(path string) string
}

// ErrIdle is returned for an operation outside of the chunk and of test bodies, as in a
// finalizer that runs while the file is closed.
var ErrIdle = errors.New("no test is running")

// Types are the types of the handles in one Lua state. Each is set by the package that has
// its methods.
type Types struct {
	Lab, VM, Result, Console, Clock, Batch, Snapshot, LabSnapshot *lua.Type // of package api
	Process, Stream, File, Worker, Call                           *lua.Type // of package api
	Screen, Keyboard                                              *lua.Type // of package machineapi
	Disk, Recording                                               *lua.Type // of package diskapi
	Bridge, NIC, Port, DHCPServer, RAServer, DNSServer            *lua.Type // of package netapi
}

// Env is what all methods of the API in one Lua state get.
type Env struct {
	Runner
	State *lua.State
	Types Types
}

// VM returns the handle of a VM.
func (x *Env) VM(vm *lab.VM) lua.Value { return x.State.NewUserdata(x.Types.VM, vm) }

// Disk returns the handle of a disk.
func (x *Env) Disk(d *disk.Disk) lua.Value { return x.State.NewUserdata(x.Types.Disk, d) }

// Bridge returns the handle of a bridge.
func (x *Env) Bridge(b *network.Bridge) lua.Value { return x.State.NewUserdata(x.Types.Bridge, b) }

// NIC returns the handle of a NIC.
func (x *Env) NIC(n *network.NIC) lua.Value { return x.State.NewUserdata(x.Types.NIC, n) }

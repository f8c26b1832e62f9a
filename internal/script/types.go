package script

import (
	"context"
	"errors"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// types are the kinds of userdata of one file's state.
type types struct {
	test, lab, vm, result, console, clock, batch, snapshot, labSnapshot, process, stream, file, worker, call, disk, recording, bridge, nic *lua.Type
}

func (f *file) newTypes() types {
	return types{
		test:        f.newTestType(),
		lab:         f.newLabType(),
		vm:          f.newVMType(),
		result:      f.newResultType(),
		console:     f.newConsoleType(),
		clock:       f.newClockType(),
		batch:       f.newBatchType(),
		snapshot:    f.newSnapshotType(),
		labSnapshot: f.newLabSnapshotType(),
		bridge:      f.newBridgeType(),
		nic:         f.newNICType(),
		process:     f.newProcessType(),
		stream:      f.newStreamType(),
		file:        f.newFileType(),
		worker:      f.newWorkerType(),
		call:        f.newCallType(),
		disk:        f.newDiskType(),
		recording:   f.newRecordingType(),
	}
}

// errIdle is the error of an operation outside of the chunk and of test bodies, as in a
// finalizer that runs while the file is closed.
var errIdle = errors.New("no test is running")

// op carries out the blocking operation the call asks for. Meanwhile the other threads of
// the state go on, and the operation can be cancelled. It is recorded for failure reports.
// vm may be nil.
func (f *file) op(a value.Args, on lab.HandleVM, do func(ctx context.Context) error) error {
	vm, _ := on.(*lab.VM)
	e := f.current
	if e == nil {
		return errIdle
	}
	if vm != nil && a.Func != "vm:shutdown" && a.Func != "vm:close" {
		if err := f.ended(a, "vm", vm.Name(), vm); err != nil {
			return err
		}
	}
	record := operation{text: describe(a.Func, a.Values...), where: a.Call.CallerFile().String()}
	if vm != nil {
		record.vm = vm.Name()
		e.touch(vm)
	}
	end := e.trace.begin(record)
	err := a.Call.Block(do)
	end(err != nil)
	return err
}

// methodTable makes the methods of a type whose objects are of Go type T.
func methodTable[T any](f *file, typ string, methods map[string]func(*file, value.Args, T) ([]lua.Value, error)) map[string]lua.GoFunc {
	table := map[string]lua.GoFunc{}
	for name, method := range methods {
		table[name] = func(c *lua.Call) ([]lua.Value, error) {
			return method(f, value.MethodArgs(c, typ+":"+name), object(c).(T))
		}
	}
	return table
}

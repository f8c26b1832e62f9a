package api

import (
	"context"
	"time"

	"provium/internal/fixture"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/diskapi"
	"provium/internal/script/fixtures"
	"provium/internal/script/machineapi"
	"provium/internal/script/netapi"
	"provium/internal/script/osapi"
	"provium/internal/script/value"
)

// Settings are the names that can be assigned on provium.
const Settings = "timeout, reset_between_tests"

// Session is the Lua state of a test file or of a fixture that is built, as the API sees it.
type Session interface {
	binding.Runner
	// Running returns the running chunk or test body, or binding.ErrIdle.
	Running() (diskapi.Execution, error)
	// Build is the build of the fixture that the session is for, nil for a test file.
	Build() *fixtures.Build
	// FindFixture returns the source of a fixture.
	FindFixture(name string) (fixture.Source, error)
	// RestoreFixture calls restore with a valid entry of a fixture, which is built first
	// when the cache has no valid one. It is called without the baton.
	RestoreFixture(ctx context.Context, source fixture.Source, kind fixture.Kind,
		restore func(*fixture.Entry) error) error
	// Claim makes the one claim of the file; zero is what was not given.
	Claim(a value.Args, l *lab.Lab, memory int64, cpus int) error
	// Barrier waits at the barrier of a lab until count tasks have come.
	Barrier(a value.Args, l *lab.Lab, name string, count int, limit time.Duration) error
	// Assign is provium.<key> = v. Setting returns what was assigned.
	Assign(key, v lua.Value) error
	Setting(name string) (v lua.Value, ok bool)
}

// env is what the methods get.
type env struct {
	*binding.Env
	session Session
	provium *lua.Userdata
	packing map[string]*lua.Function // lab.pack and lab.unpack
}

// Open makes the API in a Lua state and returns the value of the global `provium`.
func Open(s *lua.State, session Session) (provium *lua.Userdata, err error) {
	x := &env{Env: &binding.Env{Runner: session, State: s}, session: session}
	if x.packing, err = packFunctions(x); err != nil {
		return nil, err
	}
	t := &x.Types
	t.Result = newResultType()
	t.Console = newConsoleType(x)
	t.Clock = newClockType(x)
	t.Batch = newBatchType()
	t.Snapshot = newSnapshotType(x)
	t.LabSnapshot = newLabSnapshotType(x)
	t.Process = newProcessType(x)
	t.Stream = newStreamType(x)
	t.File = newFileType(x)
	t.Worker = newWorkerType(x)
	t.Call = newCallType(x)
	t.VM = newVMType(x, diskapi.Open(x.Env, session.Running), netapi.Open(x.Env),
		machineapi.Open(x.Env), osapi.Methods(x.Env))
	t.Lab = newLabType(x)
	x.provium = s.NewUserdata(t.Lab, &rootLab{x})
	return x.provium, nil
}

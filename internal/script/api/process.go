package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
	"provium/internal/stream"
)

type processMethod = binding.Method[*env, *handle.Process]

func newProcessType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "process",
		ToString: func(_ *lua.Call, obj any) string { return obj.(*handle.Process).String() },
		Methods: binding.MethodTable(x, "proc", map[string]processMethod{
			"wait":          procWait,
			"kill":          procKill,
			"signal":        procSignal,
			"status":        procStatus,
			"pid":           procPID,
			"stdin_write":   procStdinWrite,
			"stdout_stream": procOutput(false),
			"stderr_stream": procOutput(true),
			"handle": func(_ *env, _ value.Args, p *handle.Process) ([]lua.Value, error) {
				return []lua.Value{int64(p.Handle())}, nil
			},
			"close_stdin": func(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
				return nil, x.Op(a, p.VM(), p.CloseStdin)
			},
			"close": func(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
				x.Disown(binding.ProcessResource, p)
				return nil, x.Op(a, p.VM(), p.Close)
			},
		}),
	}
}

// startProcess reads the arguments of run_async and returns the handle of the process.
func startProcess(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	if t, ok := a.Value(2).(*lua.Table); ok {
		for _, key := range []string{"timeout", "timeout_ms"} {
			if t.Get(key) != nil {
				return nil, a.Errorf("opts.%s is not possible here: a process runs until it ends or is ended "+
					"(use proc:wait(timeout))", key)
			}
		}
	}
	request, err := runRequest(a)
	if err != nil {
		return nil, err
	}
	var p *handle.Process
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		p, err = by.RunAsync(ctx, request)
		return explainMissing(ctx, by, request, &guest.RunResult{}, err)
	})
	if err != nil {
		return nil, err
	}
	x.Own(binding.ProcessResource, p)
	return []lua.Value{x.State.NewUserdata(x.Types.Process, p)}, nil
}

func procWait(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
	var limit time.Duration
	if a.Value(1) != nil {
		var err error
		if limit, err = a.Duration(1, "timeout", 0); err != nil {
			return nil, err
		}
		if limit == 0 {
			return nil, a.Errorf("timeout=0 would SIGKILL the process at once; " +
				"proc:status() tells how it is without waiting")
		}
	}
	var r *guest.RunResult
	err := x.Op(a, p.VM(), func(ctx context.Context) (err error) {
		r, err = p.Wait(ctx, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{resultHandle(x, r)}, nil
}

// signals are the names of signals that tests may use.
var signals = map[string]int{"hup": 1, "int": 2, "quit": 3, "kill": 9, "usr1": 10, "usr2": 12, "pipe": 13,
	"alrm": 14, "term": 15, "chld": 17, "cont": 18, "stop": 19, "winch": 28}

// maxSignal is Linux's highest signal.
const maxSignal = 64

// signalArg reads a signal: a number, also in a string, or a name.
func signalArg(a value.Args, absent int) (int, error) {
	var n int64
	switch v := a.Value(1).(type) {
	case nil:
		if absent == 0 {
			return 0, a.Errorf("signal must be int or string, got nil")
		}
		return absent, nil
	case int64, float64:
		var ok bool
		if n, ok = value.ToInteger(v); !ok {
			return 0, a.Errorf("signal must be int or string, got %s", value.Format(v))
		}
	case string:
		if known, ok := signals[strings.TrimPrefix(strings.ToLower(v), "sig")]; ok {
			return known, nil
		}
		var err error
		if n, err = strconv.ParseInt(v, 10, 64); err != nil {
			return 0, a.Errorf("unknown signal name `%s` (a number from 1 to %d, or a name "+
				"such as term, kill, int, hup, usr1)", value.Clip(v, 80), maxSignal)
		}
	default:
		return 0, a.Errorf("signal must be int or string, got %s", lua.TypeName(v))
	}
	if n < 1 || n > maxSignal {
		return 0, a.Errorf("signal must be between 1 and %d, got %d", maxSignal, n)
	}
	return int(n), nil
}

func procKill(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
	signal, err := signalArg(a, signals["term"])
	return nil, sendSignal(x, a, p, signal, err)
}

func procSignal(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
	signal, err := signalArg(a, 0)
	return nil, sendSignal(x, a, p, signal, err)
}

func sendSignal(x *env, a value.Args, p *handle.Process, signal int, err error) error {
	if err != nil {
		return err
	}
	return x.Op(a, p.VM(), func(ctx context.Context) error { return p.Signal(ctx, a.Func, signal) })
}

func processStatus(x *env, a value.Args, p *handle.Process) (status string, pid int, err error) {
	err = x.Op(a, p.VM(), func(ctx context.Context) (err error) {
		status, pid, err = p.Status(ctx, a.Func)
		return err
	})
	return status, pid, err
}

func procStatus(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
	status, _, err := processStatus(x, a, p)
	return value.Results(err, status)
}

func procPID(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
	_, pid, err := processStatus(x, a, p)
	return value.Results(err, int64(pid))
}

func procStdinWrite(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
	data, err := a.Str(1, "data")
	if err != nil {
		return nil, err
	}
	var n int
	err = x.Op(a, p.VM(), func(ctx context.Context) (err error) {
		n, err = p.WriteStdin(ctx, []byte(data))
		return err
	})
	return value.Results(err, int64(n))
}

func procOutput(stderr bool) processMethod {
	return func(x *env, a value.Args, p *handle.Process) ([]lua.Value, error) {
		return x.OpenStream(a, p.VM(), func(ctx context.Context, site stream.Site) (*stream.Stream, error) {
			return p.Output(ctx, stderr, site)
		})
	}
}

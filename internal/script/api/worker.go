package api

import (
	"context"
	"maps"

	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

func vmSpawnWorker(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	thread, err := o.Bool("thread", false)
	if err != nil {
		return nil, err
	}
	if thread {
		return nil, a.Errorf("`thread=true` is not yet supported (use parallel{...} to do several things at once)")
	}
	var w *handle.Worker
	err = x.Op(a, vm, func(ctx context.Context) (err error) {
		w, err = vm.SpawnWorker(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	x.Own(binding.WorkerResource, w)
	return []lua.Value{x.State.NewUserdata(x.Types.Worker, w)}, nil
}

type workerMethod = binding.Method[*env, *handle.Worker]

func newWorkerType(x *env) *lua.Type {
	t := &lua.Type{
		Name:     "worker",
		ToString: func(_ *lua.Call, obj any) string { return obj.(*handle.Worker).String() },
		Methods: binding.MethodTable(x, "worker", map[string]workerMethod{
			"kill": workerKill,
			"join": func(x *env, a value.Args, w *handle.Worker) ([]lua.Value, error) {
				var code int
				err := x.Op(a, w.VM(), func(ctx context.Context) (err error) {
					code, err = w.Join(ctx)
					return err
				})
				return value.Results(err, int64(code))
			},
			"handle": func(_ *env, _ value.Args, w *handle.Worker) ([]lua.Value, error) {
				return []lua.Value{int64(w.Handle())}, nil
			},
			"close": func(x *env, a value.Args, w *handle.Worker) ([]lua.Value, error) {
				x.Disown(binding.WorkerResource, w)
				return nil, x.Op(a, w.VM(), w.Close)
			},
		}),
	}
	maps.Copy(t.Methods, guestMethods[*handle.Worker](x, "worker"))
	return t
}

func workerKill(x *env, a value.Args, w *handle.Worker) ([]lua.Value, error) {
	signal, err := signalArg(a, signals["term"])
	if err != nil {
		return nil, err
	}
	return nil, x.Op(a, w.VM(), func(ctx context.Context) error { return w.Kill(ctx, signal) })
}

package script

import (
	"context"
	"maps"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

func (f *file) vmSpawnWorker(a value.Args, vm *lab.VM) ([]lua.Value, error) {
	o, err := a.Options(1, "thread")
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
	var w *lab.Worker
	err = f.op(a, vm, func(ctx context.Context) (err error) {
		w, err = vm.SpawnWorker(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	f.own(workerResource, w)
	return []lua.Value{f.state.NewUserdata(f.types.worker, w)}, nil
}

type workerMethod = func(f *file, a value.Args, w *lab.Worker) ([]lua.Value, error)

func (f *file) newWorkerType() *lua.Type {
	t := &lua.Type{
		Name:     "worker",
		ToString: func(_ *lua.Call, obj any) string { return obj.(*lab.Worker).String() },
		Methods: methodTable(f, "worker", map[string]workerMethod{
			"kill": (*file).workerKill,
			"join": func(f *file, a value.Args, w *lab.Worker) ([]lua.Value, error) {
				var code int
				err := f.op(a, w.VM(), func(ctx context.Context) (err error) {
					code, err = w.Join(ctx)
					return err
				})
				return value.Results(err, int64(code))
			},
			"handle": func(_ *file, _ value.Args, w *lab.Worker) ([]lua.Value, error) {
				return []lua.Value{int64(w.Handle())}, nil
			},
			"close": func(f *file, a value.Args, w *lab.Worker) ([]lua.Value, error) {
				f.disown(workerResource, w)
				return nil, f.op(a, w.VM(), w.Close)
			},
		}),
	}
	maps.Copy(t.Methods, guestMethods[*lab.Worker](f, "worker"))
	return t
}

func (f *file) workerKill(a value.Args, w *lab.Worker) ([]lua.Value, error) {
	signal, err := signalArg(a, signals["term"])
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, w.VM(), func(ctx context.Context) error { return w.Kill(ctx, signal) })
}

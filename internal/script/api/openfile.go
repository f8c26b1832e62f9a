package api

import (
	"context"

	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// openFile is open_file(path, mode) of a VM or worker.
func openFile(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	if _, ok := a.Value(2).(*lua.Table); !ok {
		return nil, a.TypeError(2, "mode", "a table such as {read = true}")
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	mode := handle.FileMode{Perm: 0o644}
	for key, to := range map[string]*bool{"read": &mode.Read, "write": &mode.Write, "append": &mode.Append,
		"create": &mode.Create, "truncate": &mode.Truncate, "exclusive": &mode.Exclusive} {
		if *to, err = o.Bool(key, false); err != nil {
			return nil, err
		}
	}
	if !mode.Read && !mode.Write && !mode.Append {
		return nil, a.Errorf("the mode needs at least one of read, write, append, as in {read = true}")
	}
	bits, err := o.Mode("perm")
	if err != nil {
		return nil, err
	}
	if bits != nil {
		mode.Perm, mode.Exact = *bits, true
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	var opened *handle.File
	err = limitedOp(x, a, by.VM(), limit, func(ctx context.Context) (err error) {
		opened, err = by.AsActor().OpenFile(ctx, path, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	x.Own(binding.FileResource, opened)
	return []lua.Value{x.State.NewUserdata(x.Types.File, opened)}, nil
}

type fileMethod = binding.Method[*env, *handle.File]

func newFileType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "file",
		ToString: func(_ *lua.Call, obj any) string { return obj.(*handle.File).String() },
		Methods: binding.MethodTable(x, "file", map[string]fileMethod{
			"read":     fileRead,
			"read_all": fileReadAll,
			"write":    fileWrite,
			"seek":     fileSeek,
			"tell": func(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
				return seek(x, a, g, "tell", 0, 1)
			},
			"fd": func(_ *env, _ value.Args, g *handle.File) ([]lua.Value, error) { return []lua.Value{g.FD()}, nil },
			"tail_stream": func(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
				return x.OpenStream(a, g.VM(), g.TailStream)
			},
			"close": func(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
				x.Disown(binding.FileResource, g)
				return nil, x.Op(a, g.VM(), g.Close)
			},
		}),
	}
}

// maxRead bounds what one read may ask for, in bytes.
const maxRead = 1 << 30

func fileRead(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
	n, ok := value.ToInteger(a.Value(1))
	if !ok {
		return nil, a.TypeError(1, "n", "an integer")
	}
	if n < 0 || n > maxRead {
		return nil, a.Errorf("argument 1 (n) must be between 0 and %d, got %d", maxRead, n)
	}
	return readFile(x, a, 2, g, func(ctx context.Context) ([]byte, error) { return g.Read(ctx, int(n)) })
}

func fileReadAll(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
	return readFile(x, a, 1, g, g.ReadAll)
}

// readFile reads with options that are argument number opts.
func readFile(x *env, a value.Args, opts int, g *handle.File, read func(context.Context) ([]byte, error)) (
	[]lua.Value, error) {
	limit, err := onlyLimit(a, opts)
	if err != nil {
		return nil, err
	}
	var data []byte
	err = limitedOp(x, a, g.VM(), limit, func(ctx context.Context) (err error) {
		data, err = read(ctx)
		return err
	})
	return value.Results(err, string(data))
}

func fileWrite(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
	data, err := a.Str(1, "data")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 2)
	if err != nil {
		return nil, err
	}
	var n int
	err = limitedOp(x, a, g.VM(), limit, func(ctx context.Context) (err error) {
		n, err = g.Write(ctx, []byte(data))
		return err
	})
	return value.Results(err, int64(n))
}

func fileSeek(x *env, a value.Args, g *handle.File) ([]lua.Value, error) {
	offset, ok := value.ToInteger(a.Value(1))
	if !ok {
		return nil, a.TypeError(1, "offset", "an integer")
	}
	whence := 0
	switch v := a.Value(2).(type) {
	case nil:
	case string:
		known := map[string]int{"set": 0, "cur": 1, "end": 2}
		if whence, ok = known[v]; !ok {
			return nil, a.Errorf("seek: whence must be set/cur/end, got `%s`", value.Clip(v, 80))
		}
	default:
		return nil, a.Errorf("seek: whence must be set/cur/end, got `%s`", lua.TypeName(v))
	}
	return seek(x, a, g, "seek", offset, whence)
}

func seek(x *env, a value.Args, g *handle.File, op string, offset int64, whence int) ([]lua.Value, error) {
	var at int64
	err := x.Op(a, g.VM(), func(ctx context.Context) (err error) {
		at, err = g.Seek(ctx, op, offset, whence)
		return err
	})
	return value.Results(err, at)
}

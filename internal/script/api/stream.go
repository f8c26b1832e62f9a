package api

import (
	"context"
	"math"
	"time"

	"provium/internal/guest/handle"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/netapi"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// streamWait is how long the methods of streams wait by default.
const streamWait = 10 * time.Second

// streamMethod is a method of streams.
type streamMethod = binding.Method[*env, *stream.Stream]

func newStreamType(x *env) *lua.Type {
	return &lua.Type{
		Name:     "stream",
		ToString: func(_ *lua.Call, obj any) string { return "stream(" + obj.(*stream.Stream).String() + ")" },
		Methods: binding.MethodTable(x, "stream", map[string]streamMethod{
			"next":       streamNext,
			"read_until": streamReadUntil,
			"expect":     streamExpect,
			"drain":      streamDrain,
			"packets": func(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
				return netapi.StreamPackets(x.Env, a, s)
			},
			"eof": func(_ *env, _ value.Args, s *stream.Stream) ([]lua.Value, error) {
				return []lua.Value{s.EOF()}, nil
			},
			"close": func(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
				return nil, x.CloseStream(a, s)
			},
			"creation_site": func(x *env, _ value.Args, s *stream.Stream) ([]lua.Value, error) {
				site := s.Site()
				if site.Line == 0 {
					return []lua.Value{nil}, nil
				}
				t := x.State.NewTable()
				value.MustSet(t, "file", site.File)
				value.MustSet(t, "line", int64(site.Line))
				return []lua.Value{t}, nil
			},
		}),
	}
}

func streamNext(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", streamWait)
	if err != nil {
		return nil, err
	}
	var p []byte
	err = x.Op(a, nil, func(ctx context.Context) (err error) {
		p, err = s.Next(ctx, limit)
		return err
	})
	if err != nil || p == nil {
		return []lua.Value{nil}, err
	}
	return []lua.Value{p}, nil
}

// search is read_until and expect.
func search(x *env, a value.Args, op string, s *stream.Stream) (found *stream.Found, err error) {
	p, err := a.SearchPattern()
	if err != nil {
		return nil, err
	}
	limit, err := a.Duration(2, "timeout", streamWait)
	if err != nil {
		return nil, err
	}
	err = x.Op(a, nil, func(ctx context.Context) (err error) {
		found, err = s.ReadUntil(ctx, op, p, limit)
		return err
	})
	return found, err
}

func streamReadUntil(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
	found, err := search(x, a, "read_until", s)
	if err != nil {
		return nil, err
	}
	return append([]lua.Value{string(found.All)}, captured(found.Match)...), nil
}

func streamExpect(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
	found, err := search(x, a, "expect", s)
	if _, text := a.Value(1).(string); err != nil || text {
		return nil, err
	}
	return append([]lua.Value{string(found.Text)}, captured(found.Match)...), nil
}

func streamDrain(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", netapi.DrainWait)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	err = x.Op(a, nil, func(ctx context.Context) (err error) {
		all, err = s.Drain(ctx, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{value.Array(x.State, all, func(p []byte) lua.Value { return p })}, nil
}

func tailFile(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	start, fromEnd, err := tailStart(o)
	if err != nil {
		return nil, err
	}
	limit, err := fileLimit(o)
	if err != nil {
		return nil, err
	}
	return x.OpenStream(a, by.VM(), func(ctx context.Context, site stream.Site) (*stream.Stream, error) {
		ctx, cancel := handle.WithLimit(ctx, limit)
		defer cancel()
		return by.AsActor().TailFile(ctx, path, start, fromEnd, site)
	})
}

// tailStart reads where a tail begins.
func tailStart(o value.Options) (start int64, fromEnd bool, err error) {
	switch v := o.Get("start").(type) {
	case nil:
		return 0, true, nil
	case string:
		switch v {
		case "end":
			return 0, true, nil
		case "beginning", "start":
			return 0, false, nil
		}
		return 0, false, o.Errorf("start", "= `%s` is no place (use \"beginning\", \"end\" or a byte offset)",
			value.Clip(v, 80))
	case int64:
		return v, v < 0, nil
	case float64:
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return 0, false, o.Errorf("start", "must be a finite number, got %s", value.FormatFloat(v))
		case math.Abs(v) >= 1<<63:
			return 0, false, o.Errorf("start", "= %s is out of range", value.FormatFloat(v))
		}
		n := int64(math.Trunc(v))
		return n, n < 0, nil
	}
	return 0, false, o.TypeError("start", "\"beginning\", \"end\" or a byte offset")
}

func consoleRead(x *env, a value.Args, console lab.Console) ([]lua.Value, error) {
	return x.OpenStream(a, console.VM(), func(_ context.Context, site stream.Site) (*stream.Stream, error) {
		return console.Read(site)
	})
}

func consoleWrite(x *env, a value.Args, console lab.Console) ([]lua.Value, error) {
	data, err := a.Str(1, "data")
	if err != nil {
		return nil, err
	}
	if t, ok := a.Value(2).(*lua.Table); ok && t.Get("timeout_ms") != nil {
		return nil, a.Errorf("opts.timeout_ms is not supported (use timeout = \"500ms\" or timeout = 0.5)")
	}
	o, err := a.Options(2)
	if err != nil {
		return nil, err
	}
	limit, err := o.Duration("timeout", streamWait)
	if err != nil {
		return nil, err
	}
	return nil, x.Op(a, console.VM(),
		func(ctx context.Context) error { return console.Write(ctx, []byte(data), limit) })
}

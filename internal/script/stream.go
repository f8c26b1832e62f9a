package script

import (
	"context"
	"math"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/value"
)

// streamWait and drainWait are how long the methods of streams wait by default.
const (
	streamWait = 10 * time.Second
	drainWait  = 500 * time.Millisecond
)

func (f *file) newStreamType() *lua.Type {
	return &lua.Type{
		Name:     "stream",
		ToString: func(_ *lua.Call, obj any) string { return "stream(" + obj.(*lab.Stream).String() + ")" },
		Methods: methodTable(f, "stream", map[string]func(*file, value.Args, *lab.Stream) ([]lua.Value, error){
			"next":       (*file).streamNext,
			"read_until": (*file).streamReadUntil,
			"expect":     (*file).streamExpect,
			"drain":      (*file).streamDrain,
			"packets":    (*file).streamPackets,
			"eof":        func(_ *file, _ value.Args, s *lab.Stream) ([]lua.Value, error) { return []lua.Value{s.EOF()}, nil },
			"close": func(f *file, a value.Args, s *lab.Stream) ([]lua.Value, error) {
				f.disown(streamResource, ownedStream{s})
				return nil, f.op(a, nil, func(context.Context) error { s.Close(); return nil })
			},
			"creation_site": func(f *file, _ value.Args, s *lab.Stream) ([]lua.Value, error) {
				site := s.Site()
				if site.Line == 0 {
					return []lua.Value{nil}, nil
				}
				t := f.state.NewTable()
				value.MustSet(t, "file", site.File)
				value.MustSet(t, "line", int64(site.Line))
				return []lua.Value{t}, nil
			},
		}),
	}
}

// openStream opens a stream and gives its handle.
func (f *file) openStream(a value.Args, vm lab.HandleVM, open func(ctx context.Context, site lab.Site) (*lab.Stream, error)) ([]lua.Value, error) {
	site := f.site(a.Call)
	var s *lab.Stream
	err := f.op(a, vm, func(ctx context.Context) (err error) {
		s, err = open(ctx, site)
		return err
	})
	if err != nil {
		return nil, err
	}
	f.own(streamResource, ownedStream{s})
	return []lua.Value{f.state.NewUserdata(f.types.stream, s)}, nil
}

func (f *file) streamNext(a value.Args, s *lab.Stream) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", streamWait)
	if err != nil {
		return nil, err
	}
	var p []byte
	err = f.op(a, nil, func(ctx context.Context) (err error) {
		p, err = s.Next(ctx, limit)
		return err
	})
	if err != nil || p == nil {
		return []lua.Value{nil}, err
	}
	return []lua.Value{p}, nil
}

// pattern reads the arguments of read_until and expect.
func (f *file) search(a value.Args, op string, s *lab.Stream) (found []byte, err error) {
	pattern, err := a.Str(1, "pattern")
	if err != nil {
		return nil, err
	}
	limit, err := a.Duration(2, "timeout", streamWait)
	if err != nil {
		return nil, err
	}
	err = f.op(a, nil, func(ctx context.Context) (err error) {
		found, err = s.ReadUntil(ctx, op, pattern, limit)
		return err
	})
	return found, err
}

func (f *file) streamReadUntil(a value.Args, s *lab.Stream) ([]lua.Value, error) {
	found, err := f.search(a, "read_until", s)
	return value.Results(err, string(found))
}

func (f *file) streamExpect(a value.Args, s *lab.Stream) ([]lua.Value, error) {
	_, err := f.search(a, "expect", s)
	return nil, err
}

func (f *file) streamDrain(a value.Args, s *lab.Stream) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", drainWait)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	err = f.op(a, nil, func(ctx context.Context) (err error) {
		all, err = s.Drain(ctx, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{value.Array(f.state, all, func(p []byte) lua.Value { return p })}, nil
}

func (f *file) tailFile(a value.Args, by guestSide) ([]lua.Value, error) {
	path, err := a.Path(1, "path")
	if err != nil {
		return nil, err
	}
	o, err := a.Options(2, "start")
	if err != nil {
		return nil, err
	}
	start, fromEnd, err := tailStart(o)
	if err != nil {
		return nil, err
	}
	return f.openStream(a, by.VM(), func(ctx context.Context, site lab.Site) (*lab.Stream, error) {
		return lab.TailFile(ctx, by, path, start, fromEnd, site)
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
		return 0, false, o.Errorf("start", "= `%s` is no place (use \"beginning\", \"end\" or a byte offset)", value.Clip(v, 80))
	case int64:
		return v, v < 0, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) >= 1<<63 {
			return 0, false, o.Errorf("start", "must be a finite number, got %s", value.FormatFloat(v))
		}
		n := int64(math.Trunc(v))
		return n, n < 0, nil
	}
	return 0, false, o.TypeError("start", "\"beginning\", \"end\" or a byte offset")
}

func (f *file) consoleRead(a value.Args, console lab.Console) ([]lua.Value, error) {
	return f.openStream(a, console.VM(), func(_ context.Context, site lab.Site) (*lab.Stream, error) {
		return console.Read(site)
	})
}

func (f *file) consoleWrite(a value.Args, console lab.Console) ([]lua.Value, error) {
	data, err := a.Str(1, "data")
	if err != nil {
		return nil, err
	}
	if t, ok := a.Value(2).(*lua.Table); ok && t.Get("timeout_ms") != nil {
		return nil, a.Errorf("opts.timeout_ms is not supported (use timeout = \"500ms\" or timeout = 0.5)")
	}
	o, err := a.Options(2, "timeout")
	if err != nil {
		return nil, err
	}
	limit, err := o.Duration("timeout", streamWait)
	if err != nil {
		return nil, err
	}
	return nil, f.op(a, console.VM(), func(ctx context.Context) error { return console.Write(ctx, []byte(data), limit) })
}

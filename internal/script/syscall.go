package script

import (
	"context"
	"errors"
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
)

// Limits of a system call, as the agent has them.
const (
	maxSyscallArgs = 6
	maxBuffers     = 256
	maxBuffer      = 1 << 20 // bytes
	maxNested      = 4096
	maxReadMem     = 4 << 20 // bytes
)

// syscallNumber reads an integer argument of a call; nil counts as 0.
func syscallNumber(v lua.Value) (int64, bool) {
	if v == nil {
		return 0, true
	}
	return toInteger(v)
}

// syscallArgs reads a call in either form.
func syscallArgs(a args) (s lab.Syscall, err error) {
	if a.value(1) == nil {
		return s, a.errorf("missing nr")
	}
	nr, ok := toInteger(a.value(1))
	if !ok {
		return s, a.errorf("nr must be integer, got %s", badNumber(a.value(1)))
	}
	s.Nr = nr
	if t, ok := a.value(2).(*lua.Table); ok {
		if a.count() > 2 {
			return s, a.errorf("nothing may follow the table form, got %d arguments", a.count())
		}
		return s, syscallTable(a, t, &s)
	}
	if a.count() > 1+maxSyscallArgs {
		return s, a.errorf("at most %d arguments are possible, got %d", maxSyscallArgs, a.count()-1)
	}
	for i := 2; i <= a.count(); i++ {
		if s.Args[i-2], ok = syscallNumber(a.value(i)); !ok {
			return s, a.errorf("argument %d must be an integer, got %s", i-1, badNumber(a.value(i)))
		}
	}
	return s, nil
}

// badNumber describes what is no integer: a float by its value.
func badNumber(v lua.Value) string {
	if _, ok := v.(float64); ok {
		return show(v)
	}
	return typeName(v)
}

// syscallTable reads {args=, bufs=, ptrs=, nested=}.
func syscallTable(a args, t *lua.Table, s *lab.Syscall) error {
	o, err := newOptions(a.what, t, []string{"args", "bufs", "ptrs", "nested"})
	if err != nil {
		return err
	}
	if o.has("args") {
		list, ok := o.get("args").(*lua.Table)
		if !ok {
			return o.wrong("args", "an array of integers")
		}
		for _, p := range sortedPairs(list) {
			i, ok := p.key.(int64)
			if !ok || i < 1 || i > maxSyscallArgs {
				return o.errorf("args", "has the key %s: at most %d arguments are possible", keyText(p.key), maxSyscallArgs)
			}
			if s.Args[i-1], ok = toInteger(p.value); !ok {
				return o.errorf("args", "entry %d must be an integer, got %s", i, badNumber(p.value))
			}
		}
	}
	if s.Bufs, err = buffers(o); err != nil {
		return err
	}
	slots, err := integers(o, "ptrs")
	if err != nil {
		return err
	}
	if len(slots) > len(s.Bufs) {
		return o.errorf("ptrs", "entry %d has no buffer (there are %d)", len(s.Bufs)+1, len(s.Bufs))
	}
	for i, slot := range slots {
		if slot < 0 || slot >= maxSyscallArgs {
			return o.errorf("ptrs", "entry %d must be a slot from 0 to %d, got %d", i+1, maxSyscallArgs-1, slot)
		}
		s.Slots = append(s.Slots, int(slot))
	}
	return nested(o, s)
}

// buffers reads opts.bufs.
func buffers(o options) ([][]byte, error) {
	if !o.has("bufs") {
		return nil, nil
	}
	t, ok := o.get("bufs").(*lua.Table)
	if !ok {
		return nil, o.wrong("bufs", "an array of strings")
	}
	texts, err := stringsOf(t)
	if err != nil {
		return nil, o.errorf("bufs", "%w", err)
	}
	if len(texts) > maxBuffers {
		return nil, o.errorf("bufs", "has %d buffers, at most %d are possible", len(texts), maxBuffers)
	}
	out := make([][]byte, len(texts))
	for i, text := range texts {
		if len(text) > maxBuffer {
			return nil, o.errorf("bufs", "entry %d has %d bytes, at most %d are possible", i+1, len(text), maxBuffer)
		}
		out[i] = []byte(text)
	}
	return out, nil
}

// integers reads an option that is an array of integers.
func integers(o options, key string) ([]int64, error) {
	if !o.has(key) {
		return nil, nil
	}
	t, ok := o.get(key).(*lua.Table)
	if !ok {
		return nil, o.wrong(key, "an array of integers")
	}
	items, err := sequence(t)
	if err != nil {
		return nil, o.errorf(key, "%w", err)
	}
	out := make([]int64, len(items))
	for i, v := range items {
		if out[i], ok = toInteger(v); !ok {
			return nil, o.errorf(key, "entry %d must be an integer, got %s", i+1, badNumber(v))
		}
	}
	return out, nil
}

// nested reads opts.nested: the address of bufs[child] goes into bufs[parent].
func nested(o options, s *lab.Syscall) error {
	if !o.has("nested") {
		return nil
	}
	t, ok := o.get("nested").(*lua.Table)
	if !ok {
		return o.wrong("nested", "an array of {parent=, child=, offset=}")
	}
	items, err := sequence(t)
	if err != nil {
		return o.errorf("nested", "%w", err)
	}
	if len(items) > maxNested {
		return o.errorf("nested", "has %d entries, at most %d are possible", len(items), maxNested)
	}
	for i, v := range items {
		entry, ok := v.(*lua.Table)
		if !ok {
			return o.errorf("nested", "entry %d must be {parent=, child=, offset=}, got %s", i+1, typeName(v))
		}
		var n [3]int64
		for j, key := range []string{"parent", "child", "offset"} {
			if n[j], ok = toInteger(entry.Get(key)); !ok {
				return o.errorf("nested", "entry %d: %s must be an integer, got %s", i+1, key, badNumber(entry.Get(key)))
			}
			if j < 2 && (n[j] < 1 || n[j] > int64(len(s.Bufs))) {
				return o.errorf("nested", "entry %d: %s must be a buffer from 1 to %d, got %d", i+1, key, len(s.Bufs), n[j])
			}
		}
		if room := int64(len(s.Bufs[n[0]-1])); n[2] < 0 || n[2] > room-8 {
			return o.errorf("nested", "entry %d: offset %d leaves no room for 8 bytes in buffer %d of %d bytes", i+1, n[2], n[0], room)
		}
		s.Nested = append(s.Nested, lab.Nested{Parent: int(n[0] - 1), Child: int(n[1] - 1), Offset: uint64(n[2])})
	}
	return nil
}

// syscallResult is the table a call gives.
func (f *file) syscallResult(r *lab.SyscallResult) *lua.Table {
	t := f.state.NewTable()
	set(t, "ret", r.Ret)
	set(t, "result", r.Ret)
	set(t, "errno", int64(r.Errno))
	set(t, "out_bufs", array(f.state, r.Bufs, func(p []byte) lua.Value { return p }))
	return t
}

func (f *file) makeSyscall(a args, by guestSide) ([]lua.Value, error) {
	s, err := syscallArgs(a)
	if err != nil {
		return nil, err
	}
	var r *lab.SyscallResult
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = lab.MakeSyscall(ctx, by, "syscall", s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{f.syscallResult(r)}, nil
}

func (f *file) startSyscall(a args, by guestSide) ([]lua.Value, error) {
	s, err := syscallArgs(a)
	if err != nil {
		return nil, err
	}
	var call *lab.AsyncSyscall
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		call, err = lab.StartSyscall(ctx, by, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	f.own(callResource, call)
	return []lua.Value{f.state.NewUserdata(f.types.call, call)}, nil
}

// newCallType is the handle of an asynchronous system call.
func (f *file) newCallType() *lua.Type {
	return &lua.Type{
		Name: "syscall",
		Methods: methodTable(f, "handle", map[string]func(*file, args, *lab.AsyncSyscall) ([]lua.Value, error){
			"await": func(f *file, a args, call *lab.AsyncSyscall) ([]lua.Value, error) {
				limit, err := a.duration(1, "timeout", 0)
				if err != nil {
					return nil, err
				}
				if a.value(1) != nil {
					limit = max(limit, time.Nanosecond)
				}
				var r *lab.SyscallResult
				err = f.op(a, call.VM(), func(ctx context.Context) (err error) {
					r, err = call.Await(ctx, limit)
					return err
				})
				if call.Done() {
					f.disown(callResource, call)
				}
				var failed *lab.OpError
				if errors.As(err, &failed) && failed.Name == "ETIMEDOUT" {
					return nil, a.errorf("timed out after %s: the system call has not returned", seconds(limit))
				}
				if err != nil {
					return nil, err
				}
				return []lua.Value{f.syscallResult(r)}, nil
			},
		}),
	}
}

func (f *file) readMem(a args, by guestSide) ([]lua.Value, error) {
	address, ok := toInteger(a.value(1))
	if !ok {
		return nil, a.wrong(1, "addr", "an integer")
	}
	n, ok := toInteger(a.value(2))
	if !ok {
		return nil, a.wrong(2, "len", "an integer")
	}
	if n < 0 || n > maxReadMem {
		return nil, a.errorf("argument 2 (len) must be between 0 and %d, got %d", maxReadMem, n)
	}
	var data []byte
	var errno int
	err := f.op(a, by.VM(), func(ctx context.Context) (err error) {
		data, errno, err = lab.ReadMem(ctx, by, uint64(address), int(n))
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return []lua.Value{nil, int64(errno)}, nil
	}
	return []lua.Value{string(data)}, nil
}

func (f *file) ioctl(a args, by guestSide) ([]lua.Value, error) {
	var numbers [2]int64
	for i, name := range []string{"fd", "cmd"} {
		if a.value(i+1) == nil {
			return nil, a.errorf("missing %s", name)
		}
		var ok bool
		if numbers[i], ok = toInteger(a.value(i + 1)); !ok {
			return nil, a.errorf("%s must be integer, got %s", name, badNumber(a.value(i+1)))
		}
	}
	var data []byte
	if a.value(3) != nil {
		text, err := a.str(3, "data")
		if err != nil {
			return nil, err
		}
		if len(text) > maxBuffer {
			return nil, a.errorf("argument 3 (data) has %d bytes, at most %d are possible", len(text), maxBuffer)
		}
		data = append([]byte{}, text...)
	}
	o, err := a.options(4, "bufs", "ptr_offsets")
	if err != nil {
		return nil, err
	}
	bufs, err := buffers(o)
	if err != nil {
		return nil, err
	}
	at, err := integers(o, "ptr_offsets")
	if err != nil {
		return nil, err
	}
	if len(bufs) >= maxBuffers {
		return nil, o.errorf("bufs", "has %d buffers, at most %d are possible beside data", len(bufs), maxBuffers-1)
	}
	if len(at) > len(bufs) {
		return nil, o.errorf("ptr_offsets", "entry %d has no buffer (there are %d)", len(bufs)+1, len(bufs))
	}
	offsets := make([]uint64, len(at))
	for i, n := range at {
		if n < 0 || n > int64(len(data))-8 {
			return nil, o.errorf("ptr_offsets", "entry %d: %d leaves no room for 8 bytes in data of %d bytes", i+1, n, len(data))
		}
		offsets[i] = uint64(n)
	}
	var r *lab.SyscallResult
	err = f.op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = lab.Ioctl(ctx, by, numbers[0], numbers[1], data, bufs, offsets)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := lua.Value("")
	if data != nil {
		out, r.Bufs = r.Bufs[0], r.Bufs[1:]
	}
	t := f.syscallResult(r)
	set(t, "out_data", out)
	return []lua.Value{t}, nil
}

// fdStream is vm:fd_stream(fd_or_file).
func (f *file) fdStream(a args, by guestSide) ([]lua.Value, error) {
	var fd int64
	switch v := a.value(1).(type) {
	case int64, float64:
		var ok bool
		if fd, ok = toInteger(v); !ok || fd < 0 {
			return nil, a.errorf("argument 1 (fd) must be a descriptor, got %s", show(v))
		}
	case *lua.Userdata:
		file, ok := v.Object().(*lab.File)
		if !ok {
			return nil, a.wrong(1, "fd_or_file", "an integer or a file")
		}
		if file.By() != by.AsActor() {
			return nil, a.errorf("%s belongs to another vm or worker", file)
		}
		if fd = file.FD(); fd == 0 {
			return nil, a.errorf("file is closed")
		}
	default:
		return nil, a.wrong(1, "fd_or_file", "an integer or a file")
	}
	return f.openStream(a, by.VM(), func(ctx context.Context, site lab.Site) (*lab.Stream, error) {
		return lab.FDStream(ctx, by, "fd_stream", fd, site)
	})
}

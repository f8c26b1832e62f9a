package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"provium/internal/guest"
	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// Limits of a system call, as the agent has them.
const (
	maxSyscallArgs = 6
	maxBuffers     = 256
	maxBuffer      = 1 << 20 // bytes
	maxNested      = 4096
	maxMem         = 4 << 20 // bytes that read_mem and write_mem move at most
)

// syscallNumber reads an integer argument of a call; nil counts as 0.
func syscallNumber(v lua.Value) (int64, bool) {
	if v == nil {
		return 0, true
	}
	return value.ToInteger(v)
}

// syscallArgs reads a call in either form.
func syscallArgs(a value.Args) (s guest.Syscall, err error) {
	if a.Value(1) == nil {
		return s, a.Errorf("missing nr")
	}
	nr, ok := value.ToInteger(a.Value(1))
	if !ok {
		return s, a.Errorf("nr must be integer, got %s", badNumber(a.Value(1)))
	}
	s.Nr = nr
	if _, ok := a.Value(2).(*lua.Table); ok {
		if a.Len() > 2 {
			return s, a.Errorf("nothing may follow the table form, got %d arguments", a.Len())
		}
		return s, syscallTable(a, &s)
	}
	if a.Len() > 1+maxSyscallArgs {
		return s, a.Errorf("at most %d arguments are possible, got %d", maxSyscallArgs, a.Len()-1)
	}
	for i := 2; i <= a.Len(); i++ {
		if s.Args[i-2], ok = syscallNumber(a.Value(i)); !ok {
			return s, a.Errorf("argument %d must be an integer, got %s", i-1, badNumber(a.Value(i)))
		}
	}
	return s, nil
}

// badNumber describes a value that is not an integer: a float by its value, others by
// type. A File has a number.
func badNumber(v lua.Value) string {
	switch v := v.(type) {
	case float64:
		return value.Format(v)
	case *lua.Userdata:
		if _, ok := v.Object().(*handle.File); ok {
			return "a file: its descriptor is file:fd()"
		}
	}
	return lua.TypeName(v)
}

// syscallTable reads {args=, bufs=, ptrs=, nested=}.
func syscallTable(a value.Args, s *guest.Syscall) error {
	o, err := a.Options(2)
	if err != nil {
		return err
	}
	if o.Has("args") {
		list, ok := o.Get("args").(*lua.Table)
		if !ok {
			return o.TypeError("args", "an array of integers")
		}
		for _, p := range value.SortedPairs(list) {
			i, ok := p.Key.(int64)
			if !ok || i < 1 || i > maxSyscallArgs {
				return o.Errorf("args", "has the key %s: at most %d arguments are possible", value.FormatKey(p.Key),
					maxSyscallArgs)
			}
			if s.Args[i-1], ok = value.ToInteger(p.Value); !ok {
				return o.Errorf("args", "entry %d must be an integer, got %s", i, badNumber(p.Value))
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
		return o.Errorf("ptrs", "entry %d has no buffer (there are %d)", len(s.Bufs)+1, len(s.Bufs))
	}
	for i, slot := range slots {
		if slot < 0 || slot >= maxSyscallArgs {
			return o.Errorf("ptrs", "entry %d must be a slot from 0 to %d, got %d", i+1, maxSyscallArgs-1, slot)
		}
		s.Slots = append(s.Slots, int(slot))
	}
	return nested(o, s)
}

// buffers reads opts.bufs.
func buffers(o value.Options) ([][]byte, error) {
	if !o.Has("bufs") {
		return nil, nil
	}
	t, ok := o.Get("bufs").(*lua.Table)
	if !ok {
		return nil, o.TypeError("bufs", "an array of strings")
	}
	texts, err := value.Strings(t)
	if err != nil {
		return nil, o.Errorf("bufs", "%w", err)
	}
	if len(texts) > maxBuffers {
		return nil, o.Errorf("bufs", "has %d buffers, at most %d are possible", len(texts), maxBuffers)
	}
	out := make([][]byte, len(texts))
	for i, text := range texts {
		if len(text) > maxBuffer {
			return nil, o.Errorf("bufs", "entry %d has %d bytes, at most %d are possible", i+1, len(text), maxBuffer)
		}
		out[i] = []byte(text)
	}
	return out, nil
}

// integers reads an option that is an array of integers.
func integers(o value.Options, key string) ([]int64, error) {
	if !o.Has(key) {
		return nil, nil
	}
	t, ok := o.Get(key).(*lua.Table)
	if !ok {
		return nil, o.TypeError(key, "an array of integers")
	}
	items, err := value.Sequence(t)
	if err != nil {
		return nil, o.Errorf(key, "%w", err)
	}
	out := make([]int64, len(items))
	for i, v := range items {
		if out[i], ok = value.ToInteger(v); !ok {
			return nil, o.Errorf(key, "entry %d must be an integer, got %s", i+1, badNumber(v))
		}
	}
	return out, nil
}

// nested reads opts.nested: the address of bufs[child] goes into bufs[parent].
func nested(o value.Options, s *guest.Syscall) error {
	if !o.Has("nested") {
		return nil
	}
	t, ok := o.Get("nested").(*lua.Table)
	if !ok {
		return o.TypeError("nested", "an array of {parent=, child=, offset=}")
	}
	items, err := value.Sequence(t)
	if err != nil {
		return o.Errorf("nested", "%w", err)
	}
	if len(items) > maxNested {
		return o.Errorf("nested", "has %d entries, at most %d are possible", len(items), maxNested)
	}
	for i, v := range items {
		entry, ok := v.(*lua.Table)
		if !ok {
			return o.Errorf("nested", "entry %d must be {parent=, child=, offset=}, got %s", i+1, lua.TypeName(v))
		}
		if _, err := value.NewOptions(fmt.Sprintf("%s: opts.nested entry %d", o.Func, i+1), entry,
			[]string{"parent", "child", "offset", "child_offset"}); err != nil {
			return err
		}
		var n [3]int64
		for j, key := range []string{"parent", "child", "offset"} {
			if n[j], ok = value.ToInteger(entry.Get(key)); !ok {
				return o.Errorf("nested", "entry %d: %s must be an integer, got %s", i+1, key,
					badNumber(entry.Get(key)))
			}
			if j < 2 && (n[j] < 1 || n[j] > int64(len(s.Bufs))) {
				return o.Errorf("nested", "entry %d: %s must be a buffer from 1 to %d, got %d", i+1, key, len(s.Bufs),
					n[j])
			}
		}
		if room := int64(len(s.Bufs[n[0]-1])); n[2] < 0 || n[2] > room-8 {
			return o.Errorf("nested", "entry %d: offset %d leaves no room for 8 bytes in buffer %d of %d bytes", i+1,
				n[2], n[0], room)
		}
		into, ok := syscallNumber(entry.Get("child_offset"))
		if !ok {
			return o.Errorf("nested", "entry %d: child_offset must be an integer, got %s", i+1,
				badNumber(entry.Get("child_offset")))
		}
		if size := int64(len(s.Bufs[n[1]-1])); into < 0 || into > size {
			return o.Errorf("nested", "entry %d: child_offset must be from 0 to %d, the size of buffer %d, got %d", i+1,
				size, n[1], into)
		}
		s.Nested = append(s.Nested, guest.Nested{Parent: int(n[0] - 1), Child: int(n[1] - 1), Offset: uint64(n[2]),
			ChildOffset: uint64(into)})
	}
	return nil
}

// syscallResult is the table that a system call returns.
func syscallResult(x *env, r *guest.SyscallResult) *lua.Table {
	t := x.State.NewTable()
	value.MustSet(t, "ret", r.Ret)
	value.MustSet(t, "result", r.Ret)
	value.MustSet(t, "errno", int64(r.Errno))
	value.MustSet(t, "out_bufs", value.Array(x.State, r.Bufs, func(p []byte) lua.Value { return p }))
	return t
}

func makeSyscall(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	s, err := syscallArgs(a)
	if err != nil {
		return nil, err
	}
	var r *guest.SyscallResult
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = by.AsActor().Syscall(ctx, "syscall", s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{syscallResult(x, r)}, nil
}

func startSyscall(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	s, err := syscallArgs(a)
	if err != nil {
		return nil, err
	}
	var call *handle.AsyncSyscall
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		call, err = by.AsActor().SyscallAsync(ctx, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	x.Own(binding.CallResource, call)
	return []lua.Value{x.State.NewUserdata(x.Types.Call, call)}, nil
}

// newCallType makes the type of asynchronous system calls.
func newCallType(x *env) *lua.Type {
	return &lua.Type{
		Name: "syscall",
		Methods: binding.MethodTable(x, "handle", map[string]func(*env, value.Args, *handle.AsyncSyscall) ([]lua.Value,
			error){
			"await": func(x *env, a value.Args, call *handle.AsyncSyscall) ([]lua.Value, error) {
				limit, err := a.Duration(1, "timeout", 0)
				if err != nil {
					return nil, err
				}
				if a.Value(1) != nil {
					limit = max(limit, time.Nanosecond)
				}
				var r *guest.SyscallResult
				err = x.Op(a, call.VM(), func(ctx context.Context) (err error) {
					r, err = call.Await(ctx, limit)
					return err
				})
				if call.Done() {
					x.Disown(binding.CallResource, call)
				}
				var failed *guest.OpError
				if errors.As(err, &failed) && failed.Name == "ETIMEDOUT" {
					return nil, a.Errorf("timed out after %s: the system call has not returned",
						value.FormatSeconds(limit))
				}
				if err != nil {
					return nil, err
				}
				return []lua.Value{syscallResult(x, r)}, nil
			},
		}),
	}
}

func readMem(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	address, ok := value.ToInteger(a.Value(1))
	if !ok {
		return nil, a.TypeError(1, "addr", "an integer")
	}
	n, ok := value.ToInteger(a.Value(2))
	if !ok {
		return nil, a.TypeError(2, "len", "an integer")
	}
	if n < 0 || n > maxMem {
		return nil, a.Errorf("argument 2 (len) must be between 0 and %d, got %d", maxMem, n)
	}
	var data []byte
	var errno int
	err := x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		data, errno, err = by.AsActor().ReadMem(ctx, uint64(address), int(n))
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

func writeMem(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	address, ok := value.ToInteger(a.Value(1))
	if !ok {
		return nil, a.TypeError(1, "addr", "an integer")
	}
	data, err := a.Str(2, "bytes")
	if err != nil {
		return nil, err
	}
	if len(data) > maxMem {
		return nil, a.Errorf("argument 2 (bytes) has %d bytes, at most %d are possible", len(data), maxMem)
	}
	var errno int
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		errno, err = by.AsActor().WriteMem(ctx, uint64(address), []byte(data))
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return []lua.Value{nil, int64(errno)}, nil
	}
	return []lua.Value{int64(len(data))}, nil
}

func ioctl(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	var numbers [2]int64
	for i, name := range []string{"fd", "cmd"} {
		if a.Value(i+1) == nil {
			return nil, a.Errorf("missing %s", name)
		}
		var ok bool
		if numbers[i], ok = value.ToInteger(a.Value(i + 1)); !ok {
			return nil, a.Errorf("%s must be integer, got %s", name, badNumber(a.Value(i+1)))
		}
	}
	var data []byte
	if a.Value(3) != nil {
		text, err := a.Str(3, "data")
		if err != nil {
			return nil, err
		}
		if len(text) > maxBuffer {
			return nil, a.Errorf("argument 3 (data) has %d bytes, at most %d are possible", len(text), maxBuffer)
		}
		data = append([]byte{}, text...)
	}
	o, err := a.Options(4)
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
		return nil, o.Errorf("bufs", "has %d buffers, at most %d are possible beside data", len(bufs), maxBuffers-1)
	}
	if len(at) > len(bufs) {
		return nil, o.Errorf("ptr_offsets", "entry %d has no buffer (there are %d)", len(bufs)+1, len(bufs))
	}
	offsets := make([]uint64, len(at))
	for i, n := range at {
		if n < 0 || n > int64(len(data))-8 {
			return nil, o.Errorf("ptr_offsets", "entry %d: %d leaves no room for 8 bytes in data of %d bytes", i+1, n,
				len(data))
		}
		offsets[i] = uint64(n)
	}
	var r *guest.SyscallResult
	err = x.Op(a, by.VM(), func(ctx context.Context) (err error) {
		r, err = by.AsActor().Ioctl(ctx, numbers[0], numbers[1], data, bufs, offsets)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := lua.Value("")
	if data != nil {
		out, r.Bufs = r.Bufs[0], r.Bufs[1:]
	}
	t := syscallResult(x, r)
	value.MustSet(t, "out_data", out)
	return []lua.Value{t}, nil
}

// fdStream is vm:fd_stream(fd_or_file).
func fdStream(x *env, a value.Args, by guestSide) ([]lua.Value, error) {
	var fd int64
	switch v := a.Value(1).(type) {
	case int64, float64:
		var ok bool
		if fd, ok = value.ToInteger(v); !ok {
			return nil, a.Errorf("argument 1 (fd) must be a descriptor, got %s", value.Format(v))
		}
		if fd <= 0 || fd > math.MaxInt32 { // 0 is the executor's /dev/null, and no File's
			return nil, a.Errorf("unknown fd `%d`", fd)
		}
	case *lua.Userdata:
		file, ok := v.Object().(*handle.File)
		if !ok {
			return nil, a.TypeError(1, "fd_or_file", "an integer or a file")
		}
		if file.By() != by.AsActor() {
			return nil, a.Errorf("%s belongs to another vm or worker", file)
		}
		if fd = file.FD(); fd == 0 {
			return nil, a.Errorf("file is closed")
		}
	default:
		return nil, a.TypeError(1, "fd_or_file", "an integer or a file")
	}
	return x.OpenStream(a, by.VM(), func(ctx context.Context, site stream.Site) (*stream.Stream, error) {
		return by.AsActor().FDStream(ctx, fd, site)
	})
}

package wire

import "provium/internal/msgpack"

// Result is how an operation ended: with Err, or with the Value that its type
// calls for (nil for those that answer nothing).
type Result struct {
	Err   *Error
	Value Value
	// Streamed counts the bytes of each stream that belong to this result and
	// came in Data frames before it. In a batch the items' bytes follow each
	// other, so a failed item has its count too.
	Streamed [Streams]uint64
}

// Error is a failure reported by the guest.
type Error struct {
	Errno uint32 // Linux's number; 0 when no system call failed
	Name  string // "ENOENT"; empty with Errno 0
	Text  string // for people, with the name in brackets
}

// Error returns Text.
func (e *Error) Error() string { return e.Text }

// Value is one of the value types below.
type Value interface {
	kind() string
	append(b []byte) []byte
}

// RunValue is how a command ended and what it printed, without what was streamed
// before.
type RunValue struct {
	Status    RunStatus
	Code      uint32 // exit code or signal number
	Stdout    []byte
	Stderr    []byte
	Truncated bool // an output was cut at MaxOutput
}

// RunStatus says how a command ended.
type RunStatus uint8

// How a command ended.
const (
	Exited RunStatus = iota
	Signalled
	TimedOut
)

// FileValue is the end of a file's contents and its mode.
type FileValue struct {
	Data []byte
	Perm uint32
}

// StatValue describes a file.
type StatValue struct {
	Size    uint64
	MtimeNS int64
	Perm    uint32
	Type    EntryType
	FileNumbers
}

// FileNumbers are what else a file system knows of a file.
type FileNumbers struct {
	Ino     uint64
	UID     uint64
	GID     uint64
	Nlink   uint64
	Rdev    uint64 // of a device; 0 for others
	Blocks  uint64 // of 512 bytes, that the file takes
	AtimeNS int64
	CtimeNS int64
}

func (v *FileNumbers) fields() []struct {
	key string
	to  *uint64
} {
	return []struct {
		key string
		to  *uint64
	}{{"ino", &v.Ino}, {"uid", &v.UID}, {"gid", &v.GID}, {"nlink", &v.Nlink}, {"rdev", &v.Rdev}, {"blocks", &v.Blocks}}
}

// EntryType is a kind of file.
type EntryType uint8

// Kinds of files.
const (
	TypeOther EntryType = iota
	TypeFile
	TypeDirectory
	TypeSymlink
	TypeFIFO
	TypeSocket
	TypeBlockDevice
	TypeCharDevice

	entryTypeEnd
)

// String returns the name used in the API and on the wire.
func (t EntryType) String() string {
	switch t {
	case TypeFile:
		return "file"
	case TypeDirectory:
		return "directory"
	case TypeSymlink:
		return "symlink"
	case TypeFIFO:
		return "fifo"
	case TypeSocket:
		return "socket"
	case TypeBlockDevice:
		return "block_device"
	case TypeCharDevice:
		return "char_device"
	}
	return "other"
}

// Entry is one entry of a directory.
type Entry struct {
	Name string
	Type EntryType
}

// EntriesValue is a directory's contents.
type EntriesValue []Entry

// ClockValue is what the guest's clocks showed, in nanoseconds.
type ClockValue struct {
	RealtimeNS  int64 // since 1970
	MonotonicNS int64
	BoottimeNS  int64
}

// BatchValue has a result per operation.
type BatchValue []Result

func (*RunValue) kind() string    { return "run" }
func (*FileValue) kind() string   { return "file" }
func (*StatValue) kind() string   { return "stat" }
func (EntriesValue) kind() string { return "entries" }
func (*ClockValue) kind() string  { return "clock" }
func (BatchValue) kind() string   { return "batch" }

// AppendResult encodes a result.
func AppendResult(b []byte, r *Result) []byte {
	f := msgpack.OpenFields(b)
	if r.Err != nil {
		f.Str("outcome", "err")
		f.Key("value")
		e := msgpack.OpenFields(f.Buf)
		e.Uint("errno", uint64(r.Err.Errno))
		e.Str("name", r.Err.Name)
		e.Str("text", r.Err.Text)
		f.Buf = e.Buf
	} else {
		f.Str("outcome", "ok")
		f.Key("value")
		if r.Value == nil {
			f.Buf = msgpack.AppendNil(f.Buf)
		} else {
			// {"<kind>": …}: the receiver can check that it got what it asked
			// for, and a capture of the link can be read without context.
			f.Buf = msgpack.AppendMapHeader(f.Buf, 1)
			f.Buf = msgpack.AppendString(f.Buf, r.Value.kind())
			f.Buf = r.Value.append(f.Buf)
		}
	}
	if r.Streamed != [Streams]uint64{} {
		f.Key("streamed")
		f.Buf = msgpack.AppendArrayHeader(f.Buf, int(Streams))
		for _, n := range r.Streamed {
			f.Buf = msgpack.AppendUint(f.Buf, n)
		}
	}
	return f.Buf
}

// DecodeResult decodes a result.
func DecodeResult(p []byte) (*Result, error) {
	if len(p) > MaxResult {
		return nil, malformed("result of %d bytes, limit %d", len(p), MaxResult)
	}
	d := newDecoder(p)
	r := d.result(true)
	if err := d.End(); err != nil {
		return nil, err
	}
	return &r, nil
}

func (d *decoder) result(batch bool) Result {
	var r Result
	outcome := ""
	d.EachField("result", func(key string) bool {
		switch key {
		case "outcome":
			outcome = d.Str()
			if d.OK() && outcome != "ok" && outcome != "err" {
				d.Fail("outcome %.20q", outcome)
			}
		case "value":
			switch outcome {
			case "ok":
				r.Value = d.value(batch)
			case "err":
				r.Err = d.error()
			default:
				d.Fail("value before outcome")
			}
		case "streamed":
			if n := d.ArrayLen(); n != int(Streams) {
				d.Fail("%d streams", n)
			}
			for i := range r.Streamed {
				r.Streamed[i] = d.Uint()
			}
		default:
			return false
		}
		return true
	})
	if outcome == "" || outcome == "err" && r.Err == nil {
		d.Fail("result without outcome and value")
	}
	return r
}

func (d *decoder) error() *Error {
	e := &Error{}
	d.EachField("error", func(key string) bool {
		switch key {
		case "errno":
			e.Errno = d.Uint32()
		case "name":
			e.Name = d.Str()
		case "text":
			e.Text = d.Str()
		default:
			return false
		}
		return true
	})
	return e
}

func (d *decoder) value(batch bool) Value {
	if d.Nil() {
		return nil
	}
	if n := d.MapLen(); n != 1 {
		d.Fail("value with %d kinds", n)
	}
	kind := string(d.Raw())
	switch {
	case !d.OK():
	case kind == "run":
		return d.runValue()
	case kind == "proc":
		return d.procValue()
	case kind == "syscall":
		return d.syscallValue()
	case kind == "count":
		return CountValue(d.Uint())
	case kind == "file":
		return d.fileValue()
	case kind == "stat":
		return d.statValue()
	case kind == "entries":
		return d.entriesValue()
	case kind == "clock":
		return d.clockValue()
	case kind == "batch" && batch:
		return d.batchValue()
	default:
		d.Fail("unknown kind %.40q of value", kind)
	}
	return nil
}

func (d *decoder) fileValue() Value {
	v := &FileValue{}
	d.EachField("file", func(key string) bool {
		switch key {
		case "data":
			v.Data = d.Bytes()
		case "perm":
			_, v.Perm = d.perm()
		default:
			return false
		}
		return true
	})
	return v
}

func (d *decoder) statValue() Value {
	v := &StatValue{}
	d.EachField("stat", func(key string) bool {
		switch key {
		case "size":
			v.Size = d.Uint()
		case "mtime_ns":
			v.MtimeNS = d.Int()
		case "perm":
			_, v.Perm = d.perm()
		case "entry_type":
			v.Type = d.entryType()
		case "atime_ns":
			v.AtimeNS = d.Int()
		case "ctime_ns":
			v.CtimeNS = d.Int()
		default:
			for _, f := range v.fields() {
				if f.key == key {
					*f.to = d.Uint()
					return true
				}
			}
			return false
		}
		return true
	})
	return v
}

func (d *decoder) entriesValue() Value {
	n := d.ArrayLen()
	v := make(EntriesValue, 0, min(n, 1024))
	for i := 0; i < n && d.OK(); i++ {
		if d.ArrayLen() != 2 {
			d.Fail("directory entry")
		}
		v = append(v, Entry{Name: d.Str(), Type: d.entryType()})
	}
	return v
}

func (d *decoder) clockValue() Value {
	v := &ClockValue{}
	d.EachField("clock", func(key string) bool {
		switch key {
		case "realtime_ns":
			v.RealtimeNS = d.Int()
		case "monotonic_ns":
			v.MonotonicNS = d.Int()
		case "boottime_ns":
			v.BoottimeNS = d.Int()
		default:
			return false
		}
		return true
	})
	return v
}

func (d *decoder) batchValue() Value {
	n := d.ArrayLen()
	if n > MaxBatch {
		d.Fail("batch of %d results, limit %d", n, MaxBatch)
	}
	v := BatchValue{}
	for i := 0; i < n && d.OK(); i++ {
		v = append(v, d.result(false))
	}
	return v
}

func (d *decoder) runValue() Value {
	v := &RunValue{}
	d.EachField("run", func(key string) bool {
		switch key {
		case "status":
			v.Status = d.runStatus()
		case "code":
			v.Code = d.Uint32()
		case "stdout":
			v.Stdout = d.Bytes()
		case "stderr":
			v.Stderr = d.Bytes()
		case "truncated":
			v.Truncated = d.Bool()
		default:
			return false
		}
		return true
	})
	return v
}

func (d *decoder) entryType() EntryType {
	s := d.Raw()
	for t := range entryTypeEnd {
		if t.String() == string(s) {
			return t
		}
	}
	d.Fail("entry type %.20q", s)
	return TypeOther
}

func (v *RunValue) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Str("status", v.Status.String())
	f.Uint("code", uint64(v.Code))
	f.OptBin("stdout", v.Stdout)
	f.OptBin("stderr", v.Stderr)
	f.OptBool("truncated", v.Truncated)
	return f.Buf
}

// String returns the name used in the API and on the wire.
func (s RunStatus) String() string {
	switch s {
	case Signalled:
		return "signalled"
	case TimedOut:
		return "timed_out"
	}
	return "exited"
}

func (v *FileValue) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.OptBin("data", v.Data)
	f.Uint("perm", uint64(v.Perm))
	return f.Buf
}

func (v *StatValue) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Uint("size", v.Size)
	f.Int("mtime_ns", v.MtimeNS)
	f.Uint("perm", uint64(v.Perm))
	f.Str("entry_type", v.Type.String())
	for _, n := range v.fields() {
		f.OptUint(n.key, *n.to)
	}
	if v.AtimeNS != 0 {
		f.Int("atime_ns", v.AtimeNS)
	}
	if v.CtimeNS != 0 {
		f.Int("ctime_ns", v.CtimeNS)
	}
	return f.Buf
}

func (v EntriesValue) append(b []byte) []byte {
	b = msgpack.AppendArrayHeader(b, len(v))
	for _, e := range v {
		b = msgpack.AppendArrayHeader(b, 2)
		b = msgpack.AppendString(b, e.Name)
		b = msgpack.AppendString(b, e.Type.String())
	}
	return b
}

func (v *ClockValue) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Int("realtime_ns", v.RealtimeNS)
	f.Int("monotonic_ns", v.MonotonicNS)
	f.Int("boottime_ns", v.BoottimeNS)
	return f.Buf
}

func (v BatchValue) append(b []byte) []byte {
	b = msgpack.AppendArrayHeader(b, len(v))
	for i := range v {
		b = AppendResult(b, &v[i])
	}
	return b
}

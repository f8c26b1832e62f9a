package wire

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

// RunValue tells how a command ended and what it printed, without what was
// streamed before.
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

// String gives the name used in the API and on the wire.
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
	f := openFields(b)
	if r.Err != nil {
		f.str("outcome", "err")
		f.key("value")
		e := openFields(f.b)
		e.uint("errno", uint64(r.Err.Errno))
		e.str("name", r.Err.Name)
		e.str("text", r.Err.Text)
		f.b = e.b
	} else {
		f.str("outcome", "ok")
		f.key("value")
		if r.Value == nil {
			f.b = appendNil(f.b)
		} else {
			// {"<kind>": …}: the receiver can check that it got what it asked
			// for, and a capture of the link can be read without context.
			f.b = appendMapHeader(f.b, 1)
			f.b = appendString(f.b, r.Value.kind())
			f.b = r.Value.append(f.b)
		}
	}
	if r.Streamed != [Streams]uint64{} {
		f.key("streamed")
		f.b = appendArrayHeader(f.b, int(Streams))
		for _, n := range r.Streamed {
			f.b = appendUint(f.b, n)
		}
	}
	return f.b
}

// DecodeResult decodes a result.
func DecodeResult(p []byte) (*Result, error) {
	if len(p) > MaxResult {
		return nil, malformed("result of %d bytes, limit %d", len(p), MaxResult)
	}
	d := decoder{b: p}
	r := d.result(true)
	if err := d.end(); err != nil {
		return nil, err
	}
	return &r, nil
}

func (d *decoder) result(batch bool) Result {
	var r Result
	outcome := ""
	d.eachField("result", func(key string) bool {
		switch key {
		case "outcome":
			outcome = d.string()
			if d.err == nil && outcome != "ok" && outcome != "err" {
				d.fail("outcome %.20q", outcome)
			}
		case "value":
			switch outcome {
			case "ok":
				r.Value = d.value(batch)
			case "err":
				r.Err = d.error()
			default:
				d.fail("value before outcome")
			}
		case "streamed":
			if n := d.arrayHeader(); n != int(Streams) {
				d.fail("%d streams", n)
			}
			for i := range r.Streamed {
				r.Streamed[i] = d.uint()
			}
		default:
			return false
		}
		return true
	})
	if outcome == "" || outcome == "err" && r.Err == nil {
		d.fail("result without outcome and value")
	}
	return r
}

func (d *decoder) error() *Error {
	e := &Error{}
	d.eachField("error", func(key string) bool {
		switch key {
		case "errno":
			e.Errno = d.uint32()
		case "name":
			e.Name = d.string()
		case "text":
			e.Text = d.string()
		default:
			return false
		}
		return true
	})
	return e
}

func (d *decoder) value(batch bool) Value {
	if d.isNil() {
		return nil
	}
	if n := d.mapHeader(); n != 1 {
		d.fail("value with %d kinds", n)
	}
	kind := string(d.raw())
	switch {
	case d.err != nil:
	case kind == "run":
		return d.runValue()
	case kind == "proc":
		return d.procValue()
	case kind == "syscall":
		return d.syscallValue()
	case kind == "count":
		return CountValue(d.uint())
	case kind == "file":
		v := &FileValue{}
		d.eachField(kind, func(key string) bool {
			switch key {
			case "data":
				v.Data = d.bin()
			case "perm":
				_, v.Perm = d.perm()
			default:
				return false
			}
			return true
		})
		return v
	case kind == "stat":
		v := &StatValue{}
		d.eachField(kind, func(key string) bool {
			switch key {
			case "size":
				v.Size = d.uint()
			case "mtime_ns":
				v.MtimeNS = d.int()
			case "perm":
				_, v.Perm = d.perm()
			case "entry_type":
				v.Type = d.entryType()
			default:
				return false
			}
			return true
		})
		return v
	case kind == "entries":
		n := d.arrayHeader()
		v := make(EntriesValue, 0, min(n, 1024))
		for i := 0; i < n && d.err == nil; i++ {
			if d.arrayHeader() != 2 {
				d.fail("directory entry")
			}
			v = append(v, Entry{Name: d.string(), Type: d.entryType()})
		}
		return v
	case kind == "clock":
		v := &ClockValue{}
		d.eachField(kind, func(key string) bool {
			switch key {
			case "realtime_ns":
				v.RealtimeNS = d.int()
			case "monotonic_ns":
				v.MonotonicNS = d.int()
			case "boottime_ns":
				v.BoottimeNS = d.int()
			default:
				return false
			}
			return true
		})
		return v
	case kind == "batch" && batch:
		n := d.arrayHeader()
		if n > MaxBatch {
			d.fail("batch of %d results, limit %d", n, MaxBatch)
		}
		v := BatchValue{}
		for i := 0; i < n && d.err == nil; i++ {
			v = append(v, d.result(false))
		}
		return v
	default:
		d.fail("unknown kind %.40q of value", kind)
	}
	return nil
}

func (d *decoder) runValue() Value {
	v := &RunValue{}
	d.eachField("run", func(key string) bool {
		switch key {
		case "status":
			v.Status = d.runStatus()
		case "code":
			v.Code = d.uint32()
		case "stdout":
			v.Stdout = d.bin()
		case "stderr":
			v.Stderr = d.bin()
		case "truncated":
			v.Truncated = d.bool()
		default:
			return false
		}
		return true
	})
	return v
}

func (d *decoder) entryType() EntryType {
	s := d.raw()
	for t := range entryTypeEnd {
		if t.String() == string(s) {
			return t
		}
	}
	d.fail("entry type %.20q", s)
	return TypeOther
}

func (v *RunValue) append(b []byte) []byte {
	f := openFields(b)
	f.str("status", v.Status.String())
	f.uint("code", uint64(v.Code))
	f.optBin("stdout", v.Stdout)
	f.optBin("stderr", v.Stderr)
	f.optBool("truncated", v.Truncated)
	return f.b
}

// String gives the name used in the API and on the wire.
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
	f := openFields(b)
	f.optBin("data", v.Data)
	f.uint("perm", uint64(v.Perm))
	return f.b
}

func (v *StatValue) append(b []byte) []byte {
	f := openFields(b)
	f.uint("size", v.Size)
	f.int("mtime_ns", v.MtimeNS)
	f.uint("perm", uint64(v.Perm))
	f.str("entry_type", v.Type.String())
	return f.b
}

func (v EntriesValue) append(b []byte) []byte {
	b = appendArrayHeader(b, len(v))
	for _, e := range v {
		b = appendArrayHeader(b, 2)
		b = appendString(b, e.Name)
		b = appendString(b, e.Type.String())
	}
	return b
}

func (v *ClockValue) append(b []byte) []byte {
	f := openFields(b)
	f.int("realtime_ns", v.RealtimeNS)
	f.int("monotonic_ns", v.MonotonicNS)
	f.int("boottime_ns", v.BoottimeNS)
	return f.b
}

func (v BatchValue) append(b []byte) []byte {
	b = appendArrayHeader(b, len(v))
	for i := range v {
		b = AppendResult(b, &v[i])
	}
	return b
}

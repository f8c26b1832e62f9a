package wire

import (
	"fmt"
	"math"

	"provium/internal/msgpack"
)

// MaxReadMem is the most memory that one ReadMem returns, in bytes.
const MaxReadMem = 4 << 20

// Limits of a system call. The host checks them before it sends a call, the agent
// when it decodes one, and the executor's program once more.
const (
	MaxArgs    = 6
	MaxBuffers = 256
	MaxBuffer  = 1 << 20 // bytes
	MaxNested  = 4096
	// MaxCallData is how many bytes the buffers of a call have together.
	MaxCallData = MaxBuffers * MaxBuffer
)

// FilesExecutor stands for the agent as the executor of a system call on files.
const FilesExecutor = math.MaxUint64

// Syscall makes a system call in an executor. The buffers' bytes follow each
// other in Data, and in the SyscallValue that it answers with.
type Syscall struct {
	Executor uint64 // 0: the VM's; FilesExecutor; else a worker's handle
	Life     uint64 // of the executor that is meant, whose descriptors a fresh one does not have; 0: any
	Nr       int64
	Args     []int64  // at most 6
	Lens     []uint64 // of the buffers
	Ptrs     []uint64 // pairs: argument slot, buffer whose address it gets; from 0
	Nested   []uint64 // triples: buffer that gets, at which offset, the address of which buffer: parent, child, offset
	// ChildOffsets has, for each of Nested, where in the child the address points to;
	// none: to its beginning.
	ChildOffsets []uint64
	Data         Bulk
	// Async makes the call on a further thread. The answer is a CountValue, the
	// handle for SyscallAwait.
	Async bool
	// ExactMode has the call made without a umask: a file that it creates has the
	// mode that it says.
	ExactMode bool
	// Portable says that Nr is one of the Call constants, and not the guest's number.
	Portable bool
}

// Check returns an error with the value and the limit when a call is larger than
// the protocol allows.
func (r *Syscall) Check() error {
	if n := len(r.Args); n > MaxArgs {
		return tooMany("arguments", n, MaxArgs)
	}
	if n := len(r.Nested); n > 3*MaxNested {
		return tooMany("nested addresses", (n+2)/3, MaxNested)
	}
	if n := len(r.ChildOffsets); n > 0 && n != len(r.Nested)/3 {
		return fmt.Errorf("%d offsets into children for %d nested addresses", n, len(r.Nested)/3)
	}
	return checkBuffers(r.Lens)
}

func checkBuffers(lens []uint64) error {
	if len(lens) > MaxBuffers {
		return tooMany("buffers", len(lens), MaxBuffers)
	}
	for i, n := range lens {
		if n > MaxBuffer {
			return fmt.Errorf("buffer %d has %d bytes, at most %d are possible", i+1, n, MaxBuffer)
		}
	}
	return nil
}

func tooMany(what string, n, limit int) error {
	return fmt.Errorf("%d %s, at most %d are possible", n, what, limit)
}

// SyscallAwait waits for an asynchronous call.
type SyscallAwait struct {
	Handle    uint64
	TimeoutNS uint64 // 0: none
}

// SyscallDrop interrupts an asynchronous call that has not returned, and
// forgets it.
type SyscallDrop struct{ Handle uint64 }

// ReadMem answers with a SyscallValue whose data are bytes of an executor's
// memory.
type ReadMem struct {
	Executor uint64
	Address  uint64
	Length   uint64
}

// FDTail streams what can be read from a descriptor of an executor, as TailFile
// does.
type FDTail struct {
	Executor uint64
	FD       int64
}

// WorkerSpawn starts an executor of its own and answers with its handle, a
// CountValue.
type WorkerSpawn struct{}

// WorkerClose ends a worker.
type WorkerClose struct{ Handle uint64 }

// SyscallValue is what a call returned, as the C library has it: -1 and the
// errno when it failed.
type SyscallValue struct {
	Ret   int64
	Errno uint32
	Life  uint64 // of the executor that made it
	Data  []byte // what was not streamed
}

// Op returns the name of the operation.
func (*Syscall) Op() string      { return "syscall" }
func (*SyscallAwait) Op() string { return "syscall_await" }
func (*SyscallDrop) Op() string  { return "syscall_drop" }
func (*ReadMem) Op() string      { return "read_mem" }
func (*FDTail) Op() string       { return "fd_tail" }
func (*WorkerSpawn) Op() string  { return "worker_spawn" }
func (*WorkerClose) Op() string  { return "worker_close" }

func newSyscallRequest(op string) Request {
	switch op {
	case "syscall":
		return &Syscall{}
	case "syscall_await":
		return &SyscallAwait{}
	case "syscall_drop":
		return &SyscallDrop{}
	case "read_mem":
		return &ReadMem{}
	case "fd_tail":
		return &FDTail{}
	case "worker_spawn":
		return &WorkerSpawn{}
	case "worker_close":
		return &WorkerClose{}
	}
	return nil
}

func putUints(f *fields, key string, v []uint64) {
	if len(v) == 0 {
		return
	}
	f.Key(key)
	f.Buf = msgpack.AppendArrayHeader(f.Buf, len(v))
	for _, n := range v {
		f.Buf = msgpack.AppendUint(f.Buf, n)
	}
}

func (d *decoder) uints(what string, limit int) []uint64 {
	n := d.ArrayLen()
	if n > limit {
		d.Fail("%v", tooMany(what, n, limit))
	}
	if n == 0 || !d.OK() {
		return nil
	}
	out := make([]uint64, 0, n)
	for i := 0; i < n && d.OK(); i++ {
		out = append(out, d.Uint())
	}
	return out
}

// buffers reads bytes that need not outlive the message if the caller said so.
func (d *decoder) buffers() []byte {
	if !d.inPlace {
		return d.Bytes()
	}
	p := d.Raw()
	if len(p) == 0 {
		return nil
	}
	return p
}

func (r *Syscall) fields(f *fields) {
	f.OptUint("executor", r.Executor)
	f.OptUint("life", r.Life)
	f.Int("nr", r.Nr)
	if len(r.Args) > 0 {
		f.Key("args")
		f.Buf = msgpack.AppendArrayHeader(f.Buf, len(r.Args))
		for _, a := range r.Args {
			f.Buf = msgpack.AppendInt(f.Buf, a)
		}
	}
	putUints(f, "lens", r.Lens)
	putUints(f, "ptrs", r.Ptrs)
	putUints(f, "nested", r.Nested)
	putUints(f, "child_offsets", r.ChildOffsets)
	r.Data.put(f, "data", "data_len")
	f.OptBool("async", r.Async)
	f.OptBool("exact_mode", r.ExactMode)
	f.OptBool("portable", r.Portable)
}

func (r *Syscall) field(d *decoder, key string) bool {
	switch key {
	case "nr":
		r.Nr = d.Int()
	case "args":
		n := d.ArrayLen()
		if n > MaxArgs {
			d.Fail("%v", tooMany("arguments", n, MaxArgs))
		}
		for i := 0; i < n && d.OK(); i++ {
			r.Args = append(r.Args, d.Int())
		}
	case "lens":
		r.Lens = d.uints("buffers", MaxBuffers)
		if err := checkBuffers(r.Lens); err != nil {
			d.Fail("%v", err)
		}
	case "ptrs":
		if r.Ptrs = d.uints("numbers for pointers", 2*MaxArgs); len(r.Ptrs)%2 != 0 {
			d.Fail("%d numbers for pointers, which come in pairs", len(r.Ptrs))
		}
	case "nested":
		if r.Nested = d.uints("numbers for nested addresses", 3*MaxNested); len(r.Nested)%3 != 0 {
			d.Fail("%d numbers for nested addresses, which come in threes", len(r.Nested))
		}
	case "child_offsets":
		r.ChildOffsets = d.uints("offsets into children", MaxNested)
	case "data":
		r.Data.Inline = d.buffers()
	case "data_len":
		r.Data.length(d)
	case "async":
		r.Async = d.Bool()
	case "exact_mode":
		r.ExactMode = d.Bool()
	case "portable":
		r.Portable = d.Bool()
	default:
		return onlyUint(d, key, "executor", &r.Executor) || onlyUint(d, key, "life", &r.Life)
	}
	return true
}

func (r *SyscallAwait) fields(f *fields) {
	f.Uint("handle", r.Handle)
	f.OptUint("timeout_ns", r.TimeoutNS)
}

func (r *SyscallAwait) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle) || onlyUint(d, key, "timeout_ns", &r.TimeoutNS)
}

func (r *SyscallDrop) fields(f *fields) { f.Uint("handle", r.Handle) }

func (r *SyscallDrop) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle)
}

func (r *ReadMem) fields(f *fields) {
	f.OptUint("executor", r.Executor)
	f.Uint("address", r.Address)
	f.Uint("length", r.Length)
}

func (r *ReadMem) field(d *decoder, key string) bool {
	return onlyUint(d, key, "executor", &r.Executor) || onlyUint(d, key, "address", &r.Address) ||
		onlyUint(d, key, "length", &r.Length)
}

func (r *FDTail) fields(f *fields) {
	f.OptUint("executor", r.Executor)
	f.Int("fd", r.FD)
}

func (r *FDTail) field(d *decoder, key string) bool {
	if key == "fd" {
		r.FD = d.Int()
		return true
	}
	return onlyUint(d, key, "executor", &r.Executor)
}

func (*WorkerSpawn) fields(*fields)              {}
func (*WorkerSpawn) field(*decoder, string) bool { return false }

func (r *WorkerClose) fields(f *fields) { f.Uint("handle", r.Handle) }

func (r *WorkerClose) field(d *decoder, key string) bool {
	return onlyUint(d, key, "handle", &r.Handle)
}

func (*SyscallValue) kind() string { return "syscall" }

func (v *SyscallValue) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Int("ret", v.Ret)
	f.OptUint("errno", uint64(v.Errno))
	f.OptUint("life", v.Life)
	f.OptBin("data", v.Data)
	return f.Buf
}

func (d *decoder) syscallValue() Value {
	v := &SyscallValue{}
	d.EachField("syscall", func(key string) bool {
		switch key {
		case "ret":
			v.Ret = d.Int()
		case "errno":
			v.Errno = d.Uint32()
		case "life":
			v.Life = d.Uint()
		case "data":
			v.Data = d.Bytes()
		default:
			return false
		}
		return true
	})
	return v
}

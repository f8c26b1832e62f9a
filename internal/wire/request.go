package wire

import (
	"bytes"

	"provium/internal/msgpack"
)

// Request is one of the request types below; Op is its name on the wire.
type Request interface {
	Op() string
	fields(f *fields)
	field(d *decoder, key string) bool
}

// Bulk says where a request's bulk bytes are: inside it (Inline), or in the
// operation's StreamData, Length bytes of it, or up to the stream's end when
// Length is UntilEnd.
type Bulk struct {
	Inline []byte
	Length int64
}

// UntilEnd is the Length of bulk data that ends with its stream.
const UntilEnd = -1

// Streamed reports whether any bytes come over the stream.
func (b Bulk) Streamed() bool { return b.Length != 0 }

func (b Bulk) put(f *fields, inlineKey, lengthKey string) {
	f.OptBin(inlineKey, b.Inline)
	if b.Length != 0 {
		f.Int(lengthKey, b.Length)
	}
}

func (b *Bulk) length(d *decoder) {
	if b.Length = d.Int(); b.Length < UntilEnd {
		d.Fail("bulk length %d", b.Length)
	}
}

// Ping does nothing and answers at once.
type Ping struct{}

// Run starts a command and waits for its end. Either Shell or Args is set.
type Run struct {
	Shell     string   // text for /bin/sh -c
	Args      []string // program, searched in PATH, and its arguments
	Env       []string // "name=value"
	EnvClear  bool     // Env is the whole environment
	Cwd       string   // default "/"
	Stdin     Bulk     // never UntilEnd inside a batch
	User      string   // name or number; default: as the executor
	TimeoutNS uint64   // 0: none
	// Setsid makes the command the leader of a session of its own.
	Setsid bool
	// KillSession also ends what init would adopt of the command, where the
	// command is ended or gets a signal.
	KillSession bool
}

// ReadFile answers with the contents of a file. A regular file of more than
// Max bytes is refused before any is read, with EFBIG; so is any other once it
// has more. Max 0 means no limit.
type ReadFile struct {
	Path   string
	Max    uint64
	Pieces bool // the contents come as Pieces, all of them in the stream
}

// WriteFile creates a file or replaces its contents.
type WriteFile struct {
	Path    string
	SetPerm bool   // set the mode to Perm, also when the file exists already
	Perm    uint32 // permission bits, at most 0o7777
	Data    Bulk
	Pieces  bool // Data are Pieces
}

// Stat describes a file.
type Stat struct {
	Path     string
	NoFollow bool // describe a symbolic link itself
}

// ListDir lists a directory without "." and "..".
type ListDir struct{ Path string }

// Mkdir creates a directory. With Parents it also creates those that are missing
// above it, and accepts an existing directory.
type Mkdir struct {
	Path    string
	Parents bool
	SetPerm bool // without it the mode is 0o755
	Perm    uint32
}

// Unlink removes a file or an empty directory.
type Unlink struct{ Path string }

// Rename renames within one file system of the guest.
type Rename struct{ From, To string }

// ClockGet reads the guest's clocks.
type ClockGet struct{}

// ClockSet sets the wall clock, in nanoseconds since 1970.
type ClockSet struct {
	RealtimeNS int64
	// Earliest sets the earliest time that the kernel takes if RealtimeNS is before that.
	Earliest bool
}

// ClockAdvance moves the wall clock by so many nanoseconds.
type ClockAdvance struct{ ByNS int64 }

// Sleep answers after so many nanoseconds of guest time.
type Sleep struct{ NS uint64 }

// KernelLog answers with a FileValue: the kernel's log as syslog(2) has it, since it was
// last cleared.
type KernelLog struct{}

// MaxKernelLog is the most that a KernelLog brings, in bytes: the latest lines.
const MaxKernelLog = 16 << 20

// AwaitDisk answers when the guest's kernel has the disk with that serial number
// and it is found under its name in /dev/disk/by-id; with Gone, when it has no
// such disk any more.
type AwaitDisk struct {
	Serial string // at most MaxSerial bytes
	Gone   bool
	Bus    string // how it is connected: without a driver for that the answer is an error at once; "" is not known
}

// MaxSerial is what the serial number of a disk holds, in bytes.
const MaxSerial = 20

// Renew reseeds the random generator and sets the clock of a guest that was restored
// from a snapshot, so that it differs from others restored from the same one.
type Renew struct {
	Entropy    []byte // mixed into the kernel's random generator, which is reseeded; none: left alone
	RealtimeNS int64  // the wall clock, in nanoseconds since 1970; 0: left alone
	// DropRandom reads and drops what the guest's drivers hold of its random device.
	DropRandom bool
	// RandomBlock is what the random device gives to every request of a block at present.
	// /dev/hwrng is read until the next byte is the block's first; none: not read.
	RandomBlock []byte
	// MachineID gives the guest an /etc/machine-id of its own, if it has made one since
	// the agent started.
	MachineID bool
	// Disturb has the guest's processes be interrupted at moments that follow from it, from
	// now on; 0: not.
	Disturb uint64
	// Tick has a deterministic guest meet its host at times that the host chooses.
	Tick bool
}

// MachineIDs are the files with the guest's machine id. The second is where systemd puts it while /etc cannot be
// written to.
var MachineIDs = [...]string{"/etc/machine-id", "/run/machine-id", "/var/lib/dbus/machine-id"}

// MaxRandomBlock is the longest RandomBlock, in bytes.
const MaxRandomBlock = 256

// MaxEntropy is the most entropy that a Renew carries, in bytes.
const MaxEntropy = 512

// Batch does its operations one after the other; a failing one does not stop
// the next. Their bulk bytes follow each other on the batch's own streams.
type Batch struct{ Ops []Request }

// Op returns the name of the operation.
func (*Ping) Op() string         { return "ping" }
func (*Run) Op() string          { return "run" }
func (*ReadFile) Op() string     { return "read_file" }
func (*WriteFile) Op() string    { return "write_file" }
func (*Stat) Op() string         { return "stat" }
func (*ListDir) Op() string      { return "listdir" }
func (*Mkdir) Op() string        { return "mkdir" }
func (*Unlink) Op() string       { return "unlink" }
func (*Rename) Op() string       { return "rename" }
func (*ClockGet) Op() string     { return "clock_get" }
func (*ClockSet) Op() string     { return "clock_set" }
func (*ClockAdvance) Op() string { return "clock_advance" }
func (*Sleep) Op() string        { return "sleep" }
func (*KernelLog) Op() string    { return "kernel_log" }
func (*AwaitDisk) Op() string    { return "await_disk" }
func (*Renew) Op() string        { return "renew" }
func (*Batch) Op() string        { return "batch" }

func newRequest(op []byte) Request {
	switch string(op) {
	case "ping":
		return &Ping{}
	case "run":
		return &Run{}
	case "read_file":
		return &ReadFile{}
	case "write_file":
		return &WriteFile{}
	case "stat":
		return &Stat{}
	case "listdir":
		return &ListDir{}
	case "mkdir":
		return &Mkdir{}
	case "unlink":
		return &Unlink{}
	case "rename":
		return &Rename{}
	case "clock_get":
		return &ClockGet{}
	case "clock_set":
		return &ClockSet{}
	case "clock_advance":
		return &ClockAdvance{}
	case "sleep":
		return &Sleep{}
	case "kernel_log":
		return &KernelLog{}
	case "await_disk":
		return &AwaitDisk{}
	case "renew":
		return &Renew{}
	case "network":
		return &Network{}
	case "batch":
		return &Batch{}
	}
	return newProcessRequest(string(op))
}

// AppendRequest encodes a request: a map whose first field is "op".
func AppendRequest(b []byte, r Request) []byte {
	f := msgpack.OpenFields(b)
	f.Str("op", r.Op())
	r.fields(&f)
	return f.Buf
}

// DecodeRequest decodes a request. A message that is well formed but names an
// operation this version lacks is ErrMalformed too: versions never mix.
func DecodeRequest(p []byte) (Request, error) { return decodeRequest(p, false) }

// DecodeRequestInPlace is DecodeRequest for a request that is carried out while p stays as
// it is: the buffers of a system call that is not part of a batch are not copied. Call
// Detach before p changes.
func DecodeRequestInPlace(p []byte) (Request, error) { return decodeRequest(p, true) }

// Detach copies what a request has in place.
func Detach(r Request) {
	if c, ok := r.(*Syscall); ok {
		c.Data.Inline = bytes.Clone(c.Data.Inline)
	}
}

func decodeRequest(p []byte, inPlace bool) (Request, error) {
	if len(p) > MaxRequest {
		return nil, malformed("request of %d bytes, limit %d", len(p), MaxRequest)
	}
	d := newDecoder(p)
	d.inPlace = inPlace
	r := d.request(true)
	if err := d.End(); err != nil {
		return nil, err
	}
	return r, nil
}

func (d *decoder) request(batch bool) Request {
	n := d.MapLen()
	if key := d.Raw(); d.OK() && (n == 0 || string(key) != "op") {
		d.Fail("request does not begin with its op")
	}
	op := d.Raw()
	if !d.OK() {
		return nil
	}
	r := newRequest(op)
	if _, nested := r.(*Batch); r == nil || nested && !batch {
		d.Fail("unknown op %.40q", op)
		return nil
	}
	for i := 1; i < n && d.OK(); i++ {
		key := d.Raw()
		if d.OK() && !r.field(d, string(key)) {
			d.Fail("unknown field %.40q of %s", key, r.Op())
		}
	}
	return r
}

func (*Ping) fields(*fields)              {}
func (*Ping) field(*decoder, string) bool { return false }

func (r *Run) fields(f *fields) {
	f.OptStr("shell", r.Shell)
	putStrings(f, "args", r.Args)
	putStrings(f, "env", r.Env)
	f.OptBool("env_clear", r.EnvClear)
	f.OptStr("cwd", r.Cwd)
	r.Stdin.put(f, "stdin", "stdin_len")
	f.OptStr("user", r.User)
	f.OptUint("timeout_ns", r.TimeoutNS)
	f.OptBool("setsid", r.Setsid)
	f.OptBool("kill_session", r.KillSession)
}

func (r *Run) field(d *decoder, key string) bool {
	switch key {
	case "shell":
		r.Shell = d.Str()
	case "args":
		r.Args = d.Strs()
	case "env":
		r.Env = d.Strs()
	case "env_clear":
		r.EnvClear = d.Bool()
	case "cwd":
		r.Cwd = d.Str()
	case "stdin":
		r.Stdin.Inline = d.Bytes()
	case "stdin_len":
		r.Stdin.length(d)
	case "user":
		r.User = d.Str()
	case "timeout_ns":
		r.TimeoutNS = d.Uint()
	case "setsid":
		r.Setsid = d.Bool()
	case "kill_session":
		r.KillSession = d.Bool()
	default:
		return false
	}
	return true
}

func putStrings(f *fields, key string, v []string) {
	if len(v) == 0 {
		return
	}
	f.Key(key)
	f.Buf = msgpack.AppendArrayHeader(f.Buf, len(v))
	for _, s := range v {
		f.Buf = msgpack.AppendString(f.Buf, s)
	}
}

func (r *ReadFile) fields(f *fields) {
	f.Str("path", r.Path)
	f.OptUint("max", r.Max)
	f.OptBool("pieces", r.Pieces)
}

func (r *ReadFile) field(d *decoder, key string) bool {
	switch key {
	case "path":
		r.Path = d.Str()
	case "max":
		r.Max = d.Uint()
	case "pieces":
		r.Pieces = d.Bool()
	default:
		return false
	}
	return true
}

func putPerm(f *fields, set bool, perm uint32) {
	if set {
		f.Uint("perm", uint64(perm))
	}
}

func (d *decoder) perm() (bool, uint32) {
	v := d.Uint()
	if v > 0o7777 {
		d.Fail("permission bits 0%o", v)
		return false, 0
	}
	return true, uint32(v)
}

func (r *WriteFile) fields(f *fields) {
	f.Str("path", r.Path)
	putPerm(f, r.SetPerm, r.Perm)
	r.Data.put(f, "data", "data_len")
	f.OptBool("pieces", r.Pieces)
}

func (r *WriteFile) field(d *decoder, key string) bool {
	switch key {
	case "path":
		r.Path = d.Str()
	case "perm":
		r.SetPerm, r.Perm = d.perm()
	case "data":
		r.Data.Inline = d.Bytes()
	case "data_len":
		r.Data.length(d)
	case "pieces":
		r.Pieces = d.Bool()
	default:
		return false
	}
	return true
}

func (r *Stat) fields(f *fields) {
	f.Str("path", r.Path)
	f.OptBool("no_follow", r.NoFollow)
}

func (r *Stat) field(d *decoder, key string) bool {
	switch key {
	case "path":
		r.Path = d.Str()
	case "no_follow":
		r.NoFollow = d.Bool()
	default:
		return false
	}
	return true
}

func (r *ListDir) fields(f *fields) { f.Str("path", r.Path) }

func (r *ListDir) field(d *decoder, key string) bool { return onlyString(d, key, "path", &r.Path) }

func onlyString(d *decoder, key, want string, v *string) bool {
	if key != want {
		return false
	}
	*v = d.Str()
	return true
}

func (r *Mkdir) fields(f *fields) {
	f.Str("path", r.Path)
	f.OptBool("parents", r.Parents)
	putPerm(f, r.SetPerm, r.Perm)
}

func (r *Mkdir) field(d *decoder, key string) bool {
	switch key {
	case "path":
		r.Path = d.Str()
	case "parents":
		r.Parents = d.Bool()
	case "perm":
		r.SetPerm, r.Perm = d.perm()
	default:
		return false
	}
	return true
}

func (r *Unlink) fields(f *fields) { f.Str("path", r.Path) }

func (r *Unlink) field(d *decoder, key string) bool { return onlyString(d, key, "path", &r.Path) }

func (r *Rename) fields(f *fields) {
	f.Str("from", r.From)
	f.Str("to", r.To)
}

func (r *Rename) field(d *decoder, key string) bool {
	return onlyString(d, key, "from", &r.From) || onlyString(d, key, "to", &r.To)
}

func (*ClockGet) fields(*fields)              {}
func (*ClockGet) field(*decoder, string) bool { return false }

func (*KernelLog) fields(*fields)              {}
func (*KernelLog) field(*decoder, string) bool { return false }

func (r *ClockSet) fields(f *fields) {
	f.Int("realtime_ns", r.RealtimeNS)
	f.OptBool("earliest", r.Earliest)
}

func (r *ClockSet) field(d *decoder, key string) bool {
	switch key {
	case "realtime_ns":
		r.RealtimeNS = d.Int()
	case "earliest":
		r.Earliest = d.Bool()
	default:
		return false
	}
	return true
}

func (r *ClockAdvance) fields(f *fields) { f.Int("by_ns", r.ByNS) }

func (r *ClockAdvance) field(d *decoder, key string) bool {
	if key != "by_ns" {
		return false
	}
	r.ByNS = d.Int()
	return true
}

func (r *AwaitDisk) fields(f *fields) {
	f.Str("serial", r.Serial)
	f.OptBool("gone", r.Gone)
	f.OptStr("bus", r.Bus)
}

func (r *AwaitDisk) field(d *decoder, key string) bool {
	switch key {
	case "serial":
		if r.Serial = d.Str(); len(r.Serial) > MaxSerial {
			d.Fail("serial number of %d bytes", len(r.Serial))
		}
	case "gone":
		r.Gone = d.Bool()
	case "bus":
		r.Bus = d.Str()
	default:
		return false
	}
	return true
}

func (r *Sleep) fields(f *fields) { f.Uint("ns", r.NS) }

func (r *Sleep) field(d *decoder, key string) bool {
	if key != "ns" {
		return false
	}
	r.NS = d.Uint()
	return true
}

func (r *Renew) fields(f *fields) {
	f.OptBin("entropy", r.Entropy)
	if r.RealtimeNS != 0 {
		f.Int("realtime_ns", r.RealtimeNS)
	}
	f.OptBool("drop_random", r.DropRandom)
	f.OptBin("random_block", r.RandomBlock)
	f.OptBool("machine_id", r.MachineID)
	f.OptUint("disturb", r.Disturb)
	f.OptBool("tick", r.Tick)
}

func (r *Renew) field(d *decoder, key string) bool {
	switch key {
	case "entropy":
		if r.Entropy = d.Bytes(); len(r.Entropy) > MaxEntropy {
			d.Fail("entropy of %d bytes, limit %d", len(r.Entropy), MaxEntropy)
		}
	case "realtime_ns":
		r.RealtimeNS = d.Int()
	case "drop_random":
		r.DropRandom = d.Bool()
	case "random_block":
		if r.RandomBlock = d.Bytes(); len(r.RandomBlock) > MaxRandomBlock {
			d.Fail("random block of %d bytes, limit %d", len(r.RandomBlock), MaxRandomBlock)
		}
	case "machine_id":
		r.MachineID = d.Bool()
	case "disturb":
		r.Disturb = d.Uint()
	case "tick":
		r.Tick = d.Bool()
	default:
		return false
	}
	return true
}

func (r *Batch) fields(f *fields) {
	f.Key("ops")
	f.Buf = msgpack.AppendArrayHeader(f.Buf, len(r.Ops))
	for _, op := range r.Ops {
		f.Buf = AppendRequest(f.Buf, op)
	}
}

func (r *Batch) field(d *decoder, key string) bool {
	if key != "ops" {
		return false
	}
	n := d.ArrayLen()
	if n > MaxBatch {
		d.Fail("batch of %d ops, limit %d", n, MaxBatch)
	}
	d.inPlace = false
	for i := 0; i < n && d.OK(); i++ {
		r.Ops = append(r.Ops, d.request(false))
	}
	return true
}

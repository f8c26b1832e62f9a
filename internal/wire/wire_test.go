package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"provium/internal/msgpack"
)

// The encoded bytes are the protocol: a change here is a new ProtocolVersion.
var goldenRequests = []struct {
	req  Request
	want string
}{
	{&Ping{}, `\x81\xa2op\xa4ping`},
	{&Run{Shell: "true"}, `\x82\xa2op\xa3run\xa5shell\xa4true`},
	{&Run{Args: []string{"a", "b"}, Env: []string{"K=v"}, EnvClear: true, Cwd: "/x",
		Stdin: Bulk{Inline: []byte{0, 255}}, User: "u", TimeoutNS: 1e9, Setsid: true, KillSession: true},
		`\x8a\xa2op\xa3run\xa4args\x92\xa1a\xa1b\xa3env\x91\xa3K=v\xa9env_clear\xc3\xa3cwd\xa2/x\xa5stdin\xc4\x02\x00` +
			`\xff\xa4user\xa1u\xaatimeout_ns\xce\x3b\x9a\xca\x00\xa6setsid\xc3\xackill_session\xc3`},
	{&Run{Shell: "cat", Stdin: Bulk{Length: UntilEnd}}, `\x83\xa2op\xa3run\xa5shell\xa3cat\xa9stdin_len\xff`},
	{&ReadFile{Path: "/f", Max: 96 << 20}, `\x83\xa2op\xa9read_file\xa4path\xa2/f\xa3max\xce\x06\x00\x00\x00`},
	{&ReadFile{Path: "/f", Pieces: true}, `\x83\xa2op\xa9read_file\xa4path\xa2/f\xa6pieces\xc3`},
	{&WriteFile{Path: "/f", Data: Bulk{Length: UntilEnd}, Pieces: true},
		`\x84\xa2op\xaawrite_file\xa4path\xa2/f\xa8data_len\xff\xa6pieces\xc3`},
	{&WriteFile{Path: "/f", SetPerm: true, Perm: 0o755, Data: Bulk{Length: 70000}},
		`\x84\xa2op\xaawrite_file\xa4path\xa2/f\xa4perm\xcd\x01\xed\xa8data_len\xce\x00\x01\x11p`},
	{&Stat{Path: "/f", NoFollow: true}, `\x83\xa2op\xa4stat\xa4path\xa2/f\xa9no_follow\xc3`},
	{&ListDir{Path: "/"}, `\x82\xa2op\xa7listdir\xa4path\xa1/`},
	{&Mkdir{Path: "/d", Parents: true, SetPerm: true}, `\x84\xa2op\xa5mkdir\xa4path\xa2/d\xa7parents\xc3\xa4perm\x00`},
	{&Unlink{Path: "/f"}, `\x82\xa2op\xa6unlink\xa4path\xa2/f`},
	{&Rename{From: "/a", To: "/b"}, `\x83\xa2op\xa6rename\xa4from\xa2/a\xa2to\xa2/b`},
	{&ClockGet{}, `\x81\xa2op\xa9clock_get`},
	{&KernelLog{}, `\x81\xa2op\xaakernel_log`},
	{&ClockSet{RealtimeNS: math.MinInt64},
		`\x82\xa2op\xa9clock_set\xabrealtime_ns\xd3\x80\x00\x00\x00\x00\x00\x00\x00`},
	{&ClockSet{RealtimeNS: 5, Earliest: true}, `\x83\xa2op\xa9clock_set\xabrealtime_ns\x05\xa8earliest\xc3`},
	{&ClockAdvance{ByNS: -129}, `\x82\xa2op\xadclock_advance\xa5by_ns\xd1\xff\x7f`},
	{&Renew{}, `\x81\xa2op\xa5renew`},
	{&Renew{Entropy: []byte("abc"), RealtimeNS: 300},
		`\x83\xa2op\xa5renew\xa7entropy\xc4\x03abc\xabrealtime_ns\xcd\x01\x2c`},
	{&Renew{Disturb: 7}, `\x82\xa2op\xa5renew\xa7disturb\x07`},
	{&Renew{Tick: true}, `\x82\xa2op\xa5renew\xa4tick\xc3`},
	{&Renew{DropRandom: true, RandomBlock: []byte("b"), MachineID: true},
		`\x84\xa2op\xa5renew\xabdrop_random\xc3\xacrandom_block\xc4\x01b\xaamachine_id\xc3`},
	{&Network{Interfaces: []Interface{{Path: "1e.0/01.0", Name: "eth0", MAC: []byte{2, 0, 0, 0, 0, 1},
		Addresses: []string{"10.0.0.2/24"}}}, Hosts: "x"},
		`\x83\xa2op\xa7network\xaainterfaces\x91\x84\xa4path\xa91e.0/01.0\xa4name\xa4eth0\xa3mac\xc4\x06\x02\x00\x00` +
			`\x00\x00\x01\xa9addresses\x91\xab10.0.0.2/24\xa5hosts\xa1x`},
	{&Network{Interfaces: []Interface{{Path: "1", Name: "eth0", MAC: []byte{2, 0, 0, 0, 0, 1},
		Routes: []string{"0.0.0.0/0"}, Gateways: []string{"10.0.0.1"}, Metric: 101}}, Resolver: "y"},
		`\x83\xa2op\xa7network\xaainterfaces\x91\x86\xa4path\xa11\xa4name\xa4eth0\xa3mac\xc4\x06\x02\x00\x00\x00\x00` +
			`\x01\xa6routes\x91\xa90.0.0.0/0\xa8gateways\x91\xa810.0.0.1\xa6metric\x65\xa8resolver\xa1y`},
	{&AwaitDisk{Serial: "d1", Bus: "nvme", Gone: true},
		`\x84\xa2op\xaaawait_disk\xa6serial\xa2d1\xa4gone\xc3\xa3bus\xa4nvme`},
	{&Sleep{NS: 200}, `\x82\xa2op\xa5sleep\xa2ns\xcc\xc8`},
	{&ProcStart{Run: Run{Shell: "cat"}, NoStdin: true},
		`\x83\xa2op\xaaproc_start\xa5shell\xa3cat\xa8no_stdin\xc3`},
	{&ProcStart{Run: Run{Shell: "cat"}, Worker: 7}, `\x83\xa2op\xaaproc_start\xa5shell\xa3cat\xa6worker\x07`},
	{&ProcStart{Run: Run{Shell: "sh"}, TTY: true, Size: TerminalSize{Rows: 24, Cols: 300}},
		`\x85\xa2op\xaaproc_start\xa5shell\xa2sh\xa3tty\xc3\xa4rows\x18\xa4cols\xcd\x01\x2c`},
	{&ProcWait{Handle: 3, NoOutput: true}, `\x83\xa2op\xa9proc_wait\xa6handle\x03\xa9no_output\xc3`},
	{&ProcResize{Handle: 3, Size: TerminalSize{Rows: 1, Cols: 2}},
		`\x84\xa2op\xabproc_resize\xa6handle\x03\xa4rows\x01\xa4cols\x02`},
	{&ProcWait{Handle: 3, TimeoutNS: 5}, `\x83\xa2op\xa9proc_wait\xa6handle\x03\xaatimeout_ns\x05`},
	{&ProcSignal{Handle: 3, Signal: 15}, `\x83\xa2op\xabproc_signal\xa6handle\x03\xa6signal\x0f`},
	{&ProcStatus{Handle: 3}, `\x82\xa2op\xabproc_status\xa6handle\x03`},
	{&ProcWrite{Handle: 3, Data: Bulk{Inline: []byte("x")}}, `\x83\xa2op\xaaproc_write\xa6handle\x03\xa4data\xc4\x01x`},
	{&ProcCloseStdin{Handle: 3}, `\x82\xa2op\xb0proc_close_stdin\xa6handle\x03`},
	{&ProcOutput{Handle: 3, Stderr: true}, `\x83\xa2op\xabproc_output\xa6handle\x03\xa6stderr\xc3`},
	{&ProcOutput{Handle: 3, Last: 9}, `\x83\xa2op\xabproc_output\xa6handle\x03\xa4last\x09`},
	{&ProcClose{Handle: 3}, `\x82\xa2op\xaaproc_close\xa6handle\x03`},
	{&TailFile{Path: "/l", FromEnd: true, Start: -10},
		`\x84\xa2op\xa9tail_file\xa4path\xa2/l\xa8from_end\xc3\xa5start\xf6`},
	{&Syscall{Executor: 7, Nr: 39}, `\x83\xa2op\xa7syscall\xa8executor\x07\xa2nr\x27`},
	{&Syscall{Args: []int64{-1, 2}, Lens: []uint64{2, 8}, Ptrs: []uint64{1, 0}, Nested: []uint64{1, 0, 0},
		Data: Bulk{Inline: []byte("ab01234567")}, Async: true},
		`\x88\xa2op\xa7syscall\xa2nr\x00\xa4args\x92\xff\x02\xa4lens\x92\x02\x08\xa4ptrs\x92\x01\x00\xa6nested\x93` +
			`\x01\x00\x00\xa4data\xc4\x0aab01234567\xa5async\xc3`},
	{&Syscall{Lens: []uint64{8, 2}, Nested: []uint64{0, 1, 0}, ChildOffsets: []uint64{2}},
		`\x85\xa2op\xa7syscall\xa2nr\x00\xa4lens\x92\x08\x02\xa6nested\x93\x00\x01\x00` +
			`\xadchild_offsets\x91\x02`},
	{&Syscall{Life: 9, Nr: 3}, `\x83\xa2op\xa7syscall\xa4life\x09\xa2nr\x03`},
	{&Syscall{Nr: 2, ExactMode: true}, `\x83\xa2op\xa7syscall\xa2nr\x02\xaaexact_mode\xc3`},
	{&SyscallAwait{Handle: 3, TimeoutNS: 5}, `\x83\xa2op\xadsyscall_await\xa6handle\x03\xaatimeout_ns\x05`},
	{&ReadMem{Address: 1 << 40, Length: 16},
		`\x83\xa2op\xa8read_mem\xa7address\xcf\x00\x00\x01\x00\x00\x00\x00\x00\xa6length\x10`},
	{&TailFile{Path: "l", Worker: 7}, `\x83\xa2op\xa9tail_file\xa4path\xa1l\xa6worker\x07`},
	{&SyscallDrop{Handle: 9}, `\x82\xa2op\xacsyscall_drop\xa6handle\x09`},
	{&FDTail{Executor: 7, FD: 4}, `\x83\xa2op\xa7fd_tail\xa8executor\x07\xa2fd\x04`},
	{&WorkerSpawn{}, `\x81\xa2op\xacworker_spawn`},
	{&WorkerClose{Handle: 7}, `\x82\xa2op\xacworker_close\xa6handle\x07`},
	{&Batch{Ops: []Request{&Ping{}, &Unlink{Path: "/f"}}},
		`\x82\xa2op\xa5batch\xa3ops\x92\x81\xa2op\xa4ping\x82\xa2op\xa6unlink\xa4path\xa2/f`},
}

var goldenResults = []struct {
	result Result
	want   string
}{
	{Result{}, `\x82\xa7outcome\xa2ok\xa5value\xc0`},
	{Result{Err: ErrnoError(2)},
		`\x82\xa7outcome\xa3err\xa5value\x83\xa5errno\x02\xa4name\xa6ENOENT\xa4text\xd98No such file or directory ` +
			`(ENOENT, os error 2) [errno 2]`},
	{Result{Value: &RunValue{Status: Signalled, Code: 11, Stdout: []byte("x"), Truncated: true},
		Streamed: [Streams]uint64{0, 300, 0}},
		`\x83\xa7outcome\xa2ok\xa5value\x81\xa3run\x84\xa6status\xa9signalled\xa4code\x0b\xa6stdout\xc4\x01x` +
			`\xa9truncated\xc3\xa8streamed\x93\x00\xcd\x01\x2c\x00`},
	{Result{Value: &FileValue{Data: []byte("hi"), Perm: 0o644}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa4file\x82\xa4data\xc4\x02hi\xa4perm\xcd\x01\xa4`},
	{Result{Value: &StatValue{Size: 5, MtimeNS: -1, Perm: 0o755, Type: TypeDirectory}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa4stat\x84\xa4size\x05\xa8mtime_ns\xff\xa4perm\xcd\x01\xed\xaaentry_type` +
			`\xa9directory`},
	{Result{Value: EntriesValue{{"a", TypeFile}}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa7entries\x91\x92\xa1a\xa4file`},
	{Result{Value: &ClockValue{1, 2, 3}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa5clock\x83\xabrealtime_ns\x01\xacmonotonic_ns\x02\xabboottime_ns\x03`},
	{Result{Value: &ProcValue{Handle: 3, PID: 99}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa4proc\x82\xa6handle\x03\xa3pidc`},
	{Result{Value: &ProcValue{Handle: 3, PID: 99, Ended: true, Status: Signalled}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa4proc\x83\xa6handle\x03\xa3pidc\xa6status\xa9signalled`},
	{Result{Value: &SyscallValue{Ret: -1, Errno: 14, Data: []byte("x")}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa7syscall\x83\xa3ret\xff\xa5errno\x0e\xa4data\xc4\x01x`},
	{Result{Value: &SyscallValue{Life: 9}}, `\x82\xa7outcome\xa2ok\xa5value\x81\xa7syscall\x82\xa3ret\x00\xa4life\x09`},
	{Result{Value: CountValue(300)}, `\x82\xa7outcome\xa2ok\xa5value\x81\xa5count\xcd\x01\x2c`},
	{Result{Value: BatchValue{{}, {Err: ErrnoError(13)}}},
		`\x82\xa7outcome\xa2ok\xa5value\x81\xa5batch\x92\x82\xa7outcome\xa2ok\xa5value\xc0\x82\xa7outcome\xa3err` +
			`\xa5value\x83\xa5errno\x0d\xa4name\xa6EACCES\xa4text\xd92Permission denied (EACCES, os error 13) ` +
			`[errno 13]`},
}

// escaped writes bytes the way the golden tables have them.
func escaped(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		if c >= 0x20 && c < 0x7f && c != '\\' {
			s.WriteByte(c)
		} else {
			s.WriteString(`\x` + hex.EncodeToString([]byte{c}))
		}
	}
	return s.String()
}

func TestGoldenRequests(t *testing.T) {
	for _, g := range goldenRequests {
		b := AppendRequest(nil, g.req)
		if got, want := escaped(b), escaped(unescape(t, g.want)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", g.req.Op(), got, want)
		}
		back, err := DecodeRequest(b)
		if err != nil || !reflect.DeepEqual(back, g.req) {
			t.Errorf("%s: decoded %+v, %v", g.req.Op(), back, err)
		}
	}
}

func TestGoldenResults(t *testing.T) {
	for i, g := range goldenResults {
		b := AppendResult(nil, &g.result)
		if got, want := escaped(b), escaped(unescape(t, g.want)); got != want {
			t.Errorf("%d:\n got %s\nwant %s", i, got, want)
		}
		back, err := DecodeResult(b)
		if err != nil || !reflect.DeepEqual(*back, g.result) {
			t.Errorf("%d: decoded %+v, %v", i, back, err)
		}
	}
}

func unescape(t *testing.T, s string) []byte {
	var out []byte
	for len(s) > 0 {
		if !strings.HasPrefix(s, `\x`) {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		b, err := hex.DecodeString(s[2:4])
		if err != nil {
			t.Fatal(err)
		}
		out, s = append(out, b...), s[4:]
	}
	return out
}

func TestGoldenSession(t *testing.T) {
	n := Nonce{1, 2, 3}
	b := AppendFrame(AppendPreamble(nil, n), Header{Type: FrameHello}, Hello{ProtocolVersion: 1}.Append(nil))
	want := `\xffPROVIUM` + `\x01\x02\x03` + strings.Repeat(`\x00`, 13) +
		`\x00\x00\x00\x13\x01` + strings.Repeat(`\x00`, 11) + `\x81\xb0protocol_version\x01`
	if got := escaped(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	ok := HelloOk{ProtocolVersion: 1, AgentVersion: "v", GuestOS: "linux 6", BootID: "b",
		AgentFeatures: []string{"f"}, Init: "image", AgentID: "i"}
	want = `\x87\xb0protocol_version\x01\xadagent_version\xa1v\xa8guest_os\xa7linux 6` +
		`\xaeagent_features\x91\xa1f\xa7boot_id\xa1b\xa4init\xa5image\xa8agent_id\xa1i`
	if got := escaped(ok.Append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if back, err := DecodeHelloOk(ok.Append(nil)); err != nil || !reflect.DeepEqual(back, ok) {
		t.Error(back, err)
	}
	no := HelloErr{ProtocolVersion: 2, Text: "no"}
	if back, err := DecodeHelloErr(no.Append(nil)); err != nil || back != no {
		t.Error(back, err)
	}
	if got := escaped(AppendCredit(nil, 0x0102030405060708, StreamStderr, 131072)); got !=
		`\x00\x00\x00\x04\x07\x00\x00\x02\x01\x02\x03\x04\x05\x06\x07\x08\x00\x02\x00\x00` {
		t.Error(got)
	}
}

func TestHelloOfAnotherVersion(t *testing.T) {
	f := msgpack.OpenFields(nil)
	f.Uint("protocol_version", 7)
	f.Str("something", "new")
	if m, err := DecodeHello(f.Buf); err != nil || m.ProtocolVersion != 7 {
		t.Error(m, err)
	}
}

func TestModeBits(t *testing.T) {
	if got := []uint32{ModeRead, ModeWrite, ModeCreate, ModeTruncate, ModeAppend,
		ModeExclusive}; !reflect.DeepEqual(got, []uint32{1, 2, 4, 8, 16, 32}) {
		t.Error(got)
	}
}

func TestErrno(t *testing.T) {
	for n, want := range map[uint32]string{
		2:    "No such file or directory (ENOENT, os error 2) [errno 2]",
		11:   "Resource temporarily unavailable (EAGAIN, os error 11) [errno 11]",
		28:   "No space left on device (ENOSPC, os error 28) [errno 28]",
		95:   "Operation not supported (EOPNOTSUPP, os error 95) [errno 95]",
		0:    "Unknown error 0 (os error 0) [errno 0]",
		4000: "Unknown error 4000 (os error 4000) [errno 4000]",
	} {
		if got := ErrnoError(n); got.Text != want || got.Errno != n {
			t.Errorf("%d: %+v", n, got)
		}
	}
}

func TestDecodersRefuse(t *testing.T) {
	for name, b := range map[string]string{
		"empty":             "",
		"no op":             "\x80",
		"other first field": "\x81\xa4path\xa1x",
		"unknown op":        "\x81\xa2op\xa3fly",
		"unknown field":     "\x82\xa2op\xa4ping\xa1x\x01",
		"trailing":          "\x81\xa2op\xa4pingx",
		"huge string":       "\x82\xa2op\xa6unlink\xa4path\xdb\xff\xff\xff\xff",
		"huge array":        "\x82\xa2op\xa3run\xa4args\xdd\xff\xff\xff\xff",
		"nested batch":      "\x82\xa2op\xa5batch\xa3ops\x91\x82\xa2op\xa5batch\xa3ops\x90",
		"perm":              "\x83\xa2op\xa5mkdir\xa4path\xa1x\xa4perm\xcd\xff\xff",
		"length":            "\x83\xa2op\xaawrite_file\xa4path\xa1x\xa8data_len\xfe",
	} {
		if r, err := DecodeRequest([]byte(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	for name, b := range map[string]string{
		"empty":        "",
		"no outcome":   "\x80",
		"no value":     "\x81\xa7outcome\xa3err",
		"outcome":      "\x82\xa7outcome\xa3meh\xa5value\xc0",
		"value first":  "\x82\xa5value\xc0\xa7outcome\xa2ok",
		"unknown kind": "\x82\xa7outcome\xa2ok\xa5value\x81\xa4what\x01",
		"nested batch": "\x82\xa7outcome\xa2ok\xa5value\x81\xa5batch\x91\x82\xa7outcome\xa2ok\xa5value\x81\xa5batch" +
			"\x90",
		"streams":       "\x83\xa7outcome\xa2ok\xa5value\xc0\xa8streamed\x91\x01",
		"entry type":    "\x82\xa7outcome\xa2ok\xa5value\x81\xa7entries\x91\x92\xa1a\xa3dog",
		"too many dirs": "\x82\xa7outcome\xa2ok\xa5value\x81\xa7entries\xdd\x7f\xff\xff\xff",
	} {
		if r, err := DecodeResult([]byte(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if _, err := ParseCredit([]byte{0, 0, 0, 0}); err == nil {
		t.Error("credit for nothing")
	}
	if _, err := ParseCredit([]byte{255, 0, 0, 0}); err == nil {
		t.Error("credit beyond the window")
	}
}

// TestSyscallLimits has calls at each limit, which pass, and one beyond, which
// neither the host's check nor the agent's decoder accepts.
func TestSyscallLimits(t *testing.T) {
	lens := func(n int, size uint64) []uint64 { return slices.Repeat([]uint64{size}, n) }
	for name, tc := range map[string]struct {
		call Syscall
		want string // "" when it is accepted
	}{
		"nothing":      {Syscall{}, ""},
		"most data":    {Syscall{Lens: lens(MaxBuffers, MaxBuffer)}, ""},
		"many buffers": {Syscall{Lens: lens(MaxBuffers+1, 0)}, "257 buffers, at most 256 are possible"},
		"long buffer": {Syscall{Lens: []uint64{0, MaxBuffer + 1}},
			"buffer 2 has 1048577 bytes, at most 1048576 are possible"},
		"huge buffer": {Syscall{Lens: []uint64{1<<64 - 1}},
			"buffer 1 has 18446744073709551615 bytes, at most 1048576 are possible"},
		"most arguments":      {Syscall{Args: make([]int64, MaxArgs)}, ""},
		"many arguments":      {Syscall{Args: make([]int64, MaxArgs+1)}, "7 arguments, at most 6 are possible"},
		"most nested":         {Syscall{Nested: make([]uint64, 3*MaxNested)}, ""},
		"many nested numbers": {Syscall{Nested: make([]uint64, 3*(MaxNested+1))}, "at most"},
	} {
		check := tc.call.Check()
		_, decode := DecodeRequest(AppendRequest(nil, &tc.call))
		for _, err := range []error{check, decode} {
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s: %v, want %q", name, err, tc.want)
			}
		}
		if tc.want != "" && !errors.Is(decode, ErrMalformed) {
			t.Errorf("%s: %v", name, decode)
		}
	}
	if MaxCallData != 256<<20 {
		t.Error(MaxCallData)
	}
}

func TestReaderFindsTheSession(t *testing.T) {
	n := Nonce{9}
	hello := AppendFrame(AppendPreamble(nil, n), Header{Type: FrameHello}, []byte("abc"))
	full := AppendFrame(nil, Header{Type: FrameData, Op: 1}, make([]byte, MaxPayload))
	for name, before := range map[string][]byte{
		"nothing":          nil,
		"noise":            []byte("\xffPRO\xff\xffPROVI garbage"),
		"another session":  AppendPreamble(nil, Nonce{1}),
		"in a frame":       append(bytes.Clone(full[:100]), make([]byte, ResyncPadding)...),
		"in a header":      append(bytes.Clone(full[:7]), make([]byte, ResyncPadding)...),
		"at a frame's end": full,
	} {
		r := NewReader(iotest.HalfReader(bytes.NewReader(append(bytes.Clone(before), hello...))), 0)
		got, err := r.Resync()
		for err == nil && got != n {
			got, err = r.Resync()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		h, err := r.Next()
		p, _ := r.Payload(int(h.Length))
		if err != nil || h.Type != FrameHello || string(p) != "abc" {
			t.Errorf("%s: %v %q %v", name, h, p, err)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPreambleAmongFrames has a reader that is in a session meet the next one.
func TestPreambleAmongFrames(t *testing.T) {
	for at := range 40 {
		b := AppendFrame(nil, Header{Type: FrameData, Op: 1}, make([]byte, 20))
		b = append(b[:len(b)-20+min(at, 20)], make([]byte, ResyncPadding)...)
		b = AppendPreamble(b, Nonce{5})
		r := NewReader(bytes.NewReader(b), 0)
		h, err := r.Next()
		for err == nil {
			if _, err = r.Payload(int(h.Length)); err == nil {
				h, err = r.Next()
			}
		}
		if !errors.Is(err, ErrDesync) {
			t.Fatal(at, err)
		}
		if n, err := r.Resync(); err != nil || n != (Nonce{5}) {
			t.Fatal(at, n, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, g := range goldenRequests {
		f.Add(AppendRequest(nil, g.req))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRequest(b)
		if err != nil {
			return
		}
		again, err := DecodeRequest(AppendRequest(nil, r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
		// What was decoded in place and detached does not depend on the message.
		message := bytes.Clone(b)
		inPlace, err := DecodeRequestInPlace(message)
		if err != nil || !reflect.DeepEqual(inPlace, r) {
			t.Fatalf("%+v in place became %+v, %v", r, inPlace, err)
		}
		Detach(inPlace)
		clear(message)
		if !reflect.DeepEqual(inPlace, r) {
			t.Errorf("%+v became %+v with the message", r, inPlace)
		}
	})
}

func FuzzResult(f *testing.F) {
	for _, g := range goldenResults {
		f.Add(AppendResult(nil, &g.result))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeResult(b)
		if err != nil {
			return
		}
		again, err := DecodeResult(AppendResult(nil, r))
		if err != nil || !bytes.Equal(AppendResult(nil, again), AppendResult(nil, r)) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(Hello{ProtocolVersion: 1}.Append(nil))
	f.Add(HelloOk{ProtocolVersion: 1, AgentFeatures: []string{"a"}}.Append(nil))
	f.Add(HelloErr{ProtocolVersion: 1, Text: "x"}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeHello(b); err == nil {
			if again, err := DecodeHello(m.Append(nil)); err != nil || again != m {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
		if m, err := DecodeHelloOk(b); err == nil {
			if again, err := DecodeHelloOk(m.Append(nil)); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
		if m, err := DecodeHelloErr(b); err == nil {
			if again, err := DecodeHelloErr(m.Append(nil)); err != nil || again != m {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
	})
}

func FuzzCredit(f *testing.F) {
	f.Add(AppendCredit(nil, 1, StreamData, 4096)[HeaderSize:])
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseCredit(b)
		if err == nil && !bytes.Equal(AppendCredit(nil, 1, StreamData, n)[HeaderSize:], b) {
			t.Errorf("%d from %x", n, b)
		}
	})
}

// FuzzReader compares what a Reader finds in a stream that comes at once with
// what it finds when the stream comes byte by byte.
func FuzzReader(f *testing.F) {
	f.Add(AppendFrame(AppendPreamble(nil, Nonce{1}), Header{Type: FrameHello}, []byte("abc")))
	f.Add(AppendCredit(AppendPreamble([]byte("x\xff"), Nonce{}), 1, 1, 1))
	f.Add(AppendPreamble(append(AppendPreamble(nil, Nonce{2}), make([]byte, ResyncPadding)...), Nonce{3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, bytewise := readAll(t, b, bytes.NewReader(b)), readAll(t, b, iotest.OneByteReader(bytes.NewReader(b)))
		if !slices.Equal(whole, bytewise) {
			t.Errorf("at once: %q\nbyte by byte: %q", whole, bytewise)
		}
	})
}

// readAll describes the sessions and frames of a stream. Each frame must stand in
// the stream as it would be encoded.
func readAll(t *testing.T, stream []byte, from io.Reader) (found []string) {
	r := NewReader(from, 0)
	for {
		nonce, err := r.Resync()
		if err != nil {
			return append(found, err.Error())
		}
		found = append(found, fmt.Sprintf("session %x", nonce))
		for {
			h, err := r.Next()
			if err != nil {
				found = append(found, err.Error())
				if !errors.Is(err, ErrDesync) {
					return found
				}
				break
			}
			p, err := r.Payload(int(h.Length))
			if err != nil {
				return append(found, err.Error())
			}
			if frame := AppendFrame(nil, h, p); len(p) != int(h.Length) || !bytes.Contains(stream, frame) {
				t.Fatalf("frame %+v with %d bytes is not in the stream", h, len(p))
			}
			found = append(found, fmt.Sprintf("%+v %x", h, p))
		}
	}
}

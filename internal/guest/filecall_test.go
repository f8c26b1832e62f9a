package guest

import (
	"errors"
	"math"
	"strings"
	"testing"

	"provium/internal/wire"
)

// TestFileCallRequest does not send the buffer that the agent fills.
func TestFileCallRequest(t *testing.T) {
	r := GetxattrCall("/f", "user.a", true).request().(*wire.Syscall)
	if r.Executor != wire.FilesExecutor || r.Nr != wire.CallGetxattr || string(r.Data.Inline) != "/f\x00user.a\x00" ||
		len(r.Lens) != 3 || r.Lens[2] != MaxXattr {
		t.Errorf("%+v", r)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
}

// TestHostileFileAnswers has an agent answer with what no call returns.
func TestHostileFileAnswers(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	var answer wire.Value
	serve(t, a, func(wire.Request) wire.Result { return wire.Result{Value: answer} })
	readlink := func() error { _, err := c.FileCall(ctx, ReadlinkCall("/f")); return err }
	batch := func() error {
		_, err := c.Batch(ctx, []Op{ReadlinkCall("/f")})
		return err
	}
	pull := func() error { _, err := c.PullPieces(ctx, "/f", discard{}); return err }
	piece := func(offset int64, n int) *wire.FileValue {
		b := make([]byte, wire.PieceHeader)
		wire.PutPiece(b, offset, n)
		return &wire.FileValue{Data: append(b, make([]byte, n)...)}
	}
	for name, tc := range map[string]struct {
		answer wire.Value
		do     func() error
		want   string
	}{
		"another kind": {&wire.StatValue{}, readlink, "agent answered with a value of type *wire.StatValue"},
		"too many bytes": {&wire.SyscallValue{Ret: 1, Data: make([]byte, 1<<20)}, readlink,
			"at most 4096 were asked for"},
		"too large a link": {&wire.SyscallValue{Ret: math.MaxInt64, Data: []byte("x")}, readlink, "of at most 1 bytes"},
		"a negative one":   {&wire.SyscallValue{Ret: -5}, readlink, "returned -5 of at most 0 bytes"},
		"in a batch": {wire.BatchValue{{Value: &wire.SyscallValue{Ret: 9, Data: []byte("x")}}}, batch,
			"returned 9 of at most 1 bytes"},
		"another kind in a batch":   {wire.BatchValue{{}}, batch, "agent answered with a value of type <nil>"},
		"no end":                    {&wire.FileValue{}, pull, "the last piece is missing"},
		"a piece that has no end":   {piece(math.MaxInt64, 1), pull, "a piece of 1 bytes at 9223372036854775807"},
		"a piece before the others": {piece(-1, 0), pull, "malformed message"},
	} {
		answer = tc.answer
		if err := tc.do(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	answer = wire.BatchValue{{Err: wire.ErrnoError(125)}}
	got, err := c.Batch(ctx, []Op{ChmodCall("/f", 0)})
	var failed *OpError
	if err != nil || !errors.As(got[0].Err, &failed) || failed.Op != "chmod" || failed.Path != "/f" {
		t.Errorf("%+v, %v", got, err)
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discard) Truncate(int64) error                   { return nil }

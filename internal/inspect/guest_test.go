package inspect

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"provium/internal/guestmem/fakekernel"
)

// memory is a guest's memory from address 0 on.
type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("hole")
	}
	return copy(p, m[at:]), nil
}

func (m memory) Scan(ctx context.Context, visit func(int64, []byte) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return visit(0, m)
}

// TestReadLogOfTwoKernels has a kernel in memory that has ended, before the one that runs: its
// place is known, and its log is not read.
func TestReadLogOfTwoKernels(t *testing.T) {
	m := make(memory, 12<<20)
	old := fakekernel.Kernel{Base: 2 << 20, Messages: []fakekernel.Message{{Text: "old"}}}
	now := fakekernel.Kernel{Base: 8 << 20, Offset: 64 << 20, Messages: []fakekernel.Message{{Text: "new"}}}
	copy(m[old.Base:], old.Memory())
	copy(m[now.Base:], now.Memory())
	var places Places
	for i, want := range []string{"old", "new", "new"} {
		tables := []uint64{0x123000, uint64(now.Base + fakekernel.CR3)}
		if i == 0 {
			tables = nil // nothing is known of the CPUs
		}
		_, records, err := ReadLog(t.Context(), m, &places, tables)
		if err != nil || len(records) != 1 || records[0].Text != want {
			t.Errorf("%d: %+v, %v", i, records, err)
		}
	}
	if _, _, err := ReadLog(t.Context(), m, &places, []uint64{0x5000}); err == nil {
		t.Error("a kernel is read that no CPU runs")
	}
}

// TestErrorsAreWords has a deadline end the reading of a log.
func TestErrorsAreWords(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, _, err := ReadLog(ctx, make(memory, 4096), &Places{}, nil)
	if err = inWords(err); err == nil || strings.Contains(err.Error(), "context") {
		t.Error(err)
	}
}

// TestNoGuest asks for what guests leave, before there is one.
func TestNoGuest(t *testing.T) {
	var g Guest
	if _, err := g.KernelLog(t.Context()); !errors.Is(err, ErrNoGuest) {
		t.Error(err)
	}
	if _, err := g.Look(t.Context()); !errors.Is(err, ErrNoGuest) {
		t.Error(err)
	}
	if err := g.TakeCore(t.Context(), io.Discard); !errors.Is(err, ErrNoGuest) {
		t.Error(err)
	}
	if g.Unshown(t.Context()) != nil || g.TakeKept() != nil || g.IsLost() || g.HasCore() {
		t.Error("there is something")
	}
}

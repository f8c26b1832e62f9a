package agent

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
)

// FuzzExecutorRequest gives the executor's decoder, built with the compiler's
// memory checks, what the agent's encoder makes and what is near it.
func FuzzExecutorRequest(f *testing.F) {
	program := filepath.Join(f.TempDir(), "decode")
	build := exec.Command("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-o", program, "executor/testdata/decode.c", "executor/request.c")
	if out, err := build.CombinedOutput(); err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	for _, r := range []execRequest{
		{kind: execCall, nr: 39},
		{kind: execCall, nr: 1, args: [6]int64{1, 0, 3}, lens: []uint64{3, 16, 0, 5000}, ptrs: []uint32{1, 0, 0, 3},
			nested: []uint64{1, 0, 8, 3, 1, 4992}, data: make([]byte, 3+16+5000)},
		{kind: execReadMem, lens: []uint64{64}},
		{kind: execSpawn, lens: []uint64{2, 2, 1, 1}, data: []byte("a\x00b\x00\x00\x00")},
		{kind: execCall, lens: []uint64{7}, nested: []uint64{0, 0, 0}, data: make([]byte, 7)},
		{kind: execCall, lens: []uint64{8}, nested: []uint64{0, 0, 1<<64 - 8}, data: make([]byte, 8)},
		{kind: execCall, lens: []uint64{1 << 63}, ptrs: []uint32{6, 0}},
		{kind: execBatch, args: [6]int64{1}},
		{kind: execBatch, args: [6]int64{1 << 40}},
		{kind: 9},
	} {
		f.Add(append(r.encode(nil, 1), r.data...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd := exec.Command(program)
		cmd.Stdin = bytes.NewReader(b)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

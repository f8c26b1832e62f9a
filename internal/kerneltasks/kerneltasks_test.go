package kerneltasks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"provium/internal/kallsyms/fakesymbols"
)

// Where the parts of the memory lie.
const (
	types = fakesymbols.First + iota*fakesymbols.Piece
	bases // of the memories of CPUs
	own   // these memories
	tasks
)

// kernel returns the memory of one with two CPUs, which run 86 and nothing. The pointer to the task has a name.
func kernel(t testing.TB, pointer string) fakesymbols.Memory {
	t.Helper()
	const pidAt, pointerAt = 0x40, 0x20
	id := &btf.Int{Name: "pid_t", Size: 4, Encoding: btf.Signed}
	b, err := btf.NewBuilder([]btf.Type{&btf.Struct{Name: "task_struct", Size: 256,
		Members: []btf.Member{{Name: "pid", Type: id, Offset: 8 * pidAt}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	description, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := fakesymbols.Memory{types: description}
	m.Put(bases, own, own+0x1000)
	m.Put(own+pointerAt, tasks)
	m.Put(own+0x1000+pointerAt, tasks+0x800)
	m.Put(tasks+pidAt, 86)
	m.Put(tasks+0x800+pidAt, 0)
	m.SetSymbols(map[string]uint64{"D" + pointer: pointerAt, "R__start_BTF": types,
		"R__stop_BTF": types + uint64(len(description)), "R__per_cpu_offset": bases})
	return m
}

func TestRunning(t *testing.T) {
	for _, pointer := range []string{"current_task", "pcpu_hot"} {
		got, err := Running(kernel(t, pointer), []int{0, 1, 5, -1, maxCPUs})
		if fmt.Sprint(got) != "map[0:86 1:0]" || err != nil {
			t.Errorf("%s: %v, %v", pointer, got, err)
		}
	}
}

func TestRunningRefuses(t *testing.T) {
	for want, damage := range map[string]func(m fakesymbols.Memory){
		"does not say where": func(m fakesymbols.Memory) { m.Rename("current_task", "current_mask") },
		"cannot be read":     func(m fakesymbols.Memory) { m[types][0] = 0 },
		"not mapped":         fakesymbols.Memory.Unname,
	} {
		m := kernel(t, "current_task")
		damage(m)
		if got, err := Running(m, []int{0}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}

// FuzzRunning damages the types, the names and the numbers at any place.
func FuzzRunning(f *testing.F) {
	f.Add(uint32(types), []byte{1, 2, 3})
	f.Add(uint32(bases), []byte{0xff, 0xff})
	f.Add(uint32(own), []byte{0xff, 0xff, 3})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		m := kernel(t, "current_task")
		m.Damage(at, patch)
		got, err := Running(m, []int{0, 1})
		if len(got) > 2 || err != nil && len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

package kerneltasks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"provium/internal/kallsyms"
)

// Where the parts of the memory lie.
const (
	names, tokens, index, offsets, numbers = 1 << 20, 2 << 20, 3 << 20, 4 << 20, 5 << 20
	types, bases, own, tasks               = 6 << 20, 7 << 20, 8 << 20, 9 << 20
	piece                                  = 1 << 20
)

// memory has pieces of a MiB.
type memory map[uint64][]byte

func (m memory) Symbol(name string) (uint64, bool) {
	at, ok := map[string]uint64{"kallsyms_num_syms": numbers, "kallsyms_names": names, "kallsyms_token_table": tokens,
		"kallsyms_token_index": index, "kallsyms_offsets": offsets, "kallsyms_relative_base": numbers + 8}[name]
	return at, ok
}

func (m memory) Read(p []byte, address uint64) error {
	content, ok := m[address/piece*piece]
	if !ok {
		return errors.New("not mapped")
	}
	clear(p)
	if at := address % piece; at < uint64(len(content)) {
		copy(p, content[at:])
	}
	return nil
}

// kernel returns the memory of one with two CPUs, which run 86 and nothing. The pointer to the task has a name.
func kernel(t testing.TB, pointer string) memory {
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
	m := memory{types: description, numbers: make([]byte, 16)}
	put := func(at uint64, values ...uint64) {
		for i, v := range values {
			at := at + 8*uint64(i)
			if need := int(at%piece) + 8; len(m[at/piece*piece]) < need {
				m[at/piece*piece] = append(m[at/piece*piece], make([]byte, need-len(m[at/piece*piece]))...)
			}
			binary.LittleEndian.PutUint64(m[at/piece*piece][at%piece:], v)
		}
	}
	put(bases, own, own+0x1000)
	put(own+pointerAt, tasks)
	put(own+0x1000+pointerAt, tasks+0x800)
	put(tasks+pidAt, 86)
	put(tasks+0x800+pidAt, 0)
	for i := range 256 {
		m[index] = binary.LittleEndian.AppendUint16(m[index], uint16(2*i))
		m[tokens] = append(m[tokens], byte(i), 0)
	}
	symbols := []struct {
		name string
		at   uint64
	}{{"D" + pointer, pointerAt}, {"R__start_BTF", types}, {"R__stop_BTF", types + uint64(len(description))},
		{"R__per_cpu_offset", bases}}
	for _, s := range symbols {
		m[names] = append(append(m[names], byte(len(s.name))), s.name...)
		m[offsets] = binary.LittleEndian.AppendUint32(m[offsets], uint32(s.at))
	}
	put(numbers, uint64(len(symbols)))
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
	for want, damage := range map[string]func(m memory){
		"does not say where": func(m memory) { copy(m[names][2:], "xxxx") },
		"cannot be read":     func(m memory) { m[types][0] = 0 },
		"not mapped":         func(m memory) { delete(m, names) },
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
	f.Add(uint32(numbers), []byte{0xff, 0xff, 3})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		m := kernel(t, "current_task")
		if content := m[uint64(at)/piece*piece]; len(content) > 0 {
			copy(content[int(at)%piece%len(content):], patch)
		}
		got, err := Running(m, []int{0, 1})
		if len(got) > 2 || err != nil && len(got) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

var _ kallsyms.Memory = memory{}

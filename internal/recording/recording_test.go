package recording

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	for want, l := range map[string]Log{
		"-icount shift=1 -global apic-common.vapic=off":                         {},
		"-icount shift=1,rr=record,rrfile=/d/log -global apic-common.vapic=off": {Path: "/d/log"},
		"-icount shift=1,rr=replay,rrfile=/d/log -global apic-common.vapic=off -drive file=/d/s,if=none,id=states": {
			Path: "/d/log", Replay: true, States: "/d/s"},
	} {
		if got := strings.Join(Args(l), " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := strings.Join(Ports("a", "b"), " "); got != "-serial null -serial null -serial null -serial chardev:a "+
		"-serial chardev:b" {
		t.Error(got)
	}
}

func TestCheck(t *testing.T) {
	good := Machine{IsAMD64: true, CPUs: 1}
	if err := Check(good); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Machine){
		"only guests of x86-64":     func(m *Machine) { m.IsAMD64 = false },
		"set accel = \"tcg\"":       func(m *Machine) { m.KVM = true },
		"one CPU, not 2":            func(m *Machine) { m.CPUs = 2 },
		"leave `deterministic` out": func(m *Machine) { m.IsDeterministic = true },
		"vsock":                     func(m *Machine) { m.Vsock = true },
		"when a disk is done":       func(m *Machine) { m.Disks = 1 },
		"frames are not in the log": func(m *Machine) { m.NICs = 1 },
		"leave rng_seed out":        func(m *Machine) { m.HasRNG = true },
		"leave qemu_args out":       func(m *Machine) { m.HasArgs = true },
		"firmware and boot_from":    func(m *Machine) { m.HasFirmware = true },
		"leave `display` out":       func(m *Machine) { m.HasDisplay = true },
	} {
		m := good
		change(&m)
		if err := Check(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func manifest() Manifest {
	return Manifest{Format: format, VM: "n1", QEMU: "7.2.22", Machine: "q35", Memory: 1 << 20, Kernel: "/k",
		StateLen: 1, LogLen: 1, End: 100, Points: []Point{
			{At: 5, Text: "vm:run(\"a\")", Where: "tests/a.test.lua:3"}, {At: 9, Text: "m", Mark: true}}}
}

func TestParseManifest(t *testing.T) {
	var b bytes.Buffer
	if err := manifest().Write(&b); err != nil {
		t.Fatal(err)
	}
	if m, err := ParseManifest(b.Bytes()); err != nil || len(m.Points) != 2 || m.End != 100 {
		t.Errorf("%+v, %v", m, err)
	}
	for want, change := range map[string]func(*Manifest){
		"its format is 9": func(m *Manifest) { m.Format = 9 },
		"its sizes":       func(m *Manifest) { m.Memory = 1 << 60 },
		"its machine":     func(m *Manifest) { m.Machine = "q35,x=y" },
		"its paths":       func(m *Manifest) { m.Kernel = "vmlinux" },
		"not in order":    func(m *Manifest) { m.Points[0].At = 50 },
	} {
		m := manifest()
		change(&m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	var b bytes.Buffer
	if err := manifest().Write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err == nil && (m.Memory <= 0 || m.Memory > maxMemory || len(m.Points) > maxPoints) {
			t.Errorf("%+v", m)
		}
	})
}

func TestWriteSymbols(t *testing.T) {
	var b bytes.Buffer
	err := WriteSymbols(&b, []Symbol{{0xffffffff81000010, "second"}, {0xffffffff81000000, "first"}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil || len(symbols) != 2 || symbols[0].Name != "first" || symbols[0].Value != 0xffffffff81000000 ||
		symbols[0].Size != 16 || symbols[1].Name != "second" {
		t.Errorf("%+v, %v", symbols, err)
	}
	if text := f.Section(".text"); text.Addr != 0xffffffff81000000 || text.Size != 17 {
		t.Errorf("%+v", text)
	}
}

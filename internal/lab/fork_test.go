package lab

import (
	"testing"

	"provium/internal/disk"
	"provium/internal/network"
	"provium/internal/topology"
)

// TestForkDisks forks a VM with disks: each copy has disks of its own, which it changes
// for itself.
func TestForkDisks(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	v, err := l.DeclareVM("a", "p", &topology.BootOpts{Disks: []disk.Spec{{ID: "d", Scratch: 1 << 20}}})
	must(t, err)
	b, err := l.Bridge("lan", nil)
	must(t, err)
	must(t, b.Attach(ctx, []network.Endpoint{{VM: v, Name: "a"}}))
	must(t, v.Boot(ctx, nil))
	must(t, v.WriteFile(ctx, "/tmp/x", []byte("common")))
	forks, err := v.Fork(ctx, l, 2)
	must(t, err)
	seen := map[int]bool{}
	for _, fork := range append(forks, v) {
		d, err := fork.Disk(ctx, "d")
		if err != nil || d.Size() != 1<<20 {
			t.Fatalf("vm `%s`: %v", fork.Name(), err)
		}
		if got, err := fork.ReadFile(ctx, "/tmp/x"); err != nil || string(got) != "common" {
			t.Errorf("vm `%s`: %q, %v", fork.Name(), got, err)
		}
		must(t, fork.WriteFile(ctx, "/tmp/x", []byte(fork.Name())))
		cid, _ := fork.CID()
		if seen[int(cid)] {
			t.Errorf("CID %d came before", cid)
		}
		seen[int(cid)] = true
		if _, err := machineOf(f, fork).Frames(1); err != nil {
			t.Errorf("vm `%s`: %v", fork.Name(), err)
		}
	}
	for _, fork := range append(forks, v) {
		if got, err := fork.ReadFile(ctx, "/tmp/x"); err != nil || string(got) != fork.Name() {
			t.Errorf("vm `%s`: %q, %v", fork.Name(), got, err)
		}
	}
	if names := l.VMNames(); len(names) != 3 || names[1] != "a-1" || names[2] != "a-2" {
		t.Error(names)
	}
}

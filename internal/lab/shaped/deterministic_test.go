package shaped

import (
	"testing"

	"provium/internal/instance"
	"provium/internal/machine"
	"provium/internal/qemu"
)

func TestSeeds(t *testing.T) {
	first, second := SeedOfUse(7, "restore 1 of a"), SeedOfUse(7, "restore 2 of a")
	if SeedOfUse(7, instance.UseOfBoot) != 7 || first == second || first == SeedOfUse(8, "restore 1 of a") {
		t.Error("uses of a seed")
	}
	on := true
	s := machine.Shape{Deterministic: &on}
	if Identity(machine.Shape{}, 1) != "" || Identity(s, 1) == "" || Identity(s, 1) == Identity(s, 2) {
		t.Error("what is built with one seed is used with another")
	}
	s.Disturb = true
	cfg := &qemu.Config{Shape: s, Seed: 7}
	if c := ForCache(cfg); c.Seed != 0 || c.Shape.Disturb || !cfg.Shape.Disturb {
		t.Error("the boot cache depends on the seed")
	}
	if r := Renewal(cfg, &instance.Renewal{}); r.Seed == nil || *r.Seed != 7 || !r.FixedTime {
		t.Errorf("%+v", r)
	}
	if r := Renewal(&qemu.Config{Seed: 7}, &instance.Renewal{}); r.Seed != nil || r.FixedTime {
		t.Errorf("%+v", r)
	}
}

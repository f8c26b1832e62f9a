package lab

import (
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/snapshot"
	"provium/internal/topology"
)

// remake writes a snapshot anew with something changed, its checksums right.
func remake(t *testing.T, from string, change func(m *snapshot.Manifest, sections map[string][]byte)) string {
	t.Helper()
	r, err := snapshot.Open(from)
	must(t, err)
	defer r.Close()
	m := *r.Manifest()
	sections := map[string][]byte{}
	for _, name := range []string{"state", "console", "files"} {
		sections[name], err = r.Section(name)
		must(t, err)
	}
	ram := m.RAM
	change(&m, sections)
	to := filepath.Join(t.TempDir(), "remade.snap")
	w, err := snapshot.Create(to, ram)
	must(t, err)
	defer w.Abort()
	must(t, w.CopyRAM(r.File()))
	for name, p := range sections {
		must(t, w.PutSection(name, p))
	}
	_, err = w.Commit(&m)
	must(t, err)
	return to
}

// TestRestoreForeign offers snapshots that are intact, and not of this machine.
func TestRestoreForeign(t *testing.T) {
	l, _ := fakeLab(t)
	v := declare(t, l, "a")
	must(t, v.Boot(t.Context(), nil))
	s, err := v.Snapshot(t.Context(), "")
	must(t, err)
	must(t, v.Shutdown(t.Context()))
	type sections = map[string][]byte
	for name, tc := range map[string]struct {
		change func(m *snapshot.Manifest, s sections)
		want   string
	}{
		"version": {func(m *snapshot.Manifest, _ sections) { m.Machine.QEMU = "1.2.3" },
			"QEMU version: the snapshot has 1.2.3, here is "},
		"devices": {func(m *snapshot.Manifest, _ sections) { m.Machine.Devices = nil },
			"devices: the snapshot has none of them, here is {\"driver\":\"virtio-serial-pci\""},
		"accel": {func(m *snapshot.Manifest, _ sections) { m.Machine.Accel = "kvm" },
			"accelerator: the snapshot has kvm, here is tcg"},
		"type": {func(m *snapshot.Manifest, _ sections) { m.Machine.Type = "pc" },
			"machine type: the snapshot has pc"},
		"cpus":   {func(m *snapshot.Manifest, _ sections) { m.Machine.CPUs = 1 << 20 }, "is damaged"},
		"memory": {func(m *snapshot.Manifest, _ sections) { m.Machine.Memory = 1 << 40 }, "is damaged"},
		"profile": {func(m *snapshot.Manifest, _ sections) { m.Guest.Profile = "q" },
			"is of profile `q`, the vm has profile `p`"},
		"image": {func(m *snapshot.Manifest, _ sections) { m.Guest.Image = "x" }, "has changed since it was taken"},
		"no state": {func(_ *snapshot.Manifest, s sections) { delete(s, "state") },
			"is damaged: it has no section \"state\""},
		"garbage": {func(_ *snapshot.Manifest, s sections) { s["state"] = []byte(strings.Repeat("garbage", 1000)) },
			"qemu state load"},
		"no bytes": {func(_ *snapshot.Manifest, s sections) { s["state"] = nil }, "qemu state load"},
		"cut state": {func(_ *snapshot.Manifest, s sections) { s["state"] = s["state"][:len(s["state"])/2] },
			"qemu state load"},
		"files": {func(_ *snapshot.Manifest, s sections) { s["files"] = []byte(`[{"Path":"relative"}]`) },
			"is damaged: files[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			path := remake(t, s.Path(), tc.change)
			err := v.Restore(t.Context(), path)
			if err == nil || !strings.Contains(err.Error(), tc.want) ||
				!strings.Contains(err.Error(), "vm `a` restore") {
				t.Errorf("err = %v, want %q", err, tc.want)
			}
			if v.State() != topology.Shutdown {
				t.Errorf("state %s", v.State())
			}
		})
	}
	must(t, v.Restore(t.Context(), remake(t, s.Path(), func(*snapshot.Manifest, sections) {})))
	shell(t, v, "true")
}

package lab

import (
	"fmt"

	"provium/internal/disk"
	"provium/internal/network"
	"provium/internal/snapshot"
	"provium/internal/topology"
)

// section is a part of a snapshot file beside the RAM. Its device saves it from what
// was captured of a guest, and loads it into what a restore starts from.
type section struct {
	name string
	save func(i *guestRun, g *frozenGuest, w *snapshot.Writer, form disk.Form) error
	load func(v *VM, s *savedGuest, r *snapshot.Reader) error
}

// savedGuest is what the sections of a snapshot contain. The disks must be released.
type savedGuest struct {
	state   snapshot.Section // of the devices, where it is in the file
	console []byte
	files   []topology.BootFile
	nics    []network.PlannedNIC
	disks   disk.Plan
}

// sections returns all sections. A save and a restore loop over them.
func sections() []section {
	return append(coreSections(),
		section{"files", (*guestRun).saveFiles, (*VM).loadFiles},
		section{"nics", (*guestRun).saveNICs, (*VM).loadNICs},
		section{"disks", (*guestRun).saveDisks, (*VM).loadDisks})
}

// coreSections returns what a boot from the cache takes over: everything else is the
// booting VM's own.
func coreSections() []section {
	return []section{
		{"state", (*guestRun).saveState, (*VM).loadState},
		{"console", (*guestRun).saveConsole, (*VM).loadConsole},
	}
}

// loadSections reads sections of a snapshot.
func (v *VM) loadSections(r *snapshot.Reader, all []section) (*savedGuest, error) {
	saved := &savedGuest{}
	for _, s := range all {
		if err := s.load(v, saved, r); err != nil {
			saved.disks.Release()
			return nil, err
		}
	}
	return saved, nil
}

func damaged(r *snapshot.Reader, err error) error {
	return fmt.Errorf("snapshot `%s` is damaged: %w", r.Path(), err)
}

// The section "state" is the state of the devices, as QEMU wrote it.

func (i *guestRun) saveState(g *frozenGuest, w *snapshot.Writer, _ disk.Form) error {
	return w.PutSection("state", g.state)
}

func (v *VM) loadState(s *savedGuest, r *snapshot.Reader) error {
	state, ok := r.Manifest().Sections["state"]
	if !ok {
		return fmt.Errorf("snapshot `%s` is damaged: it has no section \"state\"", r.Path())
	}
	s.state = state
	return nil
}

// The section "console" is the console log up to the snapshot.

func (i *guestRun) saveConsole(g *frozenGuest, w *snapshot.Writer, _ disk.Form) error {
	return w.PutSection("console", g.console)
}

func (v *VM) loadConsole(s *savedGuest, r *snapshot.Reader) (err error) {
	s.console, err = r.Section("console")
	return err
}

// The section "files" is JSON of the boot files, for a reset after the restore.

func (i *guestRun) saveFiles(_ *frozenGuest, w *snapshot.Writer, _ disk.Form) error {
	text, err := topology.EncodeBootFiles(i.plan.opts.Files)
	if err != nil {
		return err
	}
	return w.PutSection("files", text)
}

func (v *VM) loadFiles(s *savedGuest, r *snapshot.Reader) error {
	text, err := r.Section("files")
	if err != nil {
		return err
	}
	if s.files, err = topology.DecodeBootFiles(text); err != nil {
		return damaged(r, err)
	}
	return nil
}

// The section "nics" is that of package network. It is absent without NICs. Restored
// NICs are attached to the bridges of their names where the VM is, or may be, a member.

func (i *guestRun) saveNICs(g *frozenGuest, w *snapshot.Writer, _ disk.Form) error {
	if len(g.nics) == 0 {
		return nil
	}
	text, err := network.EncodeNICs(g.nics)
	if err != nil {
		return err
	}
	return w.PutSection("nics", text)
}

func (v *VM) loadNICs(s *savedGuest, r *snapshot.Reader) error {
	if _, ok := r.Manifest().Sections["nics"]; !ok {
		return nil
	}
	text, err := r.Section("nics")
	if err == nil {
		s.nics, err = v.host.network().DecodeNICs(v, text, topology.CheckName)
	}
	if err != nil {
		return damaged(r, err)
	}
	return nil
}

// The sections "disks" and "disks.*" are those of package disk.

func (i *guestRun) saveDisks(g *frozenGuest, w *snapshot.Writer, form disk.Form) error {
	return g.disks.Save(w, form)
}

func (v *VM) loadDisks(s *savedGuest, r *snapshot.Reader) (err error) {
	s.disks, err = disk.Load(r, &v.host.snapshots)
	return err
}

package lab

import (
	"context"
	"errors"
	"time"

	"provium/internal/disk"
	"provium/internal/guest/handle"
	"provium/internal/lab/shaped"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/snapshot"
)

// saving says how a snapshot is made.
type saving struct {
	running bool // the guest runs, and is stopped meanwhile
	diff    bool // unless too much has changed
	disks   disk.Form
	valid   func() error // called before the file is there; an error ends the attempt. May be nil
}

// takenSnapshot is a complete file and what this process has to remember of it.
type takenSnapshot struct {
	id       snapshot.FileID
	base     string // path of the full snapshot that a diff lies over; "" for a full one
	token    string
	disks    disk.Sealed    // open, unless token is ""
	template *qemu.Template // of the same guest; may be nil
}

// save writes the guest to w. record must follow if how.disks has a token.
func (i *guestRun) save(ctx context.Context, w *snapshot.Writer, how saving) (taken *takenSnapshot, err error) {
	if !how.diff {
		// What the guest does not change meanwhile is copied while it runs.
		if err := w.CopyRAM(i.machine.RAM()); err != nil {
			return nil, err
		}
	}
	var moment *frozenGuest
	if how.running {
		moment, err = i.stopped(ctx, w)
	} else {
		moment, err = i.capture(ctx, w)
	}
	if err != nil {
		return nil, err
	}
	base := ""
	if how.diff {
		if base, err = i.chooseForm(w, moment.changed); err != nil {
			return nil, errors.Join(err, moment.close())
		}
	}
	if how.valid != nil {
		if err := how.valid(); err != nil {
			return nil, errors.Join(err, moment.close())
		}
	}
	if taken, err = i.finish(w, moment, how.disks); err == nil {
		taken.base = base
	}
	return taken, err
}

// record enters a snapshot of this guest into the host's store. It owns the disks.
func (i *guestRun) record(taken *takenSnapshot) error {
	t := snapshot.Taken[handle.Mark, disk.Sealed]{Epoch: i.Epoch().Mark(), Token: taken.token, Disks: taken.disks}
	if taken.base != "" && taken.token != "" { // a temporary diff
		t.BaseID, t.Base = i.plan.base.ID, i.machine.RAM()
	}
	i.vm.host.Templates.Put(taken.id, taken.template, false)
	return i.vm.host.snapshots.Put(taken.id, t)
}

// finish writes the sections and the manifest. It owns the captured disks, which stay
// open only in a snapshot with a token.
func (i *guestRun) finish(w *snapshot.Writer, moment *frozenGuest, form disk.Form) (taken *takenSnapshot, err error) {
	disks := moment.disks
	for _, s := range sections() {
		if err := s.save(i, moment, w, form); err != nil {
			return nil, errors.Join(err, moment.close())
		}
	}
	moment.disks = nil
	cfg := *i.plan.cfg
	cfg.NICs = network.Devices(moment.nics)
	cfg.Disks = disks.Devices()
	g := i.plan.guest
	g.ConsoleSearch = moment.search
	taken = &takenSnapshot{token: form.Token, disks: disks, template: moment.template}
	taken.id, err = w.Commit(&snapshot.Manifest{Created: time.Now().UTC(), Guest: g,
		Machine: shaped.Hardware(&cfg, i.vm.host.AccelHost, i.machine.Version())})
	if err != nil {
		return nil, errors.Join(err, disks.Close(), moment.close())
	}
	if form.Token == "" {
		taken.disks = nil
		return taken, disks.Close()
	}
	return taken, nil
}

// stopped captures a running guest, which then continues.
func (i *guestRun) stopped(ctx context.Context, w *snapshot.Writer) (*frozenGuest, error) {
	if err := i.Halt(ctx); err != nil {
		return nil, err
	}
	since := time.Now()
	moment, err := i.capture(ctx, w)
	err = errors.Join(err, i.Continue(ctx))
	i.stood = time.Since(since)
	if err != nil {
		if moment != nil {
			err = errors.Join(err, moment.close())
		}
		return nil, err
	}
	return moment, nil
}

// frozenGuest is the captured state of a stopped guest, beside its RAM.
type frozenGuest struct {
	state, console []byte
	search         int64
	disks          disk.Sealed
	nics           []network.PlannedNIC // some may have come while the guest ran
	changed        []snapshot.Range     // of a restored guest's memory, since then
	template       *qemu.Template       // of the guest; nil without one
}

// close releases what finish has not taken.
func (g *frozenGuest) close() error {
	g.template.Close()
	return g.disks.Close()
}

// capture captures a stopped guest. Its RAM, or what of it has changed, goes to w.
func (i *guestRun) capture(ctx context.Context, w *snapshot.Writer) (*frozenGuest, error) {
	g := &frozenGuest{}
	var err error
	if g.state, err = i.machine.SaveState(ctx); err != nil {
		return nil, err
	}
	if !i.plan.restored {
		err = w.CopyRAM(i.machine.RAM())
	} else {
		err = i.machine.DirtyRAM(ctx, func(at int64, p []byte) error {
			g.changed = snapshot.AppendRange(g.changed, at, int64(len(p)))
			return w.PutRAM(at, p)
		})
	}
	if err != nil {
		return nil, err
	}
	i.machine.SyncConsole()
	if g.console, g.search, err = i.vm.console.Content(); err != nil {
		return nil, err
	}
	g.nics = i.netdevs.Planned()
	if g.disks, err = i.vm.disks.Seal(); err == nil {
		g.template, _ = i.machine.Template(ctx) // without one, the file will do
	}
	return g, err
}

// diffShare is the share of a guest's memory, as a divisor, that may have changed for
// its snapshot to be a diff. With more changes the snapshot becomes a full one.
const diffShare = 4

// chooseForm makes a snapshot of a restored guest a diff and returns the path of its
// base, or makes it full and returns "" where too much has changed.
func (i *guestRun) chooseForm(w *snapshot.Writer, changed []snapshot.Range) (base string, err error) {
	var sum int64
	for _, c := range changed {
		sum += c.Length
	}
	if sum > i.plan.cfg.Memory/diffShare {
		return "", w.FillRAM(i.machine.RAM(), changed)
	}
	return i.plan.base.Path, w.SetBase(i.plan.base, changed)
}

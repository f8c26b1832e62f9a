package disk

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"provium/internal/blockdev"
	"provium/internal/blockdev/crash"
	"provium/internal/blockdev/fault"
)

var (
	noCut       = blockdev.Cut{}
	failFlushes = fault.Rule{Op: fault.Flush, Errno: "EIO", Probability: 1, Seed: 7}
)

func failWrites(p *fault.Policy) { p.FailWrites = true }

func TestRecording(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	c, _ := plugIn(t, s)
	wantError(t, d.Mark("early"), "is not being recorded")
	r, err := d.Record(mib)
	must(t, err)
	if d.LastRecording() != r || r.Disk() != d {
		t.Error("another recording")
	}
	_, err = d.Record(mib)
	wantError(t, err, "is being recorded already")
	clientWrite(t, c, "first")
	must(t, c.Flush())
	must(t, d.Mark("done"))
	clientWrite(t, c, "second")
	must(t, r.Mark("last"))
	var kinds []crash.Kind
	for _, op := range r.Log() {
		kinds = append(kinds, op.Kind)
	}
	want := []crash.Kind{crash.Write, crash.Flush, crash.Mark, crash.Write, crash.Mark}
	if !slices.Equal(kinds, want) || r.Len() != len(want) || r.Bytes() != 2*SectorSize {
		t.Errorf("%v, %d bytes", kinds, r.Bytes())
	}
	if why, err := r.Ended(); why != "" || err != nil {
		t.Errorf("ended: %q %v", why, err)
	}
	path := filepath.Join(env.TempDir, "saved")
	r.Stop()
	r.Stop()
	if why, err := r.Ended(); why == "" || err != nil {
		t.Errorf("ended: %q %v", why, err)
	}
	must(t, r.Save(path))
	loaded, err := d.LoadRecording(path)
	must(t, err)
	if loaded.Len() != r.Len() || d.LastRecording() != r {
		t.Errorf("%d entries were loaded", loaded.Len())
	}
	must(t, r.Close())
	must(t, r.Close())
	if d.LastRecording() != nil {
		t.Error("a closed recording is the last one")
	}
	_, err = r.Explore(crash.Options{})
	wantError(t, err, "the recording was closed")
	_, err = loaded.Explore(crash.Options{})
	must(t, err)
	other := add(t, s, Spec{ID: "b", Scratch: 2 * mib})
	_, err = other.LoadRecording(path)
	wantError(t, err, "is of a disk of 1048576 bytes, disk `b` has 2097152")
	must(t, d.Close(false))
	_, err = loaded.Explore(crash.Options{})
	wantError(t, err, "disk is detached")
}

// TestExplore looks at the points of a recording on another disk.
func TestExplore(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d, copied := add(t, s, Spec{ID: "a", Scratch: mib}), add(t, s, Spec{ID: "b", Scratch: mib})
	small := add(t, s, Spec{ID: "c", Scratch: mib / 2})
	c, _ := plugIn(t, s)
	r, err := d.Record(mib)
	must(t, err)
	clientWrite(t, c, "first")
	must(t, c.Flush())
	must(t, r.Mark("promised"))
	clientWrite(t, c, "second")
	x, err := r.Explore(crash.Options{})
	must(t, err)
	if x.Entries() != 4 || len(x.Sample(1, 3)) != 1 {
		t.Errorf("%d entries, sample %v", x.Entries(), x.Sample(1, 3))
	}
	contents := map[string]int{}
	keys := map[CrashKey]bool{}
	for n := 1; n <= x.Points(); n++ {
		p := x.Point(n)
		must(t, x.Content(p)(copied))
		content := read(t, copied, false)
		contents[content]++
		keys[x.Key(p)] = true
		// A promise was made after the flush, so the write before it is kept.
		if p.Text == "" || len(p.Marks) > 0 && content != "first" && content != "second" {
			t.Errorf("point %d, %q after %q: %q", n, p.Text, p.Marks, content)
		}
		if content == "second" && p.Kept == 0 {
			t.Errorf("point %d keeps no write and has %q", n, content)
		}
	}
	if len(contents) != 3 || contents[""] == 0 || contents["first"] == 0 || len(keys) < 3 {
		t.Errorf("%v in %d points, %d keys", contents, x.Points(), len(keys))
	}
	must(t, x.End()(copied))
	if got := read(t, copied, false); got != "second" {
		t.Errorf("%q at the end", got)
	}
	wantError(t, x.End()(small), "disk `c`")
	must(t, copied.Close(false))
	wantError(t, x.End()(copied), "disk is detached")
}

func TestPresent(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d, copied := add(t, s, Spec{ID: "a", Scratch: mib}), add(t, s, Spec{ID: "b", Scratch: mib})
	c, _ := plugIn(t, s)
	clientWrite(t, c, "not flushed")
	content, err := d.Present()
	must(t, err)
	clientWrite(t, c, "later")
	must(t, content(copied))
	if got := read(t, copied, false); got != "not flushed" {
		t.Errorf("%q", got)
	}
	if d.LastRecording() != nil {
		t.Error("a recording that nobody has asked for")
	}
	_, err = d.Record(mib)
	must(t, err)
	_, err = d.Present()
	wantError(t, err, "is being recorded already")
}

// TestContentsReplaced uses a disk from all sides while restores replace its contents.
// The race detector sees whoever looks at them without the lock.
func TestContentsReplaced(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	_, err := s.Devices(env.TempDir)
	must(t, err)
	sealed, err := s.Seal()
	must(t, err)
	defer sealed.Close()
	path := savedAt(t, env, sealed, Form{})
	done := make(chan struct{})
	var users sync.WaitGroup
	for _, use := range []func(){
		d.StopCounting,
		func() { _ = d.Blank() },
		func() { _ = d.Size() },
		func() { _, _ = d.Present() }, // it may be restored meanwhile
		func() {
			if r, err := d.Record(mib); err == nil {
				_, _ = r.Explore(crash.Options{})
				_ = r.Close()
			}
		},
		func() { _, _ = d.CountRequests(fault.Write, 0) },
		func() { s.PowerOn() },
	} {
		users.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					use()
				}
			}
		})
	}
	for range 20 {
		restore(t, s, path, nil)
	}
	close(done)
	users.Wait()
	if got, err := s.Find("a"); got != d || err != nil {
		t.Errorf("another disk, %v", err)
	}
}

// TestStopAfterRestore checks that a recording of the contents before a restore does
// not stop one of the contents after it.
func TestStopAfterRestore(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d := add(t, s, Spec{ID: "a", Scratch: mib})
	_, err := s.Devices(env.TempDir)
	must(t, err)
	before, err := d.Record(mib)
	must(t, err)
	sealed, err := s.Seal()
	must(t, err)
	defer sealed.Close()
	path := savedAt(t, env, sealed, Form{})
	restore(t, s, path, nil)
	if why, _ := before.Ended(); why == "" {
		t.Error("the recording goes on")
	}
	after, err := d.Record(mib)
	must(t, err)
	before.Stop()
	must(t, before.Close())
	if why, _ := after.Ended(); why != "" {
		t.Errorf("the later recording has ended: %s", why)
	}
	if d.LastRecording() != after {
		t.Error("the later recording is not the last one")
	}
	// One that was begun with the contents before cannot be owned by those after.
	rec, err := blockdev.LoadRecording(savedRecording(t, env, after))
	must(t, err)
	_, err = d.own(nil, rec)
	wantError(t, err, "disk was restored meanwhile")
}

// TestStopDuringRestore stops a recording when the disk has other contents already,
// and those before are not closed yet.
func TestStopDuringRestore(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	d, next := add(t, s, Spec{ID: "a", Scratch: mib}), add(t, s, Spec{ID: "b", Scratch: mib})
	before, err := d.Record(mib)
	must(t, err)
	after, err := next.Record(mib)
	must(t, err)
	replace := func(data *blockdev.Disk) (old *blockdev.Disk) {
		d.mu.Lock()
		defer d.mu.Unlock()
		old, d.data = d.data, data
		return old
	}
	old := replace(next.contents())
	before.Stop()
	replace(old)
	if why, _ := before.Ended(); why == "" {
		t.Error("the recording goes on")
	}
	if why, _ := after.Ended(); why != "" {
		t.Errorf("another recording has ended: %s", why)
	}
}

func savedRecording(t *testing.T, env *Env, r *Recording) string {
	t.Helper()
	r.Stop()
	path := filepath.Join(env.TempDir, "recording")
	must(t, r.Save(path))
	return path
}

func TestExport(t *testing.T) {
	env, _ := testEnv(t)
	s := newShelf(t, env, "v")
	image := imageFile(t, env, "image", "template")
	d := add(t, s, Spec{ID: "a", Template: image})
	blank := add(t, s, Spec{ID: "b", Scratch: 3 * mib})
	c, _ := plugIn(t, s)
	clientWrite(t, c, "pending")
	path := filepath.Join(env.TempDir, "exported")
	for _, pending := range []bool{true, false} {
		must(t, d.Export(t.Context(), path, pending))
		got, err := os.ReadFile(path)
		want := sector("template")
		if pending {
			want = sector("pending")
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q %v", got, err)
		}
	}
	must(t, blank.WriteSectors(t.Context(), 2048, sector("far")))
	must(t, blank.Export(t.Context(), path, false))
	if info, err := os.Stat(path); err != nil || info.Size() != 3*mib || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info, err)
	}
	wantError(t, d.Export(t.Context(), image, false), "is what the disk is made of")
	wantError(t, d.Export(t.Context(), env.TempDir, false), "no regular file")
	wantError(t, d.Export(t.Context(), filepath.Join(env.TempDir, "none", "x"), false), "no such file")
	ended := endedContext(t)
	must(t, os.Remove(path))
	wantError(t, blank.Export(ended, path, false), "context canceled")
	if left, _ := filepath.Glob(filepath.Join(env.TempDir, ".export-*")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an export that failed has a file")
	}
}

package artifacts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CacheLimit is how many bytes the folders of one run take in the user's cache.
const CacheLimit = 1 << 30

// Place is a directory for the folders of the failed tests of a run.
type Place struct {
	Dir   string // absolute; "" keeps nothing
	Limit int64  // bytes that all folders may have; 0: any
}

// maxFolders is how many failures of tests of one name a directory takes.
const maxFolders = 10_000

// Create makes the folder of a failure that is described by a record, or returns the one that a
// process of the same run has begun for it and not finished.
func (p Place) Create(r Record) (*Folder, error) {
	if err := os.MkdirAll(p.Dir, 0o777); err != nil {
		return nil, err
	}
	name := folderName(r.File, r.Test)
	for n := 1; n <= maxFolders; n++ {
		dir := filepath.Join(p.Dir, name)
		if n > 1 {
			dir += fmt.Sprintf("-%d", n)
		}
		f := &Folder{Dir: dir, place: p, record: r}
		err := os.Mkdir(dir, 0o777)
		switch {
		case err == nil:
			f.add(recordFile, "what `provium replay` needs to run the test again", maxRecord, r.write)
			return f, nil
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		case f.isUnfinished():
			f.adopt()
			return f, nil
		}
	}
	return nil, fmt.Errorf("%s has %d folders called %s", p.Dir, maxFolders, name)
}

// Check returns an error if folders cannot be made. It leaves nothing behind.
func (p Place) Check() (err error) {
	for range 1000 {
		// A Check of another run may have removed the directory that this one is in.
		if err = p.probe(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// probe is Check, once.
func (p Place) probe() error {
	_, err := os.Stat(p.Dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(p.Dir, 0o777); err != nil {
		return err
	}
	probe, err := os.MkdirTemp(p.Dir, ".probe-")
	if err == nil {
		err = os.Remove(probe)
	}
	if isNew {
		os.Remove(p.Dir) // which stays if another run has put something there
	}
	return err
}

// Claim marks the place as that of a run, until release is called, and removes the folders of earlier
// runs from it, unless another run that goes on has claimed it too.
func (p Place) Claim() (release func(), err error) {
	dir, err := os.Open(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		err = p.empty()
	}
	// Where the file system has no locks, runs that share a place may remove folders of each other.
	_ = unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return func() { dir.Close() }, err
}

// Folders returns the folders of failures that are in the place.
func (p Place) Folders() (dirs []string) {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		dir := filepath.Join(p.Dir, e.Name())
		if _, err := ReadRecord(dir); err == nil && e.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// empty removes the folders, and nothing else.
func (p Place) empty() (err error) {
	for _, dir := range p.Folders() {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// used returns the bytes of all files below the place. What vanishes meanwhile counts as nothing.
func (p Place) used() (size int64) {
	_ = filepath.WalkDir(p.Dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// Files returns the paths of the files in a folder, as readers of JUnit take them: below the working directory
// relative to it, since a job may be looked at where its directory is another one. It returns nothing for a
// folder that cannot be read, and for "".
func Files(folder string) (paths []string) {
	entries, err := os.ReadDir(folder)
	if folder == "" || err != nil {
		return nil
	}
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, folder); err == nil && filepath.IsLocal(rel) {
			folder = rel
		}
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			paths = append(paths, filepath.Join(folder, entry.Name()))
		}
	}
	return paths
}

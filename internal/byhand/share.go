package byhand

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"provium/internal/guest"
	"provium/internal/topology"
)

// Limits of what comes back from one directory. The guest may be hostile.
const (
	maxEntries = 1 << 20
	maxName    = 255      // bytes
	maxData    = 64 << 30 // bytes
)

// share is a directory of the host of which the guest has a copy. What the guest changes in
// the copy comes back at the end; it is not seen before that.
type share struct {
	dir   string // on both sides
	guest map[string]state
	host  map[string]time.Time // of the files that were copied

	left int64 // of maxData
}

// state is what shows that the guest has changed a file.
type state struct {
	kind   guest.EntryType
	size   int64
	mtime  int64 // nanoseconds since 1970
	ctime  int64 // likewise
	perm   uint32
	inode  uint64
	target string // of a symbolic link
}

// share copies a directory into the guest and notes how it is there.
func (g *Guest) share(ctx context.Context, link *guest.Client, dir string) (*share, error) {
	s := &share{dir: dir, host: map[string]time.Time{}, left: maxData}
	err := filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			s.host[s.relative(at)] = info.ModTime()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := g.push(ctx, dir); err != nil {
		return nil, err
	}
	s.guest, err = s.list(ctx, link, nil)
	return s, err
}

func (s *share) relative(at string) string {
	rel, err := filepath.Rel(s.dir, at)
	if err != nil {
		return at
	}
	return rel
}

// list returns what the guest has below the directory. skipped gets what is no file,
// directory or link.
func (s *share) list(ctx context.Context, link *guest.Client, skipped func(name string)) (map[string]state, error) {
	all := map[string]state{}
	for todo := []string{""}; len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		entries, err := link.ListDir(ctx, path.Join(s.dir, dir))
		if err != nil {
			return nil, err
		}
		if len(all)+len(entries) > maxEntries {
			return nil, fmt.Errorf("%s: the guest has more than %d files there", s.dir, maxEntries)
		}
		ops := make([]guest.Op, len(entries))
		for i, e := range entries {
			if e.Name == "" || e.Name == "." || e.Name == ".." || len(e.Name) > maxName ||
				strings.ContainsAny(e.Name, "/\x00") {
				return nil, fmt.Errorf("%s: the guest has an entry %.300q there, which cannot be the name of a file",
					path.Join(s.dir, dir), e.Name)
			}
			ops[i] = guest.StatOp{Path: path.Join(s.dir, dir, e.Name)}
		}
		for len(ops) > 0 {
			n := min(len(ops), statsAtOnce)
			results, err := link.Batch(ctx, ops[:n])
			if err != nil {
				return nil, err
			}
			for i, r := range results {
				name := path.Join(dir, entries[i].Name)
				if r.Err != nil || r.Stat == nil {
					continue // it has gone meanwhile
				}
				st, ok := s.state(ctx, link, name, r.Stat)
				switch {
				case !ok && skipped != nil:
					skipped(name)
				case ok && st.kind == guest.TypeDirectory:
					todo = append(todo, name)
				}
				if ok {
					all[name] = st
				}
			}
			ops, entries = ops[n:], entries[n:]
		}
	}
	return all, nil
}

// state returns what is to be known of a file, false for one that does not come back.
func (s *share) state(ctx context.Context, link *guest.Client, name string, info *guest.FileInfo) (state, bool) {
	st := state{kind: info.Type}
	switch info.Type {
	case guest.TypeDirectory:
		st.perm = info.Perm & 0o777
	case guest.TypeSymlink:
		target, err := link.FileCall(ctx, guest.ReadlinkCall(path.Join(s.dir, name)))
		if err != nil {
			return st, false
		}
		st.target = string(target)
	case guest.TypeFile:
		st.size, st.mtime, st.ctime = info.Size, info.MtimeNS, info.CtimeNS
		st.perm, st.inode = info.Perm&0o777, info.Ino
	default:
		return st, false
	}
	return st, true
}

// statsAtOnce is how many files one request asks about.
const statsAtOnce = 1024

// bringBack makes on the host what the guest has changed. A file that has changed on the host
// meanwhile, too, stays there; the guest's comes beside it. What cannot be made does not stop
// the rest.
func (s *share) bringBack(ctx context.Context, link *guest.Client, note func(string, ...any)) error {
	now, err := s.list(ctx, link, func(name string) {
		note("%s is neither a file nor a directory nor a link, and does not come back", filepath.Join(s.dir, name))
	})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	s.remove(root, now, note)
	var dirs []string // whose modes come last: they may forbid to write
	var errs []error
	for _, name := range sortedNames(now) {
		st := now[name]
		if st == s.guest[name] {
			continue
		}
		if st.kind == guest.TypeDirectory {
			err = makeDir(root, name)
			dirs = append(dirs, name)
		} else {
			err = s.bringFile(ctx, link, root, name, st, note)
		}
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil || link.Err() != nil || s.left < 0 || len(errs) > maxFailed {
			return errors.Join(errs...)
		}
	}
	for _, name := range slices.Backward(dirs) {
		if err := root.Chmod(name, os.FileMode(now[name].perm)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// maxFailed is how many files may fail before the rest is not tried.
const maxFailed = 20

func makeDir(root *os.Root, name string) error {
	err := root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if info, serr := root.Lstat(name); serr == nil && info.IsDir() {
			return nil
		}
	}
	return err
}

// bringFile makes a file or a link of the guest on the host.
func (s *share) bringFile(ctx context.Context, link *guest.Client, root *os.Root, name string, st state,
	note func(string, ...any)) error {
	to := name
	if s.isChanged(root, name) {
		to = freeName(root, name+".guest")
		note("%s has changed on the host meanwhile: the guest's is in %s", filepath.Join(s.dir, name), to)
	}
	// It appears when it is complete.
	part := path.Join(path.Dir(to), ".provium-"+rand.Text())
	var err error
	if st.kind == guest.TypeSymlink {
		err = root.Symlink(st.target, part)
	} else {
		err = s.fetch(ctx, link, root, name, part)
	}
	if err == nil {
		err = root.Rename(part, to)
	}
	if err != nil {
		_ = root.Remove(part) // that it cannot be written says more
	}
	return err
}

// freeName returns the first of name, name.2, name.3 and so on that the host does not have.
func freeName(root *os.Root, name string) string {
	free, _ := topology.FirstFree(1, func(n int) string {
		if n == 1 {
			return name
		}
		return fmt.Sprintf("%s.%d", name, n)
	}, func(name string) bool {
		_, err := root.Lstat(name)
		return err == nil
	})
	return free
}

// remove removes what the guest has removed, or replaced by something of another kind.
func (s *share) remove(root *os.Root, now map[string]state, note func(string, ...any)) {
	for _, name := range slices.Backward(sortedNames(s.guest)) {
		if after, ok := now[name]; ok && after.kind == s.guest[name].kind {
			continue
		}
		if s.guest[name].kind != guest.TypeDirectory && s.isChanged(root, name) {
			note("%s has changed on the host meanwhile and stays, though the guest has removed it",
				filepath.Join(s.dir, name))
			continue
		}
		err := root.Remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			note("%s: the guest has removed it, the host has not: %v", filepath.Join(s.dir, name), err)
		}
	}
}

// isChanged reports whether what the host has under the name of a file is not what was
// copied.
func (s *share) isChanged(root *os.Root, name string) bool {
	info, err := root.Lstat(name)
	at, known := s.host[name]
	return err == nil && (info.IsDir() || !known || !info.ModTime().Equal(at))
}

// fetch copies a file of the guest to a new one.
func (s *share) fetch(ctx context.Context, link *guest.Client, root *os.Root, name, to string) error {
	f, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	perm, err := link.PullPieces(ctx, path.Join(s.dir, name), pieces{f, s})
	if err == nil {
		err = f.Chmod(os.FileMode(perm & 0o777))
	}
	return cmp.Or(err, f.Close())
}

// pieces is a file that is being filled.
type pieces struct {
	f *os.File
	s *share
}

// WriteAt writes data from the guest.
func (p pieces) WriteAt(b []byte, offset int64) (int, error) {
	if p.s.left -= int64(len(b)); p.s.left < 0 {
		return 0, fmt.Errorf("the guest has more than %d bytes of data", int64(maxData))
	}
	return p.f.WriteAt(b, offset)
}

// Truncate sets the size of the file.
func (p pieces) Truncate(size int64) error { return p.f.Truncate(size) }

// sortedNames returns the names of files, each behind its directory.
func sortedNames(m map[string]state) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

package image

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/cachedir"
	"provium/internal/image/cpio"
	"provium/internal/image/decompress"
	"provium/internal/image/kmod"
)

// Places of our things in the guest. All but the agent's fixed path stand in one
// directory.
const (
	guestAgent   = "sbin/provium-agent"
	guestDir     = ".provium"
	guestModules = guestDir + "/modules"
	guestEarly   = guestDir + "/modules.early"
	guestLate    = guestDir + "/modules.late"
	guestFiles   = guestDir + "/files"
)

const (
	overlayName     = "agent-overlay.cpio.gz"
	maxOverlay      = 256 << 20
	embeddedOverlay = "the copy in the binary"
)

// item is a file, directory or symlink on its way into an archive.
type item struct {
	cpio.Entry
	data []byte
}

func dirItem(name string, perm uint32) item {
	return item{Entry: cpio.Entry{Name: name, Mode: cpio.TypeDir | perm}}
}

func fileItem(name string, perm uint32, data []byte) item {
	return item{Entry: cpio.Entry{Name: name, Mode: cpio.TypeRegular | perm}, data: data}
}

func linkItem(name, target string) item {
	return item{Entry: cpio.Entry{Name: name, Mode: cpio.TypeSymlink | 0o777}, data: []byte(target)}
}

// findAgent sets the agent of in: the content of the overlay file that the search finds,
// else of the payload. source says which.
func (s *Store) findAgent(in *initrdInput, profileOverlay string) (source string, err error) {
	if in.arch != payloadArch && profileOverlay == "" {
		// Other overlays have the agent of the payload's architecture.
		in.own, err = s.agentOf(in.arch)
		if err == nil {
			in.agent = in.own.items
		}
		return embeddedOverlay, err
	}
	file, err := s.findOverlay(profileOverlay)
	if err != nil {
		return "", err
	}
	own, err := s.agent()
	useOwn := func() { in.agent, in.own = own.items, own }
	if file == "" {
		if err == nil {
			useOwn()
		}
		return embeddedOverlay, err
	}
	if err == nil && isArchiveWith(file, own.trailer) {
		useOwn()
		return file, nil
	}
	named := profileOverlay != "" || s.cfg.Overlay != ""
	var bad error
	if !named {
		bad = checkOwner(file)
	}
	if bad == nil {
		in.agent, bad = readOverlay(file)
	}
	if bad != nil && !named && err == nil {
		s.noticeOnce(fmt.Sprintf("the agent in this program is used: %v", bad))
		useOwn()
		return embeddedOverlay, nil
	}
	return file, bad
}

// checkOwner returns an error for an overlay near the binary that somebody else may have
// put there.
func checkOwner(file string) error {
	err := cachedir.CheckDir(filepath.Dir(file))
	var st unix.Stat_t
	if err == nil && unix.Stat(file, &st) == nil {
		if err = cachedir.CheckFile(&st); err != nil {
			err = fmt.Errorf("%s %w", file, err)
		}
	}
	if err != nil {
		err = fmt.Errorf("agent overlay %s is passed over: %w", file, err)
	}
	return err
}

// trailer is the length of the end of a gzip file: CRC-32 and length of what is compressed.
const trailer = 8

// trailerOf returns the trailer of a gzip file that has the archive of items.
func trailerOf(items []item) (out [trailer]byte, err error) {
	var archive bytes.Buffer
	if err := writeArchive(&archive, items); err != nil {
		return out, err
	}
	binary.LittleEndian.PutUint32(out[:], crc32.ChecksumIEEE(archive.Bytes()))
	binary.LittleEndian.PutUint32(out[4:], uint32(archive.Len()))
	return out, nil
}

// isArchiveWith reports whether a gzip file has a trailer: the overlay of this very build
// needs not be decompressed.
func isArchiveWith(file string, want [trailer]byte) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	var got [trailer]byte
	end, err := f.Seek(-trailer, io.SeekEnd)
	if err != nil {
		return false
	}
	_, err = f.ReadAt(got[:], end)
	return err == nil && got == want
}

func (s *Store) payloadItems() ([]item, error) {
	agent, err := s.readPayload(payloadAgent)
	if err != nil {
		return nil, err
	}
	return agentItems(agent), nil
}

// agentItems are the agent's overlay.
func agentItems(agent []byte) []item { return []item{fileItem(guestAgent, 0o755, agent)} }

// findOverlay returns the overlay file to use, or "" for the payload. A file that
// was named has to exist; those near the binary may.
func (s *Store) findOverlay(profileOverlay string) (string, error) {
	for _, named := range []struct{ path, by string }{
		{profileOverlay, "agent_overlay_path"}, {s.cfg.Overlay, "PROVIUM_OVERLAY"},
	} {
		if named.path == "" {
			continue
		}
		if err := checkReadable(named.path); err != nil {
			return "", fmt.Errorf("agent overlay %s (from %s): %w", named.path, named.by, err)
		}
		return named.path, nil
	}
	if s.cfg.Executable == "" {
		return "", nil
	}
	dir := filepath.Dir(s.cfg.Executable)
	if p := filepath.Join(dir, "..", "share", "provium", overlayName); checkReadable(p) == nil {
		return p, nil
	}
	for {
		p := filepath.Join(dir, "dist", overlayName)
		if checkReadable(p) == nil && !older(p, s.cfg.Executable) {
			return p, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

// older reports whether a file was written before another one. A build writes its
// overlay last: one that is older than the binary is left from an earlier build.
func older(file, other string) bool {
	a, err := os.Stat(file)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && a.ModTime().Before(b.ModTime())
}

// checkReadable opens a regular file and reports why that is not possible.
func checkReadable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return reason(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return reason(err)
	}
	switch {
	case !st.Mode().IsRegular():
		return errors.New("not a regular file")
	case st.Size() == 0:
		return errors.New("the file is empty")
	}
	return nil
}

// reason strips the operation and the path from an error of package os, for
// messages that name the path themselves.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// readOverlay reads an overlay file: one archive, compressed or not.
func readOverlay(file string) ([]item, error) {
	fail := func(err error) ([]item, error) {
		return nil, fmt.Errorf("read agent overlay %s: %w", file, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return fail(reason(err))
	}
	defer f.Close()
	src := decompress.NewSource(f)
	prefix, err := src.Peek(decompress.MagicLen)
	if len(prefix) == 0 {
		return fail(err)
	}
	var in io.Reader = src
	if format := decompress.Detect(prefix); format != decompress.None {
		z, err := decompress.NewReader(format, src)
		if err != nil {
			return fail(err)
		}
		defer z.Close()
		in = z
	}
	r := cpio.NewReader(io.LimitReader(in, maxOverlay))
	var items []item
	hasAgent := false
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fail(err)
		}
		if len(items) >= maxEntries {
			return fail(fmt.Errorf("more than %d entries", maxEntries))
		}
		var data bytes.Buffer
		if _, err := io.Copy(&data, r); err != nil {
			return fail(err)
		}
		name := cleanName(e.Name)
		if name == "" {
			continue
		}
		items = append(items, item{
			Entry: cpio.Entry{Name: name, Mode: e.Mode, UID: e.UID, GID: e.GID, Major: e.Major, Minor: e.Minor},
			data:  data.Bytes(),
		})
		hasAgent = hasAgent || name == guestAgent && e.Type() == cpio.TypeRegular
	}
	if !hasAgent {
		return fail(fmt.Errorf("it has no %s; write one with `provium image overlay PATH`", guestAgent))
	}
	return items, nil
}

// WriteOverlay writes the agent of this binary as an overlay file (cpio.gz). The
// archive leaves /sbin itself out: on a merged-/usr image that is a symlink,
// which a directory entry would replace.
func (s *Store) WriteOverlay(w io.Writer) error {
	items, err := s.payloadItems()
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	if err := writeArchive(z, items); err != nil {
		return fmt.Errorf("write agent overlay: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write agent overlay: %w", err)
	}
	return nil
}

func writeArchive(w io.Writer, items []item) error {
	a := cpio.NewWriter(w)
	for _, it := range items {
		if err := a.Add(it.Entry, it.data); err != nil {
			return err
		}
	}
	return a.Close()
}

// moduleItems returns the modules and the two lists of what to load when. A line
// of a list is a file name below /.provium/modules and, behind a blank,
// parameters. In front of the name, an exclamation mark stands where the boot fails without
// the module, and a question mark where nobody minds.
func moduleItems(set moduleSet) []item {
	var items []item
	list := func(mods []kmod.Module) []byte {
		var b bytes.Buffer
		for _, m := range mods {
			file := m.Name + ".ko"
			mark := ""
			switch {
			case set.must[m.Name]:
				mark = "!"
			case m.Soft:
				mark = "?"
			}
			b.WriteString(mark + strings.TrimSpace(file+" "+m.Params) + "\n")
			items = append(items, fileItem(path.Join(guestModules, file), 0o644, m.Data))
		}
		return b.Bytes()
	}
	e, l := list(set.early), list(set.late)
	return append(items, fileItem(guestEarly, 0o644, e), fileItem(guestLate, 0o644, l))
}

// place fits items into an initrd: paths follow the initrd's symlinks, missing
// directories are added, and those that are there are left alone, because a
// directory entry would replace a symlink.
func (l *listing) place(items []item) ([]item, error) {
	var out []item
	made := map[string]bool{}
	for _, it := range items {
		dir, base := path.Split(it.Name)
		parent, err := l.ensure(strings.TrimSuffix(dir, "/"), made, &out)
		if err != nil {
			return nil, err
		}
		it.Name = path.Join(parent, base)
		there, ok := l.nodes[it.Name]
		isDir := it.Type() == cpio.TypeDir
		switch {
		case isDir:
			if _, err := l.ensure(it.Name, made, &out); err != nil {
				return nil, err
			}
			continue
		case ok && there.mode&cpio.TypeMask == cpio.TypeDir || made[it.Name]:
			return nil, fmt.Errorf("the initrd has a directory at /%s, where a file of the agent has to stand", it.Name)
		}
		out = append(out, it)
	}
	return out, nil
}

// ensure makes a directory and its parents unless they exist, and returns its
// path without symlinks.
func (l *listing) ensure(dir string, made map[string]bool, out *[]item) (string, error) {
	real, err := l.resolve(dir, true)
	if err != nil || real == "" {
		return real, err
	}
	parts := strings.Split(real, "/")
	for i := range parts {
		p := strings.Join(parts[:i+1], "/")
		if made[p] {
			continue
		}
		if n, ok := l.nodes[p]; ok {
			if n.mode&cpio.TypeMask != cpio.TypeDir {
				return "", fmt.Errorf("the initrd has a file at /%s, where a directory is needed", p)
			}
			continue
		}
		made[p] = true
		*out = append(*out, dirItem(p, 0o755))
	}
	return real, nil
}

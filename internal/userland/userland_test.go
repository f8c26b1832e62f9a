package userland

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"provium/internal/erofs"
	"provium/internal/image/cache"
)

func newMaker(t *testing.T) *Maker {
	return &Maker{Cache: &cache.Cache{Dir: t.TempDir(), Kinds: []string{KindIndex, KindArchive}},
		HostRoot: t.TempDir()}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file of the host.
func put(t *testing.T, path, content string, perm os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chmod(path, perm))
}

// describe returns a line for each path of a tree; contents are read from the host.
func describe(t *testing.T, tr *tree) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(n *erofs.Node, path string)
	walk = func(n *erofs.Node, path string) {
		content := n.Target + string(n.Data)
		if p, ok := tr.pieces[n]; ok {
			f, err := os.Open(tr.sources[p.source].path)
			must(t, err)
			defer f.Close()
			text := make([]byte, n.Size)
			_, err = f.ReadAt(text, p.offset)
			must(t, err)
			content = string(text)
		}
		if path != "" {
			out[path] = fmt.Sprintf("%o %s", n.Mode, content)
		}
		for _, name := range n.Names() {
			walk(n.Child(name), path+"/"+name)
		}
	}
	walk(tr.root, "")
	return out
}

func TestParse(t *testing.T) {
	resolve := func(path string) (string, error) { return filepath.Join("/project", path), nil }
	for text, want := range map[string]Source{
		"busybox": {Kind: Busybox}, "host": {Kind: Host},
		"./tree":      {Kind: Directory, Path: "/project/tree"},
		"root.tar.gz": {Kind: Directory, Path: "/project/root.tar.gz"},
		"oci:img":     {Kind: OCI, Path: "/project/img"}, "oci:img:v1": {Kind: OCI, Path: "/project/img", Ref: "v1"},
		"docker://debian:12": {Kind: Registry, Ref: "debian:12"}, "debian:trixie": {Kind: Debian, Ref: "trixie"},
	} {
		got, err := Parse(text, resolve)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "got nothing", "debain": "`debain` is not known; expected `busybox`, `host`, a directory",
		"docker://Debian:12": "is not the name of an image", "docker:debian": "written `docker://debian`",
		"oci:": "`oci:` names no directory", "oci::v1": "`oci::v1` names no directory",
	} {
		if _, err := Parse(text, resolve); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestHost looks at what a guest gets of a machine: programs, and nothing that only some of
// its users may read.
func TestHost(t *testing.T) {
	m := newMaker(t)
	root := m.HostRoot
	put(t, root+"/usr/bin/prog", "program", 0o755)
	put(t, root+"/usr/bin/private", "program", 0o750)
	put(t, root+"/etc/passwd", "users", 0o644)
	put(t, root+"/etc/shadow", "secret", 0o640)
	put(t, root+"/etc/ssl/private/key", "secret", 0o644)
	put(t, root+"/etc/hostname", "this-machine\n", 0o644)
	put(t, root+"/root/key", "secret", 0o644)
	put(t, root+"/home/user/key", "secret", 0o644)
	put(t, root+"/var/lib/app/data", "data", 0o644)
	must(t, os.Chmod(root+"/etc/ssl/private", 0o700))
	must(t, os.Symlink("usr/bin", root+"/bin"))
	must(t, os.Symlink("/run", root+"/var/run"))
	tr, err := ofHost(t.Context(), root)
	must(t, err)
	got := describe(t, tr)
	for path, want := range map[string]string{
		"/usr/bin/prog": "100755 program", "/etc/passwd": "100644 users", "/bin": "120777 usr/bin",
		"/var/run": "120777 /run", "/etc/hostname": "100644 provium\n", "/tmp": "41777 ", "/root": "40700 ",
	} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
	for path, line := range got {
		if strings.Contains(line, "secret") || strings.Contains(line, "data") || strings.Contains(path, "private") {
			t.Errorf("the guest has %s", path)
		}
	}
	want := []string{root + "/etc/shadow", root + "/etc/ssl/private", root + "/usr/bin/private"}
	slices.Sort(tr.skipped)
	if !slices.Equal(tr.skipped, want) {
		t.Errorf("left out: %q, want %q", tr.skipped, want)
	}
}

// TestContents compares an image, read in pieces, with what it is made of, and looks at what
// happens when that changes.
func TestContents(t *testing.T) {
	m := newMaker(t)
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		put(t, fmt.Sprintf("%s/d%d/f%d", dir, i%7, i), strings.Repeat(fmt.Sprint(i), r.IntN(5000)), 0o644)
	}
	must(t, os.Link(dir+"/d0/f0", dir+"/d1/again"))
	must(t, os.Symlink("d1", dir+"/link"))
	s := Source{Kind: Directory, Path: dir}
	u, err := m.Make(t.Context(), s)
	must(t, err)
	again, err := m.Make(t.Context(), s)
	must(t, err)
	if again.Index != u.Index || again.Key != u.Key {
		t.Errorf("%+v, then %+v", u, again)
	}
	tr, err := ofDirectory(t.Context(), dir)
	must(t, err)
	img, err := erofs.Layout(tr.root)
	must(t, err)
	whole := make([]byte, img.Size)
	copy(whole, img.Meta)
	for _, n := range img.Files {
		text, err := os.ReadFile(tr.sources[tr.pieces[n].source].path)
		must(t, err)
		copy(whole[n.Offset():], text)
	}
	c, err := Open(u.Index)
	must(t, err)
	defer c.Close()
	if c.Size() != img.Size {
		t.Fatalf("%d bytes, want %d", c.Size(), img.Size)
	}
	for range 500 {
		p := make([]byte, 1+r.IntN(20000))
		off := r.Int64N(img.Size)
		n, err := c.ReadAt(p, off)
		if want := whole[off:min(off+int64(len(p)), img.Size)]; n != len(want) || !bytes.Equal(p[:n], want) ||
			(err == io.EOF) != (n < len(p)) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
		}
	}
	if _, err := c.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a read before the begin")
	}

	changed := img.Files[len(img.Files)-1]
	path := tr.sources[tr.pieces[changed].source].path
	put(t, path, strings.Repeat("x", int(changed.Size)), 0o644)
	if _, err := c.ReadAt(make([]byte, 10), changed.Offset()); err == nil ||
		!strings.Contains(err.Error(), path+" has changed since the run began") {
		t.Errorf("of a changed file: %v", err)
	}
	gone := img.Files[len(img.Files)-2]
	path = tr.sources[tr.pieces[gone].source].path
	must(t, os.Remove(path))
	fresh, err := Open(u.Index)
	must(t, err)
	defer fresh.Close()
	if _, err := fresh.ReadAt(make([]byte, 10), gone.Offset()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("of a file that is gone: %v", err)
	}
	if later, err := m.Make(t.Context(), s); err != nil || later.Key == u.Key {
		t.Errorf("the changed tree: %v, the same key", err)
	}
}

// TestLinkedDirectory is one userland, whichever link leads to it.
func TestLinkedDirectory(t *testing.T) {
	m, dir := newMaker(t), t.TempDir()
	put(t, dir+"/tree/bin/sh", "program", 0o755)
	must(t, os.Symlink(dir+"/tree", dir+"/link"))
	straight, err := m.Make(t.Context(), Source{Kind: Directory, Path: dir + "/tree"})
	must(t, err)
	linked, err := m.Make(t.Context(), Source{Kind: Directory, Path: dir + "/link"})
	if err != nil || linked.Key != straight.Key {
		t.Errorf("%v, %v", linked, err)
	}
}

func TestDirectoryErrors(t *testing.T) {
	m := newMaker(t)
	empty := t.TempDir()
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	for path, want := range map[string]string{
		empty + "/none": "none: no such file or directory", empty: "the directory is empty",
		fifo: "is neither a directory nor a file",
	} {
		if _, err := m.Make(t.Context(), Source{Kind: Directory, Path: path}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if _, err := m.Make(t.Context(), Source{Kind: OCI, Path: empty}); err == nil ||
		!strings.Contains(err.Error(), "is not an OCI layout") {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(filepath.Join(empty, "index.json"), []byte("{"), 0o600))
	if _, err := m.Make(t.Context(), Source{Kind: OCI, Path: empty}); err == nil ||
		!strings.Contains(err.Error(), "its index.json is damaged: ") {
		t.Errorf("%v", err)
	}
	for name, text := range map[string][]byte{"nothing.tar": nil, "zeros.tar": make([]byte, 1024)} {
		path := filepath.Join(empty, name)
		must(t, os.WriteFile(path, text, 0o600))
		_, err := ofArchive(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), "the archive is empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var entries = []tar.Header{
	{Name: "usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
	{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"},
	{Name: "./bin/prog", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 700, Uid: 0, Gid: 5,
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "cap"}},
	{Name: "usr/bin/other", Typeflag: tar.TypeLink, Linkname: "usr/bin/prog"},
	{Name: "/../sbin/init", Typeflag: tar.TypeReg, Mode: 0o755, Size: 3},
	{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
	{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o711},
	{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
	{Name: "empty", Typeflag: tar.TypeReg, Mode: 0o600},
}

func pack(t *testing.T, headers []tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		h.ModTime = time.Unix(1e9, 0)
		must(t, w.WriteHeader(&h))
		_, err := w.Write(bytes.Repeat([]byte(h.Name[len(h.Name)-1:]), int(h.Size)))
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

var wantEntries = map[string]string{
	"/usr": "40711 ", "/usr/bin": "40755 ", "/bin": "120000 usr/bin", "/sbin": "40755 ", "/sbin/init": "100755 ttt",
	"/usr/bin/prog": "104755 " + strings.Repeat("g", 700), "/usr/bin/other": "104755 " + strings.Repeat("g", 700),
	"/dev": "40755 ", "/dev/null": "20666 ", "/fifo": "10600 ", "/empty": "100600 ",
}

func TestArchive(t *testing.T) {
	m := newMaker(t)
	text := pack(t, entries)
	plain := filepath.Join(t.TempDir(), "root.tar")
	put(t, plain, string(text), 0o644)
	tr, err := ofArchive(t.Context(), plain)
	must(t, err)
	if got := describe(t, tr); !maps.Equal(got, wantEntries) {
		t.Errorf("%q\nwant\n%q", got, wantEntries)
	}
	if n, err := tr.lookup("/bin/prog"); err != nil || n.GID != 5 || len(n.Xattrs) != 1 || n.Seconds != 1e9 {
		t.Errorf("%+v, %v", n, err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write(text)
	must(t, errorsOf(err, z.Close()))
	compressed := plain + ".gz"
	put(t, compressed, packed.String(), 0o644)
	for _, path := range []string{plain, compressed} {
		u, err := m.Make(t.Context(), Source{Kind: Directory, Path: path})
		must(t, err)
		if !u.HasInit || u.Source.Kind != Archive {
			t.Errorf("%s: %+v", path, u)
		}
	}
	cut := plain + ".cut"
	put(t, cut, string(text[:1200]), 0o644)
	if _, err := m.Make(t.Context(), Source{Kind: Directory, Path: cut}); err == nil ||
		!strings.Contains(err.Error(), "it ends too early") {
		t.Errorf("a cut archive: %v", err)
	}
	for _, c := range []struct {
		h    tar.Header
		want string
	}{
		{tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "none"}, "`l`: hard link to `none`: no such file"},
		{tar.Header{Name: "fifo/x", Typeflag: tar.TypeReg}, "`fifo/x`: `fifo` is not a directory"},
		{tar.Header{Name: "l", Typeflag: tar.TypeSymlink}, "its target has 0 bytes"},
	} {
		put(t, plain, string(pack(t, append(entries[:len(entries):len(entries)], c.h))), 0o644)
		if _, err := ofArchive(t.Context(), plain); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// ociImage makes an image of two layers, the second of which removes a file of the first.
func ociImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	first := slices.Clone(entries)
	first[2].Name = "usr/bin/prog" // layers have no names that lead through symlinks
	for _, headers := range [][]tar.Header{first, {
		{Name: "usr/bin/.wh.other", Typeflag: tar.TypeReg}, {Name: "new", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2},
	}} {
		text := pack(t, headers)
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text)), nil
		})
		must(t, err)
		img, err = mutate.AppendLayers(img, layer)
		must(t, err)
	}
	file, err := img.ConfigFile()
	must(t, err)
	file = file.DeepCopy()
	file.Architecture, file.OS = arch, "linux"
	file.Config = v1.Config{Env: []string{"A=b"}, WorkingDir: "/srv", Entrypoint: []string{"/run"}, Cmd: []string{"-x"}}
	img, err = mutate.ConfigFile(img, file)
	must(t, err)
	return img
}

func TestOCI(t *testing.T) {
	m := newMaker(t)
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	must(t, err)
	ref := func(name string) layout.Option { return layout.WithAnnotations(map[string]string{refAnnotation: name}) }
	must(t, path.AppendImage(ociImage(t, "amd64"), ref("v1")))
	u, err := m.Make(t.Context(), Source{Kind: OCI, Path: dir})
	must(t, err)
	if !u.HasInit || !slices.Equal(u.Config.Env, []string{"A=b"}) || u.Config.WorkDir != "/srv" ||
		!slices.Equal(u.Config.Entrypoint, []string{"/run", "-x"}) {
		t.Errorf("%+v", u)
	}
	archives, err := filepath.Glob(m.Cache.Dir + "/archives/*/tar")
	must(t, err)
	tr, err := ofArchive(t.Context(), archives[0])
	must(t, err)
	got := describe(t, tr)
	want := maps.Clone(wantEntries)
	delete(want, "/usr/bin/other")
	want["/new"] = "100644 ww"
	for path, line := range want {
		if got[path] != line {
			t.Errorf("%s: %.40q, want %.40q", path, got[path], line)
		}
	}
	if _, ok := got["/usr/bin/other"]; ok {
		t.Error("a file that a layer removes is there")
	}

	must(t, path.AppendImage(ociImage(t, "arm64"), ref("v2")))
	for s, want := range map[Source]string{
		{Kind: OCI, Path: dir}:            "has 2 images, `v1`, `v2`: name one, as `oci:" + dir + ":NAME`",
		{Kind: OCI, Path: dir, Ref: "v2"}: "the image is for arm64, and guests are x86-64 (amd64)",
		{Kind: OCI, Path: dir, Ref: "v3"}: "has no image `v3` for linux/amd64; it has `v1`, `v2`",
	} {
		if _, err := m.Make(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", s, err, want)
		}
	}
}

// TestLayerDigest damages each byte of the layers of an image in turn.
func TestLayerDigest(t *testing.T) {
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	must(t, err)
	must(t, path.AppendImage(ociImage(t, "amd64")))
	blobs, err := filepath.Glob(dir + "/blobs/sha256/*")
	must(t, err)
	for _, blob := range blobs {
		text, err := os.ReadFile(blob)
		must(t, err)
		if bytes.HasPrefix(text, []byte("{")) {
			continue
		}
		for i := range text {
			text[i] ^= 0x10
			must(t, os.WriteFile(blob, text, 0o600))
			img, err := openOCI(Source{Kind: OCI, Path: dir})
			must(t, err)
			err = unpackOCI(t.Context(), img, filepath.Join(t.TempDir(), "tar"), func() {})
			if err == nil {
				t.Fatalf("%s is taken with another byte %d", blob, i)
			}
			text[i] ^= 0x10
		}
		must(t, os.Remove(blob))
		img, err := openOCI(Source{Kind: OCI, Path: dir})
		must(t, err)
		err = unpackOCI(t.Context(), img, filepath.Join(t.TempDir(), "tar"), func() {})
		if want := "layer sha256:" + filepath.Base(blob) + " is not in the layout"; err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		must(t, os.WriteFile(blob, text, 0o600))
	}
}

// TestProgramError has names of programs once.
func TestProgramError(t *testing.T) {
	failed := errors.New("exit status 1")
	for _, err := range []error{failed, fmt.Errorf("tool: %w", failed)} {
		got := programError("tool", err, ": tool: no such image")
		if got.Error() != "tool: exit status 1: no such image" || !errors.Is(got, failed) {
			t.Error(got)
		}
	}
}

// TestForeignIndex refuses an index that somebody else may have written: it names files.
func TestForeignIndex(t *testing.T) {
	m := newMaker(t)
	dir := t.TempDir()
	put(t, dir+"/f", "x", 0o644)
	u, err := m.Make(t.Context(), Source{Kind: Directory, Path: dir})
	must(t, err)
	must(t, os.Chmod(u.Index, 0o666))
	if _, err := Open(u.Index); err == nil || !strings.Contains(err.Error(), "others") {
		t.Errorf("%v", err)
	}
}

func FuzzIndex(f *testing.F) {
	dir := f.TempDir()
	tr := newTree()
	for i := range 3 {
		path := fmt.Sprint(dir, "/", i)
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			f.Fatal(err)
		}
		n := &erofs.Node{Mode: unix.S_IFREG | 0o644, Size: 7}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			f.Fatal(err)
		}
		tr.pieces[n] = piece{source: i}
		tr.sources = append(tr.sources, sourceOf(path, &st))
		if err := tr.root.Add(fmt.Sprint(i), n); err != nil {
			f.Fatal(err)
		}
	}
	path := dir + "/index"
	if err := writeIndex(path, tr); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:5000])
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, text []byte) {
		must(t, os.WriteFile(path, text, 0o600))
		c, err := Open(path)
		if err != nil {
			return
		}
		defer c.Close()
		p := make([]byte, 3*erofs.BlockSize)
		for _, off := range []int64{0, erofs.BlockSize + 5, c.Size() - 100} {
			n, err := c.ReadAt(p, off)
			if n > len(p) || err == nil && n != len(p) {
				t.Errorf("%d bytes, %v", n, err)
			}
		}
	})
}

func FuzzArchive(f *testing.F) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range entries {
		_ = w.WriteHeader(&h)
		_, _ = w.Write(make([]byte, h.Size))
	}
	_ = w.Close()
	f.Add(out.Bytes())
	f.Add(out.Bytes()[:700])
	path := f.TempDir() + "/tar" // one for all, which is fast
	f.Fuzz(func(t *testing.T, text []byte) {
		must(t, os.WriteFile(path, text, 0o600))
		tr, err := ofArchive(t.Context(), path)
		if err != nil {
			return
		}
		for n, p := range tr.pieces {
			if p.offset < 0 || n.Size > int64(len(text))-p.offset {
				t.Errorf("%d bytes at %d of %d", n.Size, p.offset, len(text))
			}
		}
		if _, err := erofs.Layout(tr.root); err != nil {
			t.Log(err)
		}
	})
}

// BenchmarkHost looks at the programs of this machine, as each run does that has them.
func BenchmarkHost(b *testing.B) {
	for b.Loop() {
		t, err := ofHost(b.Context(), "/")
		if err != nil {
			b.Fatal(err)
		}
		t.key()
		b.ReportMetric(float64(len(t.sources)), "files")
	}
}

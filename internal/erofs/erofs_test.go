package erofs

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// reader reads an image as the kernel does.
type reader struct {
	t *testing.T
	p []byte
}

// node decodes an inode, and checks what the kernel checks.
func (r *reader) node(nid uint64) (n *Node, data []byte) {
	r.t.Helper()
	p := r.p[nid*inodeSlot:][:BlockSize]
	format := le.Uint16(p)
	if format&1 == 0 || format>>1 != 0 && format>>1 != 2 {
		r.t.Fatalf("inode %d has the format %d", nid, format)
	}
	n = &Node{Mode: uint32(le.Uint16(p[4:])), UID: le.Uint32(p[24:]), GID: le.Uint32(p[28:]),
		Seconds: int64(le.Uint64(p[32:])), Nanoseconds: le.Uint32(p[40:]), links: le.Uint32(p[44:])}
	size := int64(le.Uint64(p[8:]))
	value := le.Uint32(p[16:])
	behind := inodeSize
	if count := int(le.Uint16(p[2:])); count > 0 {
		end := inodeSize + xattrHeader + (count-1)*xattrEntry
		for at := inodeSize + xattrHeader; at < end; {
			x := p[at:]
			name, value := string(x[4:4+x[0]]), x[4+int(x[0]):][:le.Uint16(x[2:])]
			for _, prefix := range xattrPrefixes {
				if prefix.index == x[1] {
					name = prefix.prefix + name
				}
			}
			n.Xattrs = append(n.Xattrs, Xattr{name, bytes.Clone(value)})
			at += (4 + int(x[0]) + len(value) + 3) &^ 3
		}
		behind = end
	}
	switch n.Type() {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
	default:
		n.Major, n.Minor = value>>8&0xfff, value&0xff|value>>12&^0xff
		return n, nil
	}
	for at := int64(0); at < size; at += BlockSize {
		k := min(size-at, BlockSize)
		if format>>1 == 2 && at+BlockSize >= size {
			start := int(nid*inodeSlot%BlockSize) + behind
			if start+int(k) > BlockSize {
				r.t.Fatalf("what stands behind inode %d crosses a block", nid)
			}
			data = append(data, p[behind:][:k]...)
			continue
		}
		data = append(data, r.p[int64(value)*BlockSize+at:][:k]...)
	}
	return n, data
}

// list returns the entries of a directory, and checks their order.
func (r *reader) list(data []byte) map[string]uint64 {
	r.t.Helper()
	out := map[string]uint64{}
	last := ""
	for len(data) > 0 {
		b := data[:min(len(data), BlockSize)]
		data = data[len(b):]
		count := int(le.Uint16(b[8:])) / direntSize
		for i := range count {
			e := b[i*direntSize:]
			start, end := int(le.Uint16(e[8:])), len(b)
			if i < count-1 {
				end = int(le.Uint16(e[direntSize+8:]))
			}
			name := strings.TrimRight(string(b[start:end]), "\x00")
			if name <= last {
				r.t.Fatalf("`%s` stands behind `%s`", name, last)
			}
			last, out[name] = name, le.Uint64(e)
		}
	}
	return out
}

// describe returns a line for each path of the image.
func (r *reader) describe(nid, parent uint64, path string, out map[string]string) {
	r.t.Helper()
	n, data := r.node(nid)
	line := fmt.Sprintf("%o %d:%d %d.%d %d links", n.Mode, n.UID, n.GID, n.Seconds, n.Nanoseconds, n.links)
	for _, x := range n.Xattrs {
		line += fmt.Sprintf(" %s=%x", x.Name, x.Value)
	}
	if !n.IsDir() {
		out[path] = fmt.Sprintf("%s %d,%d %x", line, n.Major, n.Minor, data)
		return
	}
	out[path] = line
	entries := r.list(data)
	if entries["."] != nid || entries[".."] != parent {
		r.t.Fatalf("%s: its own entries lead to %d and %d", path, entries["."], entries[".."])
	}
	for name, child := range entries {
		if name != "." && name != ".." {
			r.describe(child, nid, path+"/"+name, out)
		}
	}
}

// wanted is describe for a tree before its layout.
func wanted(n *Node, path string, contents map[*Node][]byte, out map[string]string) {
	links := n.links
	if n.IsDir() {
		links = 2
		for _, c := range n.entries {
			if c.IsDir() {
				links++
			}
		}
	}
	line := fmt.Sprintf("%o %d:%d %d.%d %d links", n.Mode, n.UID, n.GID, n.Seconds, n.Nanoseconds, links)
	for _, x := range n.Xattrs {
		line += fmt.Sprintf(" %s=%x", x.Name, x.Value)
	}
	if !n.IsDir() {
		data := contents[n]
		if n.Target != "" {
			data = []byte(n.Target)
		}
		out[path] = fmt.Sprintf("%s %d,%d %x", line, n.Major, n.Minor, data)
		return
	}
	out[path] = line
	for name, c := range n.entries {
		wanted(c, path+"/"+name, contents, out)
	}
}

// grow makes a random tree with contents.
func grow(r *rand.Rand, size int) (*Node, map[*Node][]byte) {
	root := NewDir(0o755)
	dirs, files := []*Node{root}, []*Node{}
	contents := map[*Node][]byte{}
	for i := range size {
		n := &Node{UID: r.Uint32(), GID: r.Uint32N(70000), Seconds: r.Int64N(1 << 40), Nanoseconds: r.Uint32N(1e9)}
		dir := dirs[r.IntN(len(dirs))]
		name := fmt.Sprintf("%s%d", strings.Repeat(string(rune('!'+r.IntN(90))), r.IntN(240)), i)
		name = strings.ReplaceAll(name, "/", "_")
		for range r.IntN(3) {
			prefix := xattrPrefixes[r.IntN(len(xattrPrefixes))].prefix
			if strings.HasSuffix(prefix, ".") {
				prefix += strings.Repeat("x", 1+r.IntN(30))
			}
			if !slices.ContainsFunc(n.Xattrs, func(x Xattr) bool { return x.Name == prefix }) {
				n.Xattrs = append(n.Xattrs, Xattr{prefix, bytes.Repeat([]byte{byte(i)}, r.IntN(100))})
			}
		}
		perm := r.Uint32N(0o10000)
		switch r.IntN(6) {
		case 0:
			n.Mode = unix.S_IFDIR | perm
			dirs = append(dirs, n)
		case 1:
			n.Mode, n.Target = unix.S_IFLNK|perm, strings.Repeat("t", 1+r.IntN(MaxTarget))
		case 2:
			n.Mode, n.Major, n.Minor = unix.S_IFCHR|perm, r.Uint32N(1<<12), r.Uint32N(1<<20)
		case 3:
			n.Mode = unix.S_IFIFO | perm
		case 4:
			if len(files) > 0 {
				n = files[r.IntN(len(files))] // a hard link
			}
			fallthrough
		default:
			if contents[n] == nil {
				n.Mode, n.Size = unix.S_IFREG|perm, int64(r.IntN(10000))
				contents[n] = bytes.Repeat([]byte{byte(i), 7}, 5000)[:n.Size]
				files = append(files, n)
			}
		}
		if err := dir.Add(name, n); err != nil {
			panic(err)
		}
	}
	return root, contents
}

// assemble puts an image together.
func assemble(img *Image, contents map[*Node][]byte) []byte {
	p := make([]byte, img.Size+BlockSize) // so that a block can be read from anywhere
	copy(p, img.Meta)
	for _, n := range img.Files {
		copy(p[n.Offset():], contents[n])
	}
	return p
}

func checkTree(t *testing.T, seed uint64, size int) []byte {
	t.Helper()
	root, contents := grow(rand.New(rand.NewPCG(seed, 1)), size)
	want := map[string]string{}
	wanted(root, "", contents, want)
	img, err := Layout(root)
	if err != nil {
		t.Fatal(err)
	}
	p := assemble(img, contents)
	r := &reader{t, p}
	if magic := le.Uint32(p[superOffset:]); magic != superMagic {
		t.Fatalf("magic %x", magic)
	}
	got := map[string]string{}
	nid := uint64(le.Uint16(p[superOffset+14:]))
	r.describe(nid, nid, "", got)
	if !maps.Equal(got, want) {
		for path, line := range want {
			if got[path] != line {
				t.Errorf("%.80s:\n%.300s\nwant\n%.300s", path, got[path], line)
			}
		}
		t.Fatalf("%d paths, want %d", len(got), len(want))
	}
	return p[:img.Size]
}

func TestLayout(t *testing.T) {
	for seed, size := range []int{0, 1, 7, 60, 500, 3000} {
		checkTree(t, uint64(seed), size)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add(uint64(1), uint16(3))
	f.Add(uint64(9), uint16(200))
	f.Fuzz(func(t *testing.T, seed uint64, size uint16) { checkTree(t, seed, int(size%300)) })
}

// TestForeignReader has the format's own tools read an image.
func TestForeignReader(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("fsck.erofs (erofs-utils) is not installed")
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, checkTree(t, 5, 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestWhatCannotBeAdded(t *testing.T) {
	dir := NewDir(0o755)
	file := func() *Node { return &Node{Mode: unix.S_IFREG | 0o644} }
	withXattr := file()
	withXattr.Xattrs = []Xattr{{"odd.name", nil}}
	large := file()
	large.Xattrs = []Xattr{{"user.large", make([]byte, BlockSize)}}
	twice := NewDir(0o755)
	if err := dir.Add("twice", twice); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		node *Node
		want string
	}{
		{"", file(), "name `` is not valid"}, {"..", file(), "name `..` is not valid"},
		{"a/b", file(), "name `a/b` is not valid"}, {strings.Repeat("x", 256), file(), "is not valid (1 to 255 bytes"},
		{"link", &Node{Mode: unix.S_IFLNK}, "its target has 0 bytes, 1 to 4095"},
		{"f", withXattr, "extended attribute `odd.name` is not valid"},
		{"f", large, "its extended attributes have 4120 bytes"},
		{"again", twice, "directory `again` has a name already"},
		{"size", &Node{Mode: unix.S_IFREG, Size: -1}, "has -1 bytes"},
	} {
		if err := dir.Add(c.name, c.node); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.name, err, c.want)
		}
	}
	if err := file().Add("x", file()); err == nil {
		t.Error("a file has an entry")
	}
	if _, err := Layout(file()); err == nil {
		t.Error("a file is a root")
	}
	if names := dir.Names(); len(names) != 1 {
		t.Errorf("%q", names)
	}
}

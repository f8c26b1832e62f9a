package erofs

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Sizes of the structures on the disk, in bytes, and constants of erofs_fs.h.
const (
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2
	inodeSize   = 64 // of an extended inode
	inodeSlot   = 32 // inodes are numbered by their offset in these
	direntSize  = 12
	xattrHeader = 12
	xattrEntry  = 4

	formatExtended = 1
	flatPlain      = 0 << 1
	flatInline     = 2 << 1
)

var le = binary.LittleEndian

// fileTypes are those of directory entries.
var fileTypes = map[uint32]byte{
	unix.S_IFREG: 1, unix.S_IFDIR: 2, unix.S_IFCHR: 3, unix.S_IFBLK: 4,
	unix.S_IFIFO: 5, unix.S_IFSOCK: 6, unix.S_IFLNK: 7,
}

// xattrPrefixes are the namespaces that have numbers.
var xattrPrefixes = [...]struct {
	prefix string
	index  byte
}{
	{"user.", 1}, {"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}, {"trusted.", 4}, {"security.", 6},
}

// nid is the number of the inode.
func (n *Node) nid() uint64 { return uint64(n.place.at / inodeSlot) }

func (l *layout) encode(root *Node) {
	meta := l.image.Meta
	s := meta[superOffset:]
	le.PutUint32(s[0:], superMagic)
	s[12] = 12 // the block size, as a power of two
	le.PutUint16(s[14:], uint16(root.nid()))
	le.PutUint64(s[16:], uint64(len(l.nodes)))
	le.PutUint32(s[36:], uint32(l.block))
	for _, n := range l.nodes {
		n.encode(meta)
	}
}

// encode writes the inode, what stands behind it, and data that are part of the metadata.
func (n *Node) encode(meta []byte) {
	p := meta[n.place.at:]
	format, size, value := uint16(formatExtended|flatPlain), n.Size, n.place.block
	if n.place.inline != nil {
		format = formatExtended | flatInline
	}
	links := n.links
	switch n.Type() {
	case unix.S_IFDIR:
		last := n.place.dir[len(n.place.dir)-1]
		size = int64(len(n.place.dir)-1)*BlockSize + last.size
		links = 2
		for _, c := range n.entries {
			if c.IsDir() {
				links++
			}
		}
		n.encodeDir(meta)
	case unix.S_IFLNK:
		size = int64(len(n.Target))
		if n.place.inline != nil {
			copy(n.place.inline, n.Target)
		} else {
			copy(meta[n.Offset():], n.Target)
		}
	case unix.S_IFREG:
		if len(n.Data) > 0 {
			size = int64(copy(n.place.inline, n.Data))
		}
	default:
		size, value = 0, n.Minor&0xff|n.Major<<8|(n.Minor&^0xff)<<12
	}
	le.PutUint16(p[0:], format)
	le.PutUint16(p[4:], uint16(n.Mode))
	le.PutUint64(p[8:], uint64(size))
	le.PutUint32(p[16:], value)
	le.PutUint32(p[20:], uint32(n.nid()))
	le.PutUint32(p[24:], n.UID)
	le.PutUint32(p[28:], n.GID)
	le.PutUint64(p[32:], uint64(n.Seconds))
	le.PutUint32(p[40:], n.Nanoseconds)
	le.PutUint32(p[44:], links)
	end := inodeSize
	if k := n.xattrSize(); k > 0 {
		le.PutUint16(p[2:], uint16((k-xattrHeader)/xattrEntry+1))
		n.encodeXattrs(p[inodeSize+xattrHeader:])
		end += k
	}
	copy(p[end:], n.place.inline)
}

// allNames are the names of a directory with the two that each has, in the order in which the
// kernel searches them.
func (n *Node) allNames() []string {
	names := append(n.Names(), ".", "..")
	slices.Sort(names)
	return names
}

func (n *Node) encodeDir(meta []byte) {
	for i, b := range n.place.dir {
		p := n.place.inline
		if i < len(n.place.dir)-1 || p == nil {
			p = meta[n.Offset()+int64(i)*BlockSize:][:BlockSize]
		}
		at := len(b.names) * direntSize
		for j, name := range b.names {
			child := n.entries[name]
			switch name {
			case ".":
				child = n
			case "..":
				child = n.parent
			}
			e := p[j*direntSize:]
			le.PutUint64(e[0:], child.nid())
			le.PutUint16(e[8:], uint16(at))
			e[10] = fileTypes[child.Type()]
			at += copy(p[at:], name)
		}
	}
}

// splitXattr returns the number of an attribute's namespace, and the name in it.
func splitXattr(name string) (index byte, rest string, ok bool) {
	for _, p := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			return p.index, rest, len(rest) <= MaxName && (rest == "") == !strings.HasSuffix(p.prefix, ".")
		}
	}
	return 0, "", false
}

// checkXattrs returns an error for attributes that the format cannot have, or that do not fit
// behind the inode.
func (n *Node) checkXattrs() error {
	for _, x := range n.Xattrs {
		if _, _, ok := splitXattr(x.Name); !ok {
			return fmt.Errorf("extended attribute `%s` is not valid (user.NAME, trusted.NAME, security.NAME or an ACL)",
				x.Name)
		}
	}
	if k := inodeSize + n.xattrSize(); k > BlockSize {
		return fmt.Errorf("its extended attributes have %d bytes, %d are possible", k-inodeSize, BlockSize-inodeSize)
	}
	return nil
}

// xattrSize is what the attributes take behind the inode, in bytes.
func (n *Node) xattrSize() int {
	if len(n.Xattrs) == 0 {
		return 0
	}
	size := xattrHeader
	for _, x := range n.Xattrs {
		_, rest, _ := splitXattr(x.Name)
		size += (xattrEntry + len(rest) + len(x.Value) + 3) &^ 3
	}
	return size
}

func (n *Node) encodeXattrs(p []byte) {
	for _, x := range n.Xattrs {
		index, rest, _ := splitXattr(x.Name)
		p[0], p[1] = byte(len(rest)), index
		le.PutUint16(p[2:], uint16(len(x.Value)))
		k := xattrEntry + copy(p[xattrEntry:], rest)
		k += copy(p[k:], x.Value)
		p = p[(k+3)&^3:]
	}
}

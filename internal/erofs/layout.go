package erofs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// place is where a node is in the image.
type place struct {
	at     int64  // of the inode, in bytes; 0 before it has one
	block  uint32 // the first of its data
	inline []byte // the end of its data, behind the inode
	dir    []dirBlock
}

// Image is the layout of a file system.
type Image struct {
	// Meta is the beginning of the image, whole blocks: everything but the contents of
	// regular files.
	Meta []byte
	// Size is that of the whole image, in bytes.
	Size int64
	// Files are the regular files with contents, in the order of their offsets. Each fills
	// its blocks from its Offset on; the rest of the last one is zeroes.
	Files []*Node
}

// layout is a layout that is being made.
type layout struct {
	image *Image
	nodes []*Node // in the order of their inodes
	block int64   // the first free one
}

// Layout lays out the tree below root, which is changed by that and must not be used for
// another layout.
func Layout(root *Node) (*Image, error) {
	if !root.IsDir() {
		return nil, fmt.Errorf("erofs layout: the root is not a directory")
	}
	root.parent = root
	l := &layout{image: &Image{}}
	l.inodes(root)
	if err := l.data(); err != nil {
		return nil, fmt.Errorf("erofs layout: %w", err)
	}
	l.encode(root)
	return l.image, nil
}

// inodes places all inodes, breadth first: that of the root must be near the beginning. An
// inode does not cross a block with what is behind it.
func (l *layout) inodes(root *Node) {
	at := int64(superOffset + superSize)
	put := func(n *Node) {
		size := n.plan()
		if at%BlockSize+size > BlockSize {
			at = (at + BlockSize - 1) / BlockSize * BlockSize
		}
		n.place.at = at
		at = (at + size + inodeSlot - 1) / inodeSlot * inodeSlot
		l.nodes = append(l.nodes, n)
	}
	put(root)
	for i := 0; i < len(l.nodes); i++ {
		for _, name := range l.nodes[i].Names() {
			if child := l.nodes[i].entries[name]; child.place.at == 0 {
				put(child)
			}
		}
	}
	l.block = (at + BlockSize - 1) / BlockSize
}

// plan decides what stands behind the inode, and returns how much both take, in bytes.
func (n *Node) plan() int64 {
	size := int64(inodeSize + n.xattrSize())
	var end int64
	switch n.Type() {
	case unix.S_IFDIR:
		n.place.dir = n.dirBlocks()
		end = n.place.dir[len(n.place.dir)-1].size
	case unix.S_IFLNK:
		end = int64(len(n.Target))
	case unix.S_IFREG:
		end = int64(len(n.Data))
	}
	if end > 0 && size+end <= BlockSize {
		n.place.inline = make([]byte, end)
		size += end
	}
	return size
}

// blocks returns how many blocks of its own the data of a node take.
func (n *Node) blocks() int64 {
	var k int64
	switch n.Type() {
	case unix.S_IFDIR:
		k = int64(len(n.place.dir))
	case unix.S_IFLNK:
		k = 1
	case unix.S_IFREG:
		return (n.Size + BlockSize - 1) / BlockSize
	}
	if n.place.inline != nil {
		k--
	}
	return k
}

// data places the data: first those of directories and symlinks, which are part of Meta, then
// the files.
func (l *layout) data() error {
	for _, files := range []bool{false, true} {
		for _, n := range l.nodes {
			k := n.blocks()
			if (n.Type() == unix.S_IFREG) != files || k == 0 {
				continue
			}
			if l.block+k >= MaxSize/BlockSize {
				return fmt.Errorf("the files have more than %d bytes", int64(MaxSize))
			}
			n.place.block = uint32(l.block)
			l.block += k
			if files {
				l.image.Files = append(l.image.Files, n)
			}
		}
		if !files {
			l.image.Meta = make([]byte, l.block*BlockSize)
		}
	}
	l.image.Size = l.block * BlockSize
	return nil
}

// dirBlock is what one block of a directory has.
type dirBlock struct {
	names []string
	size  int64 // in bytes, with the entries
}

// dirBlocks distributes the names of a directory over blocks.
func (n *Node) dirBlocks() []dirBlock {
	var out []dirBlock
	var b dirBlock
	for _, name := range n.allNames() {
		size := int64(direntSize + len(name))
		if b.size+size > BlockSize {
			out = append(out, b)
			b = dirBlock{}
		}
		b.names = append(b.names, name)
		b.size += size
	}
	return append(out, b)
}

package erofs

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of the format and of Linux.
const (
	// BlockSize is the unit of the layout, in bytes.
	BlockSize = 4096
	// MaxName is the longest name of a file, in bytes.
	MaxName = 255
	// MaxTarget is the longest target of a symlink, in bytes.
	MaxTarget = 4095
	// MaxSize is the largest image, in bytes: block numbers have 32 bits.
	MaxSize = BlockSize << 32
)

// Node is a file of any type. A node that has several names is a hard link.
type Node struct {
	Mode         uint32 // type and permissions, as st_mode
	UID, GID     uint32
	Seconds      int64  // of the last modification, since 1970
	Nanoseconds  uint32 // beside them
	Size         int64  // of a regular file's contents, in bytes
	Data         []byte // contents of a small regular file that are a part of the metadata; Size is 0 then
	Target       string // of a symlink
	Major, Minor uint32 // of a device
	Xattrs       []Xattr

	entries map[string]*Node // of a directory
	links   uint32           // names
	parent  *Node            // of a directory

	place place
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string // with its namespace, "security.capability"
	Value []byte
}

// NewDir returns an empty directory with permissions.
func NewDir(perm uint32) *Node { return &Node{Mode: unix.S_IFDIR | perm&0o7777} }

// Type returns the type bits of the mode.
func (n *Node) Type() uint32 { return n.Mode & unix.S_IFMT }

// Links returns how many names the node has; of a directory that is one.
func (n *Node) Links() uint32 { return n.links }

// IsDir reports whether the node is a directory.
func (n *Node) IsDir() bool { return n.Type() == unix.S_IFDIR }

// Child returns what has this name in the directory, nil without any.
func (n *Node) Child(name string) *Node { return n.entries[name] }

// Names returns the names in the directory, sorted.
func (n *Node) Names() []string {
	out := make([]string, 0, len(n.entries))
	for name := range n.entries {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Add enters a node into the directory. What had the name before is replaced.
func (n *Node) Add(name string, child *Node) error {
	switch {
	case !n.IsDir():
		return fmt.Errorf("add `%s`: not a directory", name)
	case name == "" || name == "." || name == ".." || len(name) > MaxName || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name `%s` is not valid (1 to %d bytes without `/` and NUL, and not `.` or `..`)", name,
			MaxName)
	case child.IsDir() && child.parent != nil:
		return fmt.Errorf("directory `%s` has a name already", name)
	case child.Type() == unix.S_IFLNK && (child.Target == "" || len(child.Target) > MaxTarget):
		return fmt.Errorf("symlink `%s`: its target has %d bytes, 1 to %d are possible", name, len(child.Target),
			MaxTarget)
	case child.Size < 0 || child.Size > MaxSize:
		return fmt.Errorf("file `%s` has %d bytes", name, child.Size)
	}
	if err := child.checkXattrs(); err != nil {
		return fmt.Errorf("file `%s`: %w", name, err)
	}
	most := BlockSize - inodeSize - child.xattrSize()
	if len(child.Data) > most || child.Data != nil && child.Size > 0 {
		return fmt.Errorf("file `%s` has %d bytes in the metadata, %d are possible, and none elsewhere", name,
			len(child.Data), most)
	}
	n.Remove(name)
	if n.entries == nil {
		n.entries = map[string]*Node{}
	}
	n.entries[name] = child
	child.links++
	if child.IsDir() {
		child.parent = n
	}
	return nil
}

// Remove takes a name, and all below it, out of the directory.
func (n *Node) Remove(name string) {
	if old := n.entries[name]; old != nil {
		old.links--
		old.parent = nil
		delete(n.entries, name)
	}
}

// Offset returns where in the image the contents of a regular file begin, in bytes. It is
// valid after Layout, and 0 for an empty file.
func (n *Node) Offset() int64 { return int64(n.place.block) * BlockSize }

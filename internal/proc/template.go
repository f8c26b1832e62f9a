package proc

import (
	"io"
	"os"
)

// Original is a process of which copies can be made that go on from what it is now.
type Original interface {
	// Template makes a template of a process that stands still. Nothing may be under way in it.
	Template(memory SharedMemory) (Template, error)
}

// SharedMemory is what a process has mapped of a file that it must not share with copies.
type SharedMemory struct {
	File       int   // the number of the file in the process
	At, Length int64 // where it is mapped, in bytes; zero: it is mapped privately, and copies keep that
}

// Template is a process that stands still to be copied. It is safe for concurrent use.
type Template interface {
	// Copy makes a copy, which goes on where the original stood. Its files are those of the original
	// but for the replaced ones; a copy that would share another socket is refused.
	Copy(c Copy) (Process, error)
	// Close ends the template. Its copies go on.
	Close()
}

// Copy describes a copy of a template.
type Copy struct {
	Dir      string    // its working directory
	Args     []string  // what process lists show
	Stderr   io.Writer // required
	Replaced []Replacement
	Memory   *PrivateMemory // nil: that of the template
}

// Replacement is a file that a copy gets in place of the template's. One of the other fields says which that is.
type Replacement struct {
	File      *os.File
	Number    int    // its number; 0: it is a unix socket, and known by a path:
	Listener  string // it listens there
	Accepted  string // it was accepted by the one that listens there
	Connected string // it is connected to the one that listens there
}

// PrivateMemory is a part of a file that is mapped for a copy, copy-on-write.
type PrivateMemory struct {
	File       *os.File
	At, Length int64 // where, in bytes
}

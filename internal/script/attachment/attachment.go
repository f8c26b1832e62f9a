// Package attachment reads what t:attach is given: bytes, or a file of the host.
//
// It emits nothing, and counts nothing. Start with Read.
package attachment

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/event"
	"provium/internal/lua"
	"provium/internal/script/value"
)

const (
	maxName   = 200 // bytes
	maxPath   = 4096
	maxSource = 16 << 20 // bytes of a Lua file in which paths are looked for
)

// Read reads the arguments of t:attach(name, what) and returns the event without its test. what
// is the path of a file of the host, or bytes; {path =} and {bytes =} say which. Without them, only a
// path that is written out in the Lua file of the call is taken as one: what a guest has printed
// must not choose a file of the host. beside makes a path absolute that starts at the file of the
// call. Of a long file the event has the beginning.
func Read(a value.Args, beside func(c *lua.Call, path string) string) (made event.TestAttachment, err error) {
	made.Attachment, err = a.Str(1, "name")
	if err == nil {
		err = a.AtMost(2, "t:attach(name, bytes or path)")
	}
	if err != nil {
		return made, err
	}
	if n := len(made.Attachment); n == 0 || n > maxName {
		return made, a.Errorf("argument 1 (name) must have 1 to %d bytes, got %d", maxName, n)
	}
	switch v := a.Value(2).(type) {
	case string:
		abs := beside(a.Call, v)
		switch made.Data = []byte(v); {
		case !isFile(abs, v):
		case isWrittenOut(v, beside(a.Call, filepath.Base(a.Call.CallerFile().Source))):
			made.Source = abs
		default:
			err = a.Errorf("%q is also the path of a file of the host: say {path = ...} for the file, "+
				"or {bytes = ...} for the text", v)
		}
	case *lua.Table:
		err = fromTable(a, v, beside, &made)
	default:
		err = a.TypeError(2, "what", "a string or a table")
	}
	made.Size = uint64(len(made.Data))
	if err == nil && made.Source != "" {
		err = a.Call.Block(func(context.Context) (err error) {
			made.Data, made.Size, err = read(made.Source)
			return err
		})
		if err != nil {
			err = a.Errorf("%w", err)
		}
	}
	made.Data = made.Data[:min(len(made.Data), event.MaxAttachment)]
	return made, err
}

func fromTable(a value.Args, t *lua.Table, beside func(c *lua.Call, path string) string,
	made *event.TestAttachment) error {
	o, err := value.NewOptions(a.Func, t, []string{"path", "bytes"})
	if err != nil {
		return err
	}
	if o.Has("path") == o.Has("bytes") {
		return a.Errorf("argument 2 must have exactly one of path, bytes")
	}
	if o.Has("bytes") {
		text, err := o.Str("bytes", "")
		made.Data = []byte(text)
		return err
	}
	path, err := o.Path("path")
	made.Source = beside(a.Call, path)
	return err
}

// isFile reports whether a text is the path of a file of the host, which is at abs.
func isFile(abs, text string) bool {
	if text == "" || len(text) > maxPath || strings.ContainsAny(text, "\n\x00") {
		return false
	}
	info, err := os.Stat(abs)
	return err == nil && info.Mode().IsRegular()
}

// isWrittenOut reports whether a Lua file has a path as a string, in quotes or brackets.
func isWrittenOut(path, file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	source, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		return false
	}
	for _, quotes := range [][2]string{{`"`, `"`}, {"'", "'"}, {"[[", "]]"}} {
		if bytes.Contains(source, []byte(quotes[0]+path+quotes[1])) {
			return true
		}
	}
	return false
}

// read returns the beginning of a file, as much as an event has, and its size.
func read(path string) (data []byte, size uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	data, err = io.ReadAll(io.LimitReader(f, event.MaxAttachment))
	return data, max(uint64(info.Size()), uint64(len(data))), err
}

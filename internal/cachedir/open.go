package cachedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Opener opens the directories of the caches of one process. It is for one goroutine.
type Opener struct {
	// Home is a directory; from it down, those of this user that others can write to are
	// tightened. Others are not used.
	Home string
	// Temp makes a private directory, for what cannot be in its place.
	Temp func() (dir string, err error)
	// Note is called with a line of text for each fact that the user should know.
	Note func(text string)

	noted map[string]bool
}

// note passes a text on, once.
func (o *Opener) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if o.noted == nil {
		o.noted = map[string]bool{}
	}
	if !o.noted[text] {
		o.noted[text] = true
		o.Note(text)
	}
}

// Trust reports whether nobody but this user and root can have written dir. It tightens
// directories that others can write to where that is allowed, and notes what it finds.
func (o *Opener) Trust(dir string) bool {
	s := Inspect(dir, o.Home)
	for _, loose := range s.Loose {
		info, err := os.Stat(loose)
		if err == nil {
			err = os.Chmod(loose, info.Mode().Perm()&^0o022)
		}
		if err != nil {
			s.Distrust = err
			break
		}
		o.note("%s could be written by others (mode %#o): that is no longer so, since the cache is in it", loose,
			info.Mode().Perm())
	}
	if s.Distrust != nil {
		o.note("%v: it is not used for the cache, which is in a temporary directory; correct that, or set "+
			"XDG_CACHE_HOME to another directory", s.Distrust)
	}
	return s.Distrust == nil
}

// Open returns the directory to use for the cache in dir: dir itself, which is made if
// it is missing, or a temporary one if dir cannot be trusted or written to. The latter has
// links to what is in dir if that can be trusted: to files, and to directories that are
// more than levels below dir. A dir that cannot be a directory is returned as it is: the
// error of its use says what is wrong.
func (o *Opener) Open(dir string, levels int) (string, error) {
	if o.Trust(dir) {
		state := Inspect(dir, o.Home)
		if state.Distrust == nil && state.ReadOnly == nil && state.Err == nil {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return "", fmt.Errorf("make cache: %w", err)
			}
			// Somebody may have been faster in a directory that all can write to.
			state = Inspect(dir, o.Home)
		}
		switch {
		case state.Distrust != nil:
			o.Trust(dir)
		case state.ReadOnly != nil:
			why := state.ReadOnly
			if up := writable(filepath.Dir(dir)); up != nil {
				why = up // as that of the other caches there
			}
			o.note("the cache cannot be written to (%v): what is in it is used, and what is new is in a temporary "+
				"directory until the end", why)
			temp, err := o.Temp()
			if err == nil {
				err = linkTree(temp, dir, levels)
			}
			return temp, err
		default:
			return dir, nil
		}
	}
	return o.Temp()
}

// linkTree makes links in to, a directory, to the files below from. Down to levels below
// it, directories are made, and there are links to deeper ones. Locks and temporary files
// are left out.
func linkTree(to, from string, levels int) error {
	items, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("use cache: %w", err)
	}
	for _, i := range items {
		name := i.Name()
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".lock") {
			continue
		}
		path, there := filepath.Join(to, name), filepath.Join(from, name)
		if i.Type()&fs.ModeDir != 0 && levels > 0 {
			if err := os.Mkdir(path, 0o700); err != nil {
				return fmt.Errorf("use cache: %w", err)
			}
			if err := linkTree(path, there, levels-1); err != nil {
				return err
			}
			continue
		}
		if err := os.Symlink(there, path); err != nil {
			return fmt.Errorf("use cache: %w", err)
		}
	}
	return nil
}

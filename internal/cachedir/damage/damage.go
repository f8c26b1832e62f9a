// Package damage changes files as broken disks, crashes and other users do, for the tests
// of caches. It is used by tests only.
package damage

import (
	"errors"
	"os"
	"time"
)

// Kind is a way to damage a file.
type Kind struct {
	Name string
	// Do damages the file at path. replacement is a valid file of the same kind.
	Do func(path string, replacement []byte) error
}

// otherUser is a user and a group that the tests do not run as.
const otherUser = 1234

// Kinds returns all ways. Do of the last one fails for users that cannot give files away.
// Where a disk or a clever program would do so, times of change stay as they were.
func Kinds() []Kind {
	return []Kind{
		{"truncate", func(path string, _ []byte) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return errors.Join(os.Truncate(path, info.Size()/2), setTime(path, info.ModTime()))
		}},
		{"empty", func(path string, _ []byte) error { return os.Truncate(path, 0) }},
		{"bit flip", flip},
		{"replace", replace},
		{"replace in place", func(path string, with []byte) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(path, with, 0), setTime(path, info.ModTime()))
		}},
		{"remove", func(path string, _ []byte) error { return os.Remove(path) }},
		{"chmod 0666", func(path string, with []byte) error {
			return errors.Join(os.WriteFile(path, with, 0), os.Chmod(path, 0o666))
		}},
		{"chmod 0", func(path string, _ []byte) error { return os.Chmod(path, 0) }},
		{"foreign", func(path string, with []byte) error {
			return errors.Join(replace(path, with), os.Lchown(path, otherUser, otherUser))
		}},
	}
}

func setTime(path string, at time.Time) error { return os.Chtimes(path, at, at) }

// flip changes one bit in the middle.
func flip(path string, _ []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	at := info.Size() / 2
	_, err = f.ReadAt(b[:], at)
	if err == nil {
		b[0] ^= 4
		_, err = f.WriteAt(b[:], at)
	}
	return errors.Join(err, f.Close(), setTime(path, info.ModTime()))
}

// replace renames another file to path.
func replace(path string, with []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	next := path + "~"
	return errors.Join(os.WriteFile(next, with, info.Mode().Perm()), setTime(next, info.ModTime()),
		os.Rename(next, path))
}

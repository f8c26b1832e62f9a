// Package ksm has the kernel of the host merge equal pages of memory.
//
// It does not measure what that saves. Start with Tune.
package ksm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Dir is the directory of the settings.
const Dir = "/sys/kernel/mm/ksm"

// settings are written in this order, so that merging begins with the others in force.
var settings = []struct{ name, value string }{{"pages_to_scan", "1000"}, {"sleep_millisecs", "100"}, {"run", "1"}}

// Tune turns merging on and returns what it did in one line, or why it could not. Settings
// that have their value are not written.
func Tune(dir string) string {
	for _, s := range settings {
		if err := set(filepath.Join(dir, s.name), s.value); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return "ksm not tuned: the kernel has no KSM"
			}
			return fmt.Sprintf("ksm not tuned: %v (--no-ksm leaves it alone)", err)
		}
	}
	return "ksm tuned (run = on, pages_to_scan = 1000, sleep_millisecs = 100)"
}

func set(path, value string) error {
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(have)) == value {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

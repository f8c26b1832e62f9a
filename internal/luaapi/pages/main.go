// Command pages writes the reference of the Lua API to a directory, for `make reference`.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"provium/internal/luaapi"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "pages: %v\n", err)
		os.Exit(1)
	}
}

// write writes all pages and removes those that are not among them.
func write(args []string) error {
	if len(args) != 1 {
		return errors.New("expected one directory")
	}
	dir := args[0]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var names []string
	for _, page := range luaapi.Reference() {
		names = append(names, page.Name)
		if err := os.WriteFile(filepath.Join(dir, page.Name), []byte(page.Text), 0o644); err != nil {
			return err
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if !slices.Contains(names, filepath.Base(path)) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

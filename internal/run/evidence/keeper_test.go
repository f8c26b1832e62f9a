package evidence

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/artifacts"
)

// TestCacheLimit has the failures of a run leave more than the user's cache may have, and another run
// after it: the cache never has more than the limit and what the READMEs take, and the README says what is missing.
func TestCacheLimit(t *testing.T) {
	const limit = 100 << 10
	o := Options{Dir: filepath.Join(t.TempDir(), "artifacts"), Last: true, Limit: limit}
	for run := range 3 {
		k, err := o.Open(io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			f, err := k.Place.Create(artifacts.Record{File: "a.test.lua", Test: string(rune('a' + n))})
			if err != nil {
				t.Fatal(err)
			}
			f.Add("console.log", "a console", 1<<20, func(w io.Writer) error {
				_, err := io.WriteString(w, strings.Repeat("x", 40<<10))
				return err
			})
			_ = f.Finish("boom", 0) // it does not fit, which the README says
			text, err := os.ReadFile(filepath.Join(f.Dir, "README.md"))
			if err != nil || strings.Contains(string(text), "`console.log`: only its first ") != (n > 1) {
				t.Errorf("run %d, folder %d: %v\n%s", run, n, err, text)
			}
		}
		k.Close()
		var kept int64
		folders := 0
		err = filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if d.Name() == "README.md" {
				folders++
				return nil
			}
			info, err := d.Info()
			if err == nil {
				kept += info.Size()
			}
			return err
		})
		if err != nil || folders != 4 || kept > limit+4<<10 || kept < limit/2 {
			t.Errorf("run %d: %d bytes in %d folders, %v", run, kept, folders, err)
		}
	}
}

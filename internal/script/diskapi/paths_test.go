package diskapi_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/script/apitest"
)

// Relative paths start at the project, and errors show the whole path.
func TestDiskPaths(t *testing.T) {
	s := apitest.New(t, fakeHost(t))
	for _, name := range []string{"disk.img", "other.img"} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Run(`
		local vm = provium:vm("n1", "host", {disks = {{template = "other.img", id = "t"}}}):boot()
		local d = vm:attach_disk({id = "i", image = "disk.img", format = "raw"})
		d:write_sectors(0, ("y"):rep(512)) d:export("copy.img") d:export("pending.img", {pending = true})
		local r = d:record() d:write_sectors(1, ("z"):rep(512)) r:stop() r:save("rec") d:load_recording("rec"):close()
	`); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"copy.img", "pending.img", "rec"} {
		if _, err := os.Stat(filepath.Join(s.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	for i, source := range []string{
		`vm:attach_disk({id = "x", image = "gone"})`, `vm:attach_disk({id = "x", template =
			"gone"})`, `d:load_recording("gone")`,
		`d:export("gone/x")`, `local r = d:record() r:stop() r:save("gone/x")`, `d:crash_points({check = print,
			recording = "gone"})`,
		`provium:vm("m", "host", {disks = {{path = "gone"}}}):boot()`,
	} {
		prefix := fmt.Sprintf(`local vm = provium:vm("v%d", "host", {disks = {{scratch = "1M", id =
			"d"}}}):boot() local d = vm:disk("d") `, i)
		if err := s.Run(prefix + source); err == nil || !strings.Contains(err.Error(), filepath.Join(s.Dir, "gone")) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

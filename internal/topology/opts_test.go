package topology

import (
	"strings"
	"testing"
	"time"

	"provium/internal/disk"
)

func TestMergeOpts(t *testing.T) {
	quiet, loud := "quiet", "loud"
	seed := uint64(0)
	base := &BootOpts{Memory: 1 << 30, Cmdline: &quiet, RNGSeed: &seed,
		Files: []BootFile{{Path: "/a", Content: "1"}, {Path: "/b", Content: "2"}}}
	over := &BootOpts{CPUs: 2, Cmdline: &loud,
		Files: []BootFile{{Path: "//a", Content: "3"}, {Path: "/c", Content: "4"}}}
	m := base.Merge(over)
	if m.Memory != 1<<30 || m.CPUs != 2 || *m.Cmdline != "loud" || m.RNGSeed != &seed {
		t.Errorf("merged: %+v", m)
	}
	var files []string
	for _, f := range m.Files {
		files = append(files, f.Path+"="+f.Content)
	}
	if got := strings.Join(files, " "); got != "//a=3 /b=2 /c=4" {
		t.Errorf("files: %s", got)
	}
	if len(base.Files) != 2 || base.Files[0].Content != "1" {
		t.Error("merging changed the base")
	}
	when, cold := time.Unix(5, 0), true
	all := &BootOpts{CmdlineAppend: "x", InitialTime: &when, AgentTimeout: 3, Cold: &cold,
		Disks: []disk.Spec{{ID: "d"}}}
	if m := base.Merge(all); m.CmdlineAppend != "x" || m.InitialTime != &when || m.AgentTimeout != 3 ||
		m.Cold != &cold || len(m.Disks) != 1 {
		t.Errorf("merged: %+v", m)
	}
	var none *BootOpts
	if m := none.Merge(nil); m.MemoryBytes() != 512<<20 || m.VCPUs() != 1 {
		t.Errorf("defaults: %+v", m)
	}
}

func TestInvalidOpts(t *testing.T) {
	early := time.Unix(-1, 0)
	for _, tc := range []struct {
		opts BootOpts
		part string
	}{
		{BootOpts{Memory: -1}, "memory"},
		{BootOpts{CPUs: 256}, "256 is not between 1 and 255"},
		{BootOpts{AgentTimeout: -1}, "expected a positive number of seconds"},
		{BootOpts{InitialTime: &early}, "initial_time"},
		{BootOpts{Wait: "console:"}, "`console:TEXT` or `command:CMD`, got `console:`"},
		{BootOpts{Wait: "login"}, "wait: expected `agent`, `none`, `init`"},
		{BootOpts{Files: []BootFile{{Path: "/ok"}, {Path: "rel"}}},
			"files[2]: path must be the absolute path of a file, got \"rel\""},
		{BootOpts{Files: []BootFile{{Path: "/a/../b"}}}, "files[1]: path must not have `.` or `..` among its parts"},
		{BootOpts{Files: []BootFile{{Path: "/./b"}}}, "got \"/./b\""},
		{BootOpts{Files: []BootFile{{Path: "/b/"}}}, "absolute path of a file"},
		{BootOpts{Files: []BootFile{{Path: "/"}}}, "absolute path of a file"},
		{BootOpts{Files: []BootFile{{Path: "/a\x00"}}}, "NUL"},
		{BootOpts{Files: []BootFile{{Path: "/a", Mode: 0o10000}}}, "mode 010000"},
	} {
		wantError(t, tc.opts.Validate(), tc.part)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want %q", err, part)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

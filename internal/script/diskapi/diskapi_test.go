package diskapi_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/script/apitest"
)

// host returns a host of fake machines with the profile `host`.
func host(t testing.TB) *lab.Host {
	machines := fakemachine.New(t)
	machines.Prepare(func(m *fakemachine.Machine) {
		// The guests of explorations find their disk and flush its device.
		m.Files.Mkdir("/sys/block/vda")
		m.Files.Write("/sys/block/vda/serial", []byte("data\n"))
		m.Files.Write("/sys/block/vda/dev", []byte("254:0\n"))
		m.Files.Mkdir("/proc/self")
		m.Files.Write("/proc/self/mountinfo", nil)
		for _, nr := range []int64{unix.SYS_OPEN, unix.SYS_IOCTL, unix.SYS_CLOSE} {
			m.OnSyscall(nr, func(context.Context, *fakemachine.Syscall) (int64, uint32) { return 3, 0 })
		}
	})
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines, Seed: 7,
	}
}

// withDisk boots a VM with a disk of 1 MiB.
const withDisk = `
local vm = provium:vm("n1", "host", {disks = {{scratch = "1M", id = "data"}}}):boot()
local d = vm:disk("data")
local function eq(got, want)
	if got ~= want then error(("got %s, want %s"):format(tostring(got), tostring(want)), 2) end
end
local block = ("x"):rep(512)
`

func TestDisks(t *testing.T) {
	apitest.Check(t, host, withDisk, map[string]string{
		`eq(d:id(), "data") eq(d:size(), 1048576) eq(d:is_detached(), false) eq(tostring(d), "disk(data of vm n1)") eq(vm:disk("data"), d)`:                                                                           "",
		`d:write_sectors(3, block) eq(d:read_sectors(3, 1), block) eq(d:read_sectors(3, 1, {pending = true}), block) eq(d:read_sectors(4, 1), ("\0"):rep(512))`:                                                       "",
		`local e = vm:attach_disk({id = "more", size = "64K", logical_block_size = 4096, physical_block_size = 4096, discard = false, write_cache = false}) eq(e:size(), 65536) e:detach() eq(e:is_detached(), true)`: "",
		`eq(vm:attach_disk():id(), "attached-n1") eq(vm:attach_disk({id = "b", readonly = true, size = 4096}):size(), 4096)`:                                                                                          "",
		`d:resize("2M") eq(d:size(), 2097152)`:                    "",
		`vm:disk(7)`:                                              "vm:disk: argument 1 (id) must be a string",
		`vm:disk("gone")`:                                         "gone",
		`vm:attach_disk(7)`:                                       "argument 1 (opts) must be a table",
		`vm:attach_disk({ID = "x"})`:                              "unknown option `ID`",
		`vm:attach_disk({id = "a b"})`:                            "vm:attach_disk: opts.id",
		`vm:attach_disk({id = 7})`:                                "opts.id must be a string",
		`vm:attach_disk({size = "x"})`:                            "opts.size: cannot parse size",
		`vm:attach_disk({size = 100})`:                            "opts.size must be a multiple of 512",
		`vm:attach_disk({image = ""})`:                            "opts.image must not be empty",
		`vm:attach_disk({image = "a\0"})`:                         "opts.image holds a NUL byte",
		`vm:attach_disk({template = 7})`:                          "opts.template must be a string",
		`vm:attach_disk({image = "a", template = "b"})`:           "opts.template and image exclude each other",
		`vm:attach_disk({readonly = 1})`:                          "opts.readonly must be true or false",
		`vm:attach_disk({format = "raw"})`:                        "opts.format has no meaning without an image",
		`vm:attach_disk({image = "a", format = "x"})`:             "opts.format must be one of",
		`vm:attach_disk({format = 7})`:                            "opts.format must be a string",
		`vm:attach_disk({logical_block_size = 1024})`:             "opts.logical_block_size must be 512 or 4096, got 1024",
		`vm:attach_disk({physical_block_size = 1})`:               "opts.physical_block_size must be 512 or 4096, got 1",
		`vm:attach_disk({discard = 1})`:                           "opts.discard must be true or false",
		`vm:attach_disk({write_cache = 1})`:                       "opts.write_cache must be true or false",
		`vm:attach_disk({size = 512, logical_block_size = 4096})`: "is no multiple of logical_block_size 4096",
		`d:read_sectors("x", 1)`:                                  "argument 1 (offset) must be an integer, got string",
		`d:read_sectors(1.5, 1)`:                                  "argument 1 (offset) must be an integer, got 1.5",
		`d:read_sectors(0, "x")`:                                  "argument 2 (n) must be an integer",
		`d:read_sectors(0, 2^22)`:                                 "4194304 sectors are too many for one read",
		`d:read_sectors(0, 1, {x = 1})`:                           "unknown option `x`",
		`d:read_sectors(0, 1, {pending = 1})`:                     "opts.pending must be true or false",
		`d:read_sectors(5000, 1)`:                                 "disk:read_sectors: ",
		`d:write_sectors("x", "")`:                                "argument 1 (offset) must be an integer",
		`d:write_sectors(0, 7)`:                                   "argument 2 (data) must be a string",
		`d:resize("x")`:                                           "disk:resize: argument 1 (size): cannot parse size",
		`d:resize(1000)`:                                          "argument 1 (size) must be a multiple of 512, got 1000",
	})
}

func TestBootDisks(t *testing.T) {
	apitest.Check(t, host, "", map[string]string{
		`provium:vm("x", "host", {disks = 7})`:                                                                             "opts.disks must be an array of tables, got number",
		`provium:vm("x", "host", {disks = {x = 1}})`:                                                                       "opts.disks must be an array",
		`provium:vm("x", "host", {disks = {7}})`:                                                                           "opts.disks[1] must be a table {path=}, {scratch=} or {template=}, got number",
		`provium:vm("x", "host", {disks = {{}}})`:                                                                          "exactly one of path, scratch and template is needed, none is given",
		`provium:vm("x", "host", {disks = {{path = "a", scratch = "1M"}}})`:                                                "given are path and scratch",
		`provium:vm("x", "host", {disks = {{size = 1}}})`:                                                                  "opts.disks[1]: unknown option `size`",
		`provium:vm("x", "host", {disks = {{path = 7}}})`:                                                                  "opts.path must be a string",
		`provium:vm("x", "host", {disks = {{template = ""}}})`:                                                             "opts.template must not be empty",
		`provium:vm("x", "host", {disks = {{scratch = "x"}}})`:                                                             "opts.scratch: cannot parse size",
		`provium:vm("x", "host", {disks = {{scratch = "1M", id = "/"}}})`:                                                  "opts.id",
		`provium:vm("x", "host", {disks = {{scratch = "1M", mediated = 1}}})`:                                              "opts.mediated must be true or false",
		`provium:vm("x", "host", {disks = {{scratch = "1M", readonly = 1}}})`:                                              "opts.readonly must be true or false",
		`provium:vm("x", "host", {disks = {{scratch = "1M", discard = 1}}})`:                                               "opts.discard must be true or false",
		`provium:vm("x", "host", {disks = {{scratch = "1M", mediated = true}, {scratch = 4096, readonly = true}}}):boot()`: "",
	})
}

// Relative paths start at the project, and errors show the whole path.
func TestDiskPaths(t *testing.T) {
	s := apitest.New(t, host(t))
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
		`vm:attach_disk({id = "x", image = "gone"})`, `vm:attach_disk({id = "x", template = "gone"})`, `d:load_recording("gone")`,
		`d:export("gone/x")`, `local r = d:record() r:stop() r:save("gone/x")`, `d:crash_points({check = print, recording = "gone"})`,
		`provium:vm("m", "host", {disks = {{path = "gone"}}}):boot()`,
	} {
		prefix := fmt.Sprintf(`local vm = provium:vm("v%d", "host", {disks = {{scratch = "1M", id = "d"}}}):boot() local d = vm:disk("d") `, i)
		if err := s.Run(prefix + source); err == nil || !strings.Contains(err.Error(), filepath.Join(s.Dir, "gone")) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestFaults(t *testing.T) {
	apitest.Check(t, host, withDisk, map[string]string{
		`d:fault_inject("eio_read") eq(d:active_faults()[1], "eio_read") d:clear_faults() eq(#d:active_faults(), 0)`: "",
		`d:fail_reads() d:fail_writes() d:fail_after(3) d:fail_range(1, 2) d:fail_range(5, 1) d:delay(1.5)
		 local p = d:fault_policy() eq(p.fail_reads, true) eq(p.fail_writes, true) eq(p.fail_after, 3) eq(p.delay, 1.5)
		 eq(#p.fail_range, 2) eq(p.fail_range[1].sector, 1) eq(p.fail_range[1].count, 2) d:clear_policy() eq(next(d:fault_policy()), nil)`: "",
		`local id = d:inject({op = "write", sectors = {8, 2}, errno = "EIO", probability = 0.5, count = 3, seed = 9}) local r = d:rules()[1]
		 eq(r.id, id) eq(r.op, "write") eq(r.sectors[1], 8) eq(r.errno, "EIO") eq(r.probability, 0.5) eq(r.count, 3) eq(r.seed, 9) eq(r.hits, 0)
		 d:clear_rule(id) eq(#d:rules(), 0) d:inject({sectors = 4, delay = "5ms"}) eq(d:rules()[1].delay, 0.005) d:inject({op = "write", effect = "lose"})
		 d:clear_rules() eq(#d:rules(), 0)`: "",
		`d:fault_inject()`:               "argument 1 (mode) must be a string",
		`d:fault_inject("melt")`:         "disk:fault_inject: ",
		`d:fail_after(0)`:                "n must be at least 1, got 0",
		`d:fail_after("x")`:              "argument 1 (n) must be an integer",
		`d:fail_range("x", 1)`:           "argument 1 (sector) must be an integer",
		`d:fail_range(1, "x")`:           "argument 2 (count) must be an integer",
		`d:fail_range(1, 0)`:             "count must be at least 1, got 0",
		`d:delay("x")`:                   "argument 1 (ms) must be a number of milliseconds",
		`d:delay(0/0)`:                   "ms must be between 0 and",
		`d:delay(-1)`:                    "ms must be between 0 and",
		`d:inject()`:                     "argument 1 (opts) must be a table",
		`d:inject({ops = "write"})`:      "unknown option `ops`",
		`d:inject({op = 7})`:             "opts.op must be a string",
		`d:inject({op = "melt"})`:        "disk:inject: ",
		`d:inject({errno = 7})`:          "opts.errno must be a string",
		`d:inject({errno = ""})`:         "errno and effect must not be empty",
		`d:inject({effect = 7})`:         "opts.effect must be a string",
		`d:inject({sectors = "x"})`:      "opts.sectors must be a sector or {first, count}",
		`d:inject({sectors = {1}})`:      "opts.sectors must be a sector or {first, count}",
		`d:inject({sectors = {1, "x"}})`: "opts.sectors must be a sector or {first, count}, got {1, x}",
		`d:inject({sectors = {1, 0}})`:   "opts.sectors must have a count of at least 1",
		`d:inject({probability = "x"})`:  "opts.probability must be a number",
		`d:inject({probability = 2})`:    "opts.probability must be more than 0 and at most 1, got 2",
		`d:inject({count = 0})`:          "opts.count must be at least 1",
		`d:inject({count = "x"})`:        "opts.count must be an integer",
		`d:inject({delay = "x"})`:        "opts.delay: duration",
		`d:inject({delay = 0})`:          "opts.delay must be more than 0 and at most",
		`d:inject({seed = "x"})`:         "opts.seed must be an integer",
		`d:clear_rule("x")`:              "argument 1 (id) must be an integer",
		`d:clear_rule(99)`:               "disk:clear_rule: ",
		`d:export()`:                     "argument 1 (path) must be a string",
		`d:export("x", {pending = 7})`:   "opts.pending must be true or false",
		`d:export("x", 7)`:               "argument 2 (opts) must be a table",
	})
}

func TestPowerCutAndRecordings(t *testing.T) {
	apitest.Check(t, host, withDisk, map[string]string{
		`d:write_sectors(0, block) local r = d:power_cut() eq(r.keep, "none") eq(r.seed, 7) d:power_on()`:        "",
		`local r = d:power_cut({keep = "prefix", count = 0, seed = 9, torn = true}) eq(r.seed, 9) eq(r.kept, 0)`: "",
		`d:power_cut({keep = "some"})`:                "opts.keep",
		`d:power_cut({keep = 7})`:                     "opts.keep must be a string",
		`d:power_cut({count = 1})`:                    "opts.count is for keep = \"prefix\"",
		`d:power_cut({keep = "prefix", count = -1})`:  "opts.count must not be negative, got -1",
		`d:power_cut({keep = "prefix", count = "x"})`: "opts.count must be an integer",
		`d:power_cut({seed = "x"})`:                   "opts.seed must be an integer",
		`d:power_cut({torn = 7})`:                     "opts.torn must be true or false",
		`d:power_cut({x = 7})`:                        "unknown option `x`",
		`local r = d:record({limit = "1M"}) d:mark("a") r:mark(7) eq(r:count(), 2) eq(r:bytes() >= 0, true) eq(r:ended(), nil)
		 local e = r:entries() eq(e[1].kind, "mark") eq(e[1].label, "a") eq(e[2].label, "7")
		 eq(tostring(r), "recording(data of vm n1, 2 entries)") r:stop() eq(type(r:ended()), "string") r:close()`: "",
		`d:record({limit = "x"})`: "opts.limit: cannot parse size",
		`d:record({max = 1})`:     "unknown option `max`",
		`d:mark()`:                "argument 1 (label) must be a string or a number, got nil",
		`d:mark(("x"):rep(201))`:  "the label has 201 bytes (at most 200)",
		`d:mark("x")`:             "disk `data`: ",
		`d:record():mark({})`:     "argument 1 (label) must be a string or a number, got table",
		`d:record():save()`:       "argument 1 (path) must be a string",
		`d:load_recording()`:      "argument 1 (path) must be a string",
	})
}

func TestExplorationArguments(t *testing.T) {
	apitest.Check(t, host, withDisk, map[string]string{
		`d:crash_points()`:                                                   "argument 1 (opts) must be a table",
		`d:crash_points({})`:                                                 "opts.check is missing: a function(vm, disk, point)",
		`d:crash_points({chek = print})`:                                     "unknown option `chek`",
		`d:crash_points({check = 7})`:                                        "opts.check must be a function",
		`d:crash_points({check = print, workload = 7})`:                      "opts.workload must be a function",
		`d:crash_points({check = print, save = ""})`:                         "opts.save must not be empty",
		`d:crash_points({check = print, workload = print, recording = "x"})`: "opts.recording and opts.workload exclude each other",
		`d:crash_points({check = print, recording = 7})`:                     "opts.recording must be a recording, or the path of a saved one",
		`d:crash_points({check = print, recording = vm})`:                    "opts.recording must be a recording, or the path of a saved one",
		`d:crash_points({check = print, recording = ""})`:                    "opts.recording must not be empty",
		`local e = vm:attach_disk({size = "1M"}) d:crash_points({check = print, recording = e:record()})`: "opts.recording is of disk `attached-n1` of vm `n1`",
		`d:crash_points({check = print, limit = "x"})`:                                                    "opts.limit: cannot parse size",
		`d:crash_points({check = print, torn = 7})`:                                                       "opts.torn must be true or false",
		`d:crash_points({check = print, reorder = 7})`:                                                    "opts.reorder must be true or false",
		`d:crash_points({check = print, seed = "x"})`:                                                     "opts.seed must be an integer",
		`d:crash_points({check = print, unit = 0})`:                                                       "opts.unit must be between 1 and 1048576, got 0",
		`d:crash_points({check = print, sample = 0})`:                                                     "opts.sample must be between 1 and 1000000, got 0",
		`d:crash_points({check = print, only = {}})`:                                                      "opts.only must not be empty",
		`d:crash_points({check = print, only = {"x"}})`:                                                   "opts.only must hold integers, entry 1 is string",
		`d:crash_points({check = print, prepare = 7})`:                                                    "opts.prepare must be a function",
		`d:crash_points({check = print, raise = 7})`:                                                      "opts.raise must be true or false",
		`d:crash_points({check = print, guests = 65})`:                                                    "opts.guests must be between 1 and 64, got 65",
		`d:crash_points({check = print, stop_after = 0})`:                                                 "opts.stop_after must be between 1 and 1000000, got 0",
		`d:crash_points({check = print, guest = "old"})`:                                                  "opts.guest",
		`d:crash_points({check = print})`:                                                                 "disk `data` has no recording: give a workload, or call disk:record() before it",
		`d:crash_points({check = print, workload = function() error("no") end})`:                          "no",
		`d:crash_points({check = print, workload = function() end, only = 99})`:                           "opts.only: there is no point 99, the recording has",
		`d:sweep(7)`:            "argument 1 (opts) must be a table",
		`d:sweep({ops = "x"})`:  "unknown option `ops`",
		`d:sweep({op = "x"})`:   "opts.op",
		`d:sweep({sample = 0})`: "opts.sample must be between 1",
		`d:sweep({seed = "x"})`: "opts.seed must be an integer",
		`d:sweep({only = 0})`:   "opts.only must be at least 1, got 0",
		`d:sweep({only = "x"})`: "opts.only must be an integer",
		`d:sweep({guests = 0})`: "opts.guests must be between 1",
		`d:sweep()(7)`:          "disk:sweep: argument 1 (fn) must be a function",
	})
}

// A check sees each content that a power cut can leave.
func TestCrashPoints(t *testing.T) {
	apitest.Check(t, host, withDisk, map[string]string{
		`local seen = {}
		 local r = d:crash_points({check = function(vm, disk, p) seen[#seen + 1] = disk:read_sectors(0, 1):sub(1, 1) eq(p.entries, 3) end,
			workload = function(vm, disk) disk:mark("start") disk:write_sectors(0, ("a"):rep(512)) disk:write_sectors(0, ("b"):rep(512)) end})
		 eq(#r.failed, 0) eq(r.checked >= r.distinct, true) eq(#seen, r.distinct) eq(r.entries, 3) eq(r.seed, 7)`: "",
		`d:crash_points({check = function() return false, "bad content" end, workload = function(vm, disk) disk:write_sectors(0, block) end})`:                    "bad content",
		`d:crash_points({check = function() return false end, guest = "reuse", stop_after = 99, workload = function(vm, disk) disk:write_sectors(0, block) end})`: "it returned false",
		`local r = d:crash_points({check = function() error("raised") end, raise = false, guests = 1, workload = function(vm, disk) disk:write_sectors(0, block) end})
		 eq(#r.failed, 1) eq(r.failed[1].error:find("raised") ~= nil, true) eq(r.failed[1].number > 0, true)`: "",
		`local prepared = 0
		 d:crash_points({check = function() end, prepare = function() prepared = prepared + 1 end, only = 1, save = "/no/such/dir", workload = function() end})
		 eq(prepared, 1)`: "",
		`d:crash_points({check = function() error("raised") end, save = "/no/such/dir/x", workload = function(vm, disk) disk:write_sectors(0, block) end})`: "/no/such/dir",
	})
}

// A run is repeated with each of its requests failing.
func TestSweep(t *testing.T) {
	write := `local function run(vm, disk, n) disk:write_sectors(0, block) disk:write_sectors(1, block) end `
	apitest.Check(t, host, withDisk+write, map[string]string{
		`local r = d:sweep()(run) eq(r.requests >= 0, true) eq(#r.failed, 0)`: "",
		`d:sweep()(function() error("early") end)`:                            "the run without a fault failed: ",
		`local r = d:sweep({only = {1, 2}, sample = 1, raise = false, guest = "reuse", stop_after = 9})(function(vm, disk, n) if n > 0 then error("in " .. n) end end)
		 eq(r.runs, 2) eq(#r.failed, 2) eq(r.failed[1].number, 1)`: "",
		`d:sweep({only = 3})(function(vm, disk, n) if n > 0 then return false, "bad" end end)`: "1 of 1 runs failed, each with one of 0 requests (write) failing",
	})
}

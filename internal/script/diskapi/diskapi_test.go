package diskapi_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/script/apitest"
	"provium/internal/script/binding"
)

func fakeHost(t testing.TB) *lab.Host {
	f := fakemachine.New(t)
	f.Prepare(func(m *fakemachine.Machine) { addDevice(t, m) })
	return &lab.Host{File: "x.test.lua", ConfigPath: "provium.toml", TempDir: t.TempDir(), Starter: f, Images: f,
		Seed:     7,
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}},
		Warn:     func(format string, args ...any) { t.Errorf("warning: "+format, args...) }}
}

// addDevice makes a guest look as if it had the disk `d`.
func addDevice(t testing.TB, m *fakemachine.Machine) {
	for _, dir := range []string{"/sys/block/vda", "/proc/self"} {
		if err := m.Files.MkdirAll(dir); err != nil {
			t.Error(err)
		}
	}
	for name, content := range map[string]string{"/sys/block/vda/serial": "d", "/sys/block/vda/dev": "254:0\n",
		"/dev/vda": "", "/proc/self/mountinfo": ""} {
		if err := m.Files.Write(name, []byte(content)); err != nil {
			t.Error(err)
		}
	}
	for _, nr := range []int64{syscall.SYS_OPEN, syscall.SYS_IOCTL, syscall.SYS_CLOSE} {
		m.OnSyscall(nr, func(context.Context, *fakemachine.Syscall) (int64, uint32) { return 0, 0 })
	}
}

// prefix declares a VM and attaches a disk of 1 MiB to it.
const prefix = `
local function eq(x, y) if x ~= y then error(tostring(x) .. " ~= " .. tostring(y), 2) end end
local vm = provium:vm("a", "host")
local d = vm:attach_disk({id = "d", size = "1M"})
local A, B, ZERO = ("A"):rep(512), ("B"):rep(512), ("\0"):rep(512)
`

func TestDisk(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`eq(d:id(), "d") eq(d:size(), 1 << 20) eq(tostring(d), "disk(d of vm a)") eq(vm:disk("d"), d)`: "",

		`d:write_sectors(3, A .. B) eq(d:read_sectors(3, 2), A .. B) eq(d:read_sectors(2, 1), ZERO)`: "",

		`eq(d:is_detached(), false) d:detach() eq(d:is_detached(), true)`: "",

		`eq(provium:vm("b", "host"):attach_disk():size(), 4 << 30)`: "",

		`eq(provium:vm("b", "host"):attach_disk({discard = false, write_cache = false,
		   readonly = true}):id(), "attached-b")`: "",

		`vm:boot() d:write_sectors(0, A) eq(d:read_sectors(0, 1, {pending = true}), A)`: "",

		`provium:vm("b", "host"):boot({disks = {{scratch = "1M", id = "x", logical_block_size = 4096,
			physical_block_size = 4096, mediated = true}}})`: "",

		`vm:disk(1)`:      "vm:disk: argument 1 (id) must be a string, got number",
		`vm:disk("none")`: "vm:disk: ",
		`vm:attach_disk({id = "d", size = "1M"})`:       "vm:attach_disk: ",
		`vm:attach_disk({id = ""})`:                     "opts.id",
		`vm:attach_disk({id = 1})`:                      "opts.id must be a string, got number",
		`vm:attach_disk({size = "1000"})`:               "opts.size: cannot parse size `1000`",
		`vm:attach_disk({size = 1000})`:                 "opts.size must be a multiple of 512",
		`vm:attach_disk({image = ""})`:                  "opts.image must not be empty",
		`vm:attach_disk({image = "/none.raw"})`:         "/none.raw",
		`vm:attach_disk({template = 1})`:                "opts.template must be a string",
		`vm:attach_disk({image = "x", template = "y"})`: "opts.template and image exclude each other",
		`vm:attach_disk({readonly = 1})`:                "opts.readonly must be true or false, got number",
		`vm:attach_disk({format = "raw"})`:              "opts.format has no meaning without an image",
		`vm:attach_disk({format = "zip", image = "x"})`: "opts.format must be one of",
		`vm:attach_disk({format = 1})`:                  "opts.format must be a string",
		`vm:attach_disk({logical_block_size = 1024})`:   "opts.logical_block_size must be 512 or 4096, got 1024",
		`vm:attach_disk({physical_block_size = "x"})`:   "opts.physical_block_size must be an integer",
		`vm:attach_disk({discard = 1})`:                 "opts.discard must be true or false",
		`vm:attach_disk({write_cache = 1})`:             "opts.write_cache must be true or false",

		`vm:attach_disk({logical_block_size = 4096, physical_block_size = 512})`: "opts: ",

		`vm:attach_disk({logical_block_size = 4096, size = 512})`: "bytes is no multiple of logical_block_size 4096",

		`vm:attach_disk({speed = 1})`: "unknown option `speed`",
		`vm:attach_disk(1)`:           "argument 1 (opts) must be a table, got number",

		`d:read_sectors("0", 1)`:              "disk:read_sectors: argument 1 (offset) must be an integer, got string",
		`d:read_sectors(0.5, 1)`:              "argument 1 (offset) must be an integer, got 0.5",
		`d:read_sectors(0)`:                   "argument 2 (n) must be an integer, got nil",
		`d:read_sectors(0, 1 << 40)`:          "1099511627776 sectors are too many for one read",
		`d:read_sectors(0, 1, {x = 1})`:       "unknown option `x`",
		`d:read_sectors(0, 1, {pending = 1})`: "opts.pending must be true or false",
		`d:read_sectors(5000, 1)`:             "disk:read_sectors: ",
		`d:write_sectors(0, 5)`:               "argument 2 (data) must be a string, got number",
		`d:write_sectors({}, A)`:              "argument 1 (offset) must be an integer, got table",
		`d:write_sectors(5000, A)`:            "disk:write_sectors: ",
	})
}

func TestBootDisks(t *testing.T) {
	boot := func(disks string) string { return `provium:vm("b", "host"):boot({disks = ` + disks + `})` }
	apitest.Check(t, fakeHost, prefix, map[string]string{
		boot(`5`):                                  "opts.disks must be an array of tables, got number",
		boot(`{x = 1}`):                            "opts.disks must be an array, it has the key `x`",
		boot(`{1}`):                                "disks[1] must be a table {path=}, {scratch=} or {template=}, got",
		boot(`{{}}`):                               "exactly one of path, scratch and template is needed, none is",
		boot(`{{path = "x", scratch = "1M"}}`):     "given are path and scratch",
		boot(`{{scratch = "1M"}, {size = 1}}`):     "opts.disks[2]: unknown option `size`",
		boot(`{{path = ""}}`):                      "opts.path must not be empty",
		boot(`{{template = 1}}`):                   "opts.template must be a string",
		boot(`{{scratch = 100}}`):                  "opts.scratch must be a multiple of 512",
		boot(`{{scratch = "1M", id = "a/b"}}`):     "opts.id",
		boot(`{{scratch = "1M", mediated = 1}}`):   "opts.mediated must be true or false",
		boot(`{{scratch = "1M", readonly = 1}}`):   "opts.readonly must be true or false",
		boot(`{{scratch = "1M", format = "raw"}}`): "opts.format has no meaning without an image",
		boot(`{{path = "none.raw"}}`):              "none.raw",

		`vm:boot({disks = {{scratch = "1M", id = "e"}}}) eq(vm:disk("e"):size(), 1 << 20)`: "",
	})
}

func TestFaults(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`d:fault_inject("eio_read") eq(d:active_faults()[1], "eio_read") ` +
			`d:clear_faults() eq(#d:active_faults(), 0)`: "",

		`d:fail_reads() d:fail_writes() d:fail_after(3) d:delay(1.5) d:fail_range(5, 2) d:fail_range(9, 1)
		 local p = d:fault_policy() eq(p.fail_reads, true) eq(p.fail_writes, true) eq(p.fail_after, 3) eq(p.delay, 1.5)
		 eq(#p.fail_range, 2) eq(p.fail_range[1].sector, 5) eq(p.fail_range[1].count, 2)
		 d:clear_policy() eq(next(d:fault_policy()), nil)`: "",
		`d:delay(2) eq(d:fault_policy().delay, 2.0)`: "",

		`d:fault_inject(1)`:            "disk:fault_inject: argument 1 (mode) must be a string, got number",
		`d:fault_inject("melt")`:       "melt",
		`d:fail_after(0)`:              "n must be at least 1, got 0",
		`d:fail_after("x")`:            "argument 1 (n) must be an integer, got string",
		`d:fail_range(1)`:              "argument 2 (count) must be an integer, got nil",
		`d:fail_range("1", 1)`:         "argument 1 (sector) must be an integer, got string",
		`d:fail_range(1, 0)`:           "count must be at least 1, got 0",
		`d:delay("1")`:                 "argument 1 (ms) must be a number of milliseconds, got string",
		`d:delay(-1)`:                  "ms must be between 0 and",
		`d:delay(0/0)`:                 "ms must be between 0 and",
		`d:detach() d:fail_reads()`:    "disk:fail_reads: ",
		`d:detach() d:active_faults()`: "disk:active_faults: ",
		`d:detach() d:fault_policy()`:  "disk:fault_policy: ",
	})
}

func TestRules(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`local id = d:inject{op = "read", sectors = {8, 2}, errno = "EIO", count = 2, probability = 1, seed = 4,
		   delay = "1ms"}
		 local r = d:rules()[1] eq(r.id, id) eq(r.op, "read") eq(r.sectors[1], 8) eq(r.sectors[2], 2) eq(r.errno, "EIO")
		 eq(r.count, 2) eq(r.probability, 1.0) eq(r.seed, 4) eq(r.delay, 0.001) eq(r.hits, 0) eq(r.effect, nil)
		 eq(pcall(d.read_sectors, d, 8, 1), false) eq(d:rules()[1].hits, 1) d:clear_rule(id) eq(#d:rules(), 0)`: "",

		`d:inject{op = "write", sectors = 5, effect = "lose"} eq(d:rules()[1].effect, "lose")
		 d:clear_rules() eq(#d:rules(), 0)`: "",

		`d:inject()`:                           "disk:inject: argument 1 (opts) must be a table, got nil",
		`d:inject{x = 1}`:                      "unknown option `x`",
		`d:inject{op = 1}`:                     "opts.op must be a string",
		`d:inject{op = "melt"}`:                "melt",
		`d:inject{sectors = "x"}`:              "opts.sectors must be a sector or {first, count}, got string",
		`d:inject{sectors = {1}}`:              "opts.sectors must be a sector or {first, count}",
		`d:inject{sectors = {1, "x"}}`:         "opts.sectors must be a sector or {first, count}, got {1, x}",
		`d:inject{sectors = {1, 0}}`:           "opts.sectors must have a count of at least 1, got 0",
		`d:inject{errno = 5}`:                  "opts.errno must be a string",
		`d:inject{errno = ""}`:                 "errno and effect must not be empty",
		`d:inject{effect = 5}`:                 "opts.effect must be a string",
		`d:inject{effect = ""}`:                "errno and effect must not be empty",
		`d:inject{effect = "melt"}`:            "melt",
		`d:inject{probability = "x"}`:          "opts.probability must be a number, got string",
		`d:inject{probability = 0}`:            "opts.probability must be more than 0 and at most 1, got 0",
		`d:inject{probability = 1.5}`:          "opts.probability must be more than 0 and at most 1, got 1.5",
		`d:inject{count = 0}`:                  "opts.count must be at least 1, got 0",
		`d:inject{count = "x"}`:                "opts.count must be an integer",
		`d:inject{delay = 0}`:                  "opts.delay must be more than 0 and at most",
		`d:inject{delay = "x"}`:                "opts.delay: duration: cannot parse",
		`d:inject{seed = "x"}`:                 "opts.seed must be an integer",
		`d:clear_rule("x")`:                    "argument 1 (id) must be an integer, got string",
		`d:clear_rule(5)`:                      "disk:clear_rule: ",
		`d:detach() d:rules()`:                 "disk:rules: ",
		`d:resize("2M") eq(d:size(), 2 << 20)`: "",
		`d:resize("x")`:                        "argument 1 (size): cannot parse size `x`",
		`d:resize(1000)`:                       "argument 1 (size) must be a multiple of 512, got 1000",
		`d:write_sectors(0, A) d:export("x.raw") local e = provium:vm("b", "host"):attach_disk({template = "x.raw"})
		 eq(e:size(), 1 << 20) eq(e:read_sectors(0, 1), A)`: "",
		`d:export()`:                   "argument 1 (path) must be a string, got nil",
		`d:export("x", {x = 1})`:       "unknown option `x`",
		`d:export("x", {pending = 1})`: "opts.pending must be true or false",
		`d:export("/none/x.raw")`:      "/none/x.raw",
	})
}

func TestPowerCut(t *testing.T) {
	apitest.Check(t, fakeHost, prefix+`vm:boot() `, map[string]string{
		`d:write_sectors(0, A) local r = d:power_cut({keep = "all", torn = true}) eq(r.keep, "all") eq(r.seed, 7)
		 eq(r.unflushed, 0)
		 eq(r.kept, 0) eq(r.torn, 0) eq(r.sectors, 0) d:power_on()`: "",

		`eq(d:power_cut({keep = "prefix", count = 2, seed = 3}).seed, 3)`: "",

		`eq(d:power_cut().keep, "none")`: "",

		`d:power_cut({keep = "some"})`:                "opts.keep `some` is unknown (valid: ",
		`d:power_cut({seed = "x"})`:                   "opts.seed must be an integer",
		`d:power_cut({count = 1})`:                    `opts.count is for keep = "prefix"`,
		`d:power_cut({keep = "prefix", count = -1})`:  "opts.count must not be negative, got -1",
		`d:power_cut({keep = "prefix", count = "x"})`: "opts.count must be an integer",
		`d:power_cut({torn = 1})`:                     "opts.torn must be true or false",
		`d:power_cut({off = "x"})`:                    "opts.off must be true or false",
		`d:power_cut() d:write_sectors(0, A) eq(d:read_sectors(0, 1), A) d:record():stop()`: "",
		`d:power_cut({off = true}) local ok, e = pcall(d.read_sectors, d, 0, 1)
		 assert(not ok and tostring(e):find("disk:read_sectors: EIO (power_cut)", 1, true), e)
		 d:power_on() eq(#d:read_sectors(0, 1), 512)`: "",
		`d:power_cut({off = true}) d:write_sectors(0, A)`:       "disk:write_sectors: EIO (power_cut)",
		`d:power_cut({off = true}) d:record()`:                  "no power: call disk:power_on() or reset the VM",
		`d:power_cut({x = 1})`:                                  "unknown option `x`",
		`d:power_cut() d:power_cut() d:power_on() d:power_on()`: "",
	})
}

func TestRecording(t *testing.T) {
	apitest.Check(t, fakeHost, prefix+`vm:boot() `, map[string]string{
		`local r = d:record({limit = "1M"}) d:mark("x") d:write_sectors(4, A) r:mark(5) r:mark(0.5) eq(r:ended(), nil)
		 eq(tostring(r), "recording(d of vm a, 4 entries)") eq(r:count(), 4) eq(r:bytes(), 512)
		 local e = r:entries() eq(e[1].kind, "mark") eq(e[1].label, "x") eq(e[2].kind, "write") eq(e[2].sector, 4)
		 eq(e[2].count, 1) eq(e[2].fua, true) eq(e[3].label, "5") eq(e[4].label, "0.5")
		 r:stop() eq(r:ended(), "it was stopped") r:save("x.rec") r:close()
		 eq(d:load_recording("x.rec"):count(), 4)`: "",

		`d:record({limit = 0})`:  "opts.limit: size must be positive",
		`d:record({x = 1})`:      "unknown option `x`",
		`d:record() d:record()`:  "disk:record: ",
		`d:mark("x")`:            "disk:mark: disk `d`: ",
		`d:mark({})`:             "argument 1 (label) must be a string or a number, got table",
		`d:mark(("x"):rep(201))`: "the label has 201 bytes (at most 200)",

		`d:record():mark()`: "recording:mark: argument 1 (label) must be a string or a number",

		`local r = d:record() r:stop() r:mark("x")`:       "recording:mark: ",
		`d:record():save()`:                               "argument 1 (path) must be a string, got nil",
		`local r = d:record() r:stop() r:save("/none/x")`: "recording:save: ",
		`d:load_recording()`:                              "argument 1 (path) must be a string, got nil",
		`d:load_recording("none.rec")`:                    "none.rec",
	})
}

// explore declares a function which runs an exploration, by default of two writes with a mark
// between them.
const explore = `vm:boot()
local seen = {}
local function explore(opts)
  opts.workload = opts.workload or not opts.recording and function(vm, d)
    d:write_sectors(0, A) d:mark("first") d:write_sectors(1, B)
  end or nil
  return d:crash_points(opts)
end
`

func TestCrashPoints(t *testing.T) {
	apitest.Check(t, fakeHost, prefix+explore, map[string]string{
		`local prepared
		 local r = explore{prepare = function(vm, d) prepared = d:id() end, check = function(vm, d, p)
		   eq(d:read_sectors(0, 1), p.number >= 2 and A or ZERO) eq(d:read_sectors(1, 1), p.number >= 4 and B or ZERO)
		   eq(p.kind, "none") eq(p.at, p.number - 1) eq(p.entries, 3) eq(p.unflushed, 0) eq(p.kept, 0)
		   eq(p.mark, p.number >= 3 and "first" or nil)
		   eq(#p.marks, p.number >= 3 and 1 or 0) assert(p.text:find("cut after entry"))
		   seen[p.number] = true
		 end}
		 eq(prepared, "d") eq(#seen, 4) eq(r.points, 4) eq(r.checked, 4) eq(r.distinct, 4) eq(r.rechecked, 0) eq(r.entries, 3)
		 eq(r.seed, 7) eq(#r.failed, 0)`: "",
		// Every way of failing, in guests that are fresh and in ones that are reused.
		`local r = explore{guests = 1, raise = false, stop_after = 9, check = function(vm, d, p)
		   if p.number == 1 then return false elseif p.number == 2 then return false, "no good"
		   elseif p.number == 3 then error("bad") end
		 end}
		 eq(#r.failed, 3) eq(r.failed[1].error, "it returned false") eq(r.failed[2].error, "no good")
		 assert(r.failed[3].error:find("bad")) eq(r.failed[3].number, 3) eq(r.failed[3].mark, "first")`: "",
		`local r = explore{guest = "reuse", guests = 1, raise = false, check = function(vm, d, p)
		   local before = seen[p.number] seen[p.number] = true return p.number ~= 2 or before == true
		 end} eq(r.rechecked, 1) eq(#r.failed, 0)`: "",
		`local r = explore{only = {4, 2}, check = function(vm, d, p) seen[#seen + 1] = p.number end}
		 eq(table.concat(seen, " "), "4 2") eq(r.checked, 2)`: "",
		`local r = explore{sample = 2, seed = 5, torn = true, reorder = false, unit = 8, limit = "1M", check = function() end}
		 eq(r.checked, 2) eq(r.seed, 5)`: "",
		`local rec = d:record() d:write_sectors(0, A) rec:stop()
		 eq(explore{recording = rec, check = function() end}.points, 2)
		 rec:save("x.rec") eq(explore{recording = "x.rec", check = function() end}.points, 2)`: "",

		`local rec = d:record() d:write_sectors(0, A) rec:stop() ` +
			`eq(d:crash_points{check = function() end}.points, 2)`: "",

		`explore{check = function() return false end, stop_after = 2}`: "disk:crash_points: 2 of 2 checked points " +
			"failed" +

			" (the recording has 4 points; seed 7)\n  point 1: ",
		`explore{check = function() error("x") end}`: "alone, on the same recording, which {save = PATH} keeps",
		`pcall(explore, {check = function() error("x") end, save = "x.rec"})
		 explore{recording = "x.rec", check = function() error("x") end}`: "{only = 1} looks at the first one alone",
		`explore{check = function() error("x") end, save = "x.rec"}`: `{recording = "x.rec", only = 1} looks at`,
		`d:crash_points{check = function() end, workload = function() for i = 1, 15 do d:write_sectors(i, A) end end}
		 d:crash_points{check = function() return false end, stop_after = 100}`: "\n  and 6 more",

		`d:crash_points()`:                     "argument 1 (opts) must be a table, got nil",
		`d:crash_points{x = 1}`:                "unknown option `x`",
		`d:crash_points{}`:                     "opts.check is missing",
		`d:crash_points{check = 1}`:            "opts.check must be a function, got number",
		`d:crash_points{check = print}`:        "disk `d` has no recording",
		`explore{check = print, workload = 1}`: "opts.workload must be a function",
		`explore{check = print, save = ""}`:    "opts.save must not be empty",

		`explore{check = print, workload = print, recording = "x"}`: "and opts.workload exclude each other",

		`explore{check = print, recording = 1}`: "opts.recording must be a recording, or the path of a saved one",

		`explore{check = print, recording = d}`: "must be a recording, or the path of a saved one, got disk",

		`explore{check = print, recording = ""}`:         "opts.recording must not be empty",
		`explore{check = print, recording = "none.rec"}`: "none.rec",
		`local e = vm:attach_disk({id = "e", size = "1M"}) local r = e:record() r:stop()
		 explore{check = print, recording = r}`: "opts.recording is of disk `e` of vm `a`",
		`explore{check = print, limit = "x"}`:    "opts.limit: cannot parse size",
		`explore{check = print, torn = 1}`:       "opts.torn must be true or false",
		`explore{check = print, reorder = 1}`:    "opts.reorder must be true or false",
		`explore{check = print, seed = 0.5}`:     "opts.seed must be an integer, got 0.5",
		`explore{check = print, unit = 0}`:       "opts.unit must be between 1 and 1048576, got 0",
		`explore{check = print, sample = 0}`:     "opts.sample must be between 1 and 1000000, got 0",
		`explore{check = print, only = {}}`:      "opts.only must not be empty",
		`explore{check = print, only = 5}`:       "there is no point 5, the recording has 4",
		`explore{check = print, prepare = 1}`:    "opts.prepare must be a function",
		`explore{check = print, raise = 1}`:      "opts.raise must be true or false",
		`explore{check = print, guests = 65}`:    "opts.guests must be between 1 and 64, got 65",
		`explore{check = print, stop_after = 0}`: "opts.stop_after must be between 1 and 1000000, got 0",
		`explore{check = print, guest = "old"}`:  "opts.guest `old` is unknown (valid: fresh, reuse)",

		`explore{check = print, workload = function() error("work") end}`: "work",

		`explore{check = print, prepare = function() error("prepared") end}`: "prepared",
	})
}

// TestSweep has runs without requests of a guest, since a fake one makes none.
func TestSweep(t *testing.T) {
	apitest.Check(t, fakeHost, prefix+`vm:boot() d:write_sectors(0, A) `, map[string]string{
		`local r = d:sweep{op = "read"}(function(vm, d, n) eq(n, 0) eq(d:id(), "d") eq(d:read_sectors(0, 1), A) end)
		 eq(r.requests, 0) eq(r.runs, 0) eq(r.missed, 0) eq(#r.failed, 0)`: "",
		`local seen = {} local r = d:sweep{only = {3, 1}, guests = 1}(function(vm, d, n) seen[#seen + 1] = n end)
		 eq(table.concat(seen, " "), "0 3 1") eq(r.runs, 2) eq(r.missed, 2)`: "",
		`local r = d:sweep{only = {3, 1}, raise = false, stop_after = 5, guest = "reuse"}(
		   function(vm, d, n) return n == 0 end)
		 eq(#r.failed, 2) eq(r.failed[1].number, 1) eq(r.failed[1].error, "it returned false")
		 eq(r.failed[1].request, nil)`: "",
		`local only = {} for i = 1, 12 do only[i] = i end
		 d:sweep{only = only, stop_after = 50}(function(vm, d, n) return n == 0 end)`: "\n  and 2 more",

		`d:sweep{only = 2}(function(vm, d, n) if n == 2 then error("broken") end end)`: "disk:sweep: 1 of 1 runs " +
			"failed," +

			" each with one of 0 requests (write) failing\n  request 2 (there were fewer requests, none failed):",
		`d:sweep()(function() return false, "at once" end)`: "disk:sweep: the run without a fault failed: at once",
		`d:sweep()()`:                 "disk:sweep: argument 1 (fn) must be a function, got nil",
		`d:sweep(1)`:                  "argument 1 (opts) must be a table, got number",
		`d:sweep{x = 1}`:              "unknown option `x`",
		`d:sweep{op = "melt"}`:        "opts.op `melt` is unknown (valid: ",
		`d:sweep{sample = 0}`:         "opts.sample must be between",
		`d:sweep{seed = "x"}`:         "opts.seed must be an integer",
		`d:sweep{only = "x"}`:         "opts.only must be an integer",
		`d:sweep{only = 0}`:           "opts.only must be at least 1, got 0",
		`d:sweep{guests = 0}`:         "opts.guests must be between",
		`d:detach() d:sweep()(print)`: "disk:sweep: ",
	})
}

// TestIdle calls explorations outside of a test.
func TestIdle(t *testing.T) {
	s := apitest.New(t, fakeHost(t))
	if err := s.Run(prefix + `provium.kept = d provium.swept = d:sweep()`); err != nil {
		t.Fatal(err)
	}
	s.Idle = true
	for _, source := range []string{
		`provium.kept:crash_points{check = print}`, `provium.swept(print)`, `provium.kept:fail_reads()`,
	} {
		if err := s.Run(source); err == nil || !strings.Contains(err.Error(), binding.ErrIdle.Error()) {
			t.Errorf("%s: %v", source, err)
		}
	}
	s.Idle = false
}

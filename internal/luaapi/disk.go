package luaapi

import "slices"

// diskModel are the options that say what an image is and how a disk presents itself.
func diskModel() []Option {
	return []Option{
		opt("format", "string", "detected", "of the image: raw, qcow2, vhd, vhdx or vmdk"),
		opt("logical_block_size", "integer", "512", "512 or 4096 bytes"),
		opt("physical_block_size", "integer", "logical_block_size", "512 or 4096 bytes"),
		opt("discard", "boolean", "true", "the guest can discard"),
		opt("write_cache", "boolean", "true", "the disk reports a volatile write cache"),
		opt("bus", "string", `"virtio-blk"`, `"virtio-scsi" or "nvme"`),
	}
}

func bootDiskOptions() []Option {
	return append([]Option{
		opt("path", "path", "", "an image that is used in place"),
		opt("scratch", "size", "", "the disk is blank, of that size"),
		opt("template", "path", "", "an image of which the disk is a private copy"),
		opt("id", "string", "boot0, boot1, ...", "name within the VM"),
		opt("readonly", "boolean", "false", "the guest cannot write"),
		opt("mediated", "boolean", "", "has no effect: every disk can be faulted"),
	}, diskModel()...)
}

func attachDiskOptions() detail {
	return options(append([]Option{
		opt("id", "string", "attached-VM", "name within the VM"),
		opt("size", "size", `"4G"`, "of a blank disk"),
		opt("image", "path", "", "an image that is used in place"),
		opt("template", "path", "", "an image of which the disk is a private copy"),
		opt("readonly", "boolean", "false", "the guest cannot write"),
	}, diskModel()...)...)
}

// checkerOptions are those of crash_points and sweep.
func checkerOptions() []Option {
	return []Option{
		opt("prepare", "fun(vm: vm, disk: disk)", "", "runs once in a guest, before the first check"),
		opt("guests", "integer", "2", "how many guests check side by side"),
		opt("guest", "string", `"fresh"`, `"reuse": guests go on from one content to the next`),
		opt("stop_after", "integer", "1", "how many failures are enough"),
		opt("raise", "boolean", "true", "failures fail the test"),
	}
}

func diskClasses() []Class {
	pending := options(opt("pending", "boolean", "false", "as the guest sees it, with what was not flushed"))
	return []Class{{
		Name: "disk", Kind: Handle, Title: "Disks", Page: "disks.md",
		Text: "A virtio block device of a VM. Sectors have 512 bytes.",
		Methods: slices.Concat([]Function{
			fn("id() -> string", "Returns its name within the VM."),
			fn("size() -> integer", "Returns its size in bytes."),
			fn("is_detached() -> boolean", "Reports whether it was detached."),
			fn("detach()", "Unplugs the disk and makes permanent what was written."),
			fn("read_sectors(first: integer, n: integer, opts?: options) -> string",
				"Returns sectors as they are on the medium.", pending),
			fn("write_sectors(first: integer, data: string)", "Writes data of any length to the medium."),
			fn("resize(size: size)", "Makes the disk longer, and tells a running guest."),
			fn("export(path: path, opts?: options)", "Writes the medium to a raw file of the host.", pending),
		}, faultMethods(), crashMethods()),
	}, {
		Name: "recording", Kind: Handle, Title: "Recordings", Page: "disks.md#recording-what-is-written",
		Text: "What `disk:record()` returns: a log of writes and flushes.",
		Methods: []Function{
			fn("stop()", "Ends the recording."),
			fn("save(path: path)", "Saves a recording that has ended to a file of the host."),
			fn("close()", "Deletes its data."),
			fn("mark(label: string|number)", "Adds a mark: everything before it was done by now."),
			fn("count() -> integer", "Returns the number of entries."),
			fn("bytes() -> integer", "Returns the number of bytes of data."),
			fn("ended() -> string|nil", "Returns why it ended, nil while it goes on."),
			fn("entries() -> record_entry[]", "Returns what was recorded, in order."),
		},
	}}
}

func faultMethods() []Function {
	return []Function{
		fn("fault_inject(mode: string)",
			`Adds a mode: "eio_read", "eio_write" or "slow" (each request waits 50 ms).`),
		fn("clear_faults()", "Ends all modes."),
		fn("active_faults() -> string[]", "Returns the sorted names of the modes."),
		fn("fail_reads()", "All reads fail."),
		fn("fail_writes()", "All writes and flushes fail."),
		fn("fail_after(n: integer)", "n more requests pass, all later ones fail."),
		fn("fail_range(sector: integer, count: integer)",
			"Requests that touch one of the sectors fail. Ranges add up."),
		fn("delay(ms: number)", "Each request waits so many milliseconds."),
		fn("clear_policy()", "Ends what fail_reads, fail_writes, fail_after, fail_range and delay have set."),
		fn("fault_policy() -> table", "Returns what these have set, by method name."),
		fn("inject(opts: options) -> integer", "Adds a rule about some requests and returns its number.", options(
			opt("op", "string", `"any"`, `"read", "write", "discard", "flush" or "any"`),
			opt("sectors", "integer|integer[]", "all", "a sector, or {first, count}"),
			opt("errno", "string", "", `the request fails, for instance with "ENOSPC"`),
			opt("effect", "string", "", `"corrupt", "misdirect", "torn" or "lose": what happens silently`),
			opt("probability", "number", "1", "how likely a matching request is hit"),
			opt("count", "integer", "", "the rule hits at most so many requests"),
			opt("delay", "duration", "", "the request waits so long first"),
			opt("seed", "integer", "of run, file, VM and disk", "seed of random choices")),
			example(`local rule = d:inject{op = "write", sectors = {2048, 8}, errno = "EIO", count = 1}`)),
		fn("rules() -> disk_rule[]", "Returns the rules in force."),
		fn("clear_rule(id: integer)", "Removes a rule."),
		fn("clear_rules()", "Removes all rules."),
	}
}

func crashMethods() []Function {
	return []Function{
		fn("power_cut(opts?: options) -> power_cut_result", "Loses what was not flushed, or some of it.", options(
			opt("keep", "string", `"none"`, `what is kept: "none", "all", "prefix" or "random"`),
			opt("seed", "integer", "that of the run", "seed of random choices"),
			opt("count", "integer", "by the seed", `with "prefix": how many writes`),
			opt("torn", "boolean", "false", "writes may be kept in part"),
			opt("off", "boolean", "false", "the disk has no power afterwards"))),
		fn("power_on()", "Ends a power cut with off = true."),
		fn("record(opts?: options) -> recording", "Starts a log of writes and flushes.", options(
			opt("limit", "size", `"8G"`, "most bytes of data"))),
		fn("mark(label: string|number)", "Adds a mark to the recording: everything before it was done by now."),
		fn("load_recording(path: path) -> recording", "Returns a recording that was saved."),
		fn("crash_points(opts: options) -> crash_report",
			"Runs a check on each state that a power cut could have left.", options(append([]Option{
				opt("check", "fun(vm: vm, disk: disk, point: crash_point)", "",
					"raises, or returns false, where the content is not good"),
				opt("workload", "fun(vm: vm, disk: disk)", "", "is recorded"),
				opt("recording", "recording|string", "the latest", "a recording, or the path of a saved one"),
				opt("save", "path", "", "the recording is saved there when points fail"),
				opt("limit", "size", `"8G"`, "of the recording"),
				opt("sample", "integer", "200", "how many points are checked"),
				opt("seed", "integer", "that of the run", "seed of random choices"),
				opt("torn", "boolean", "false", "writes can be kept in part"),
				opt("reorder", "boolean", "true", "later writes can be kept without earlier ones"),
				opt("unit", "integer", "1", "how many sectors are never torn apart"),
				opt("only", "integer|integer[]", "all", "numbers of points")}, checkerOptions()...)...),
			example(`
data:crash_points{
  workload = function(vm, disk) vm:run("store 1"):assert_ok() disk:mark(1) end,
  check = function(vm, disk, point) vm:run("verify " .. (point.mark or 0)):assert_ok() end,
}`)),
		fn("sweep(opts?: options) -> function",
			"Returns a function that calls a function once for each request, with that request failing.",
			options(append([]Option{
				opt("op", "string", `"write"`, `requests that fail: "read", "write", "flush" or "any"`),
				opt("sample", "integer", "all", "how many requests fail"),
				opt("seed", "integer", "that of the run", "which requests are in the sample"),
				opt("only", "integer|integer[]", "all", "numbers of requests")}, checkerOptions()...)...),
			example(`data:sweep{op = "write"}(function(vm, disk, n) vm:run("store 1") end)`)),
	}
}

package luaapi

// bootOptions are the keys of boot opts.
func bootOptions() detail {
	return options(
		opt("memory", "size", `"512M"`, "memory of the guest"),
		opt("cpus", "integer", "1", "number of vCPUs"),
		opt("kernel_cmdline", "string", "that of the profile", "kernel command line"),
		opt("kernel_cmdline_append", "string", "", "goes to the end of the kernel command line"),
		opt("rng_seed", "integer", "", "fixes the byte stream of the virtio-rng device"),
		opt("initial_time", "number", "now", "wall clock at the start, in seconds since 1970"),
		opt("agent_timeout", "duration", "30, 120 under TCG", "how long the agent may take to answer"),
		opt("files", "table[]", "", "files that the guest finds when it boots",
			opt("path", "string", "", "absolute path"),
			opt("content", "string", "", "contents"),
			opt("mode", "mode", "0644", "permission bits")),
		opt("cold", "boolean", "false", "skips the boot cache"),
		opt("disks", "table[]", "", "disks, after those of the profile", bootDiskOptions()...),
		opt("cpu_topology", "table", "flat",
			"{sockets=, cores=, threads=}: how the vCPUs are divided; their number follows from it"),
		opt("firmware", "string", "that of the profile", `"bios" or "uefi"`),
		opt("boot_from", "string", "that of the profile",
			`"kernel": the profile's; "disk": what the firmware finds on the first disk`),
		opt("display", "boolean", "that of the profile", "a VGA adapter, for vm:screen()"),
		opt("tpm", "boolean", "that of the profile", "a TPM 2.0"),
		opt("qemu_args", "string[]", "", "further arguments for QEMU, after those of the profile; not cached"),
		opt("deterministic", "boolean", "that of the profile, or --deterministic",
			"the guest does the same in each run with the same seed"),
		opt("expect_panic", "boolean", "false", "a panic does not end the guest"),
		opt("wait", "string", `"agent"`, `what boot waits for: "agent", "none", "init", "systemd", "console:TEXT" or `+
			`"command:CMD"; the default is the profile's ready`))
}

func labClass() Class {
	return Class{
		Name: "lab", Kind: Handle, Title: "Labs", Page: "lua-api.md#labs",
		Text: "A lab has VMs, bridges and other labs. `provium` is the lab of the running test, or of the file " +
			"outside of tests. `lab.NAME` is a member, or nil.",
		Fields: []Option{
			field("timeout", "duration", "Of `provium` alone: limit of tests without one; 0 for no limit."),
			field("reset_between_tests", "boolean",
				"Of `provium` alone, at file scope: each test starts from the state that the chunk has made."),
		},
		Methods: []Function{
			fn("vm(name: string, profile?: string, opts?: options) -> vm",
				"Declares a VM with a profile of provium.toml. Without a profile it returns the declared VM of that "+
					"name.",
				bootOptions(), example(`local vm = provium:vm("n1", "host", {memory = "1G", cpus = 2}):boot()`)),
			fn("lab(name?: string) -> lab",
				"Returns the sub-lab of that name, and makes it when absent. Without a name it makes a new one."),
			fn("bridge(name: string, opts?: options) -> bridge",
				"Returns the bridge of that name, and makes it when absent.", options(
					opt("seed", "integer", "of run, file, lab and name", "seed of the impairments"),
					opt("addressing", "string", `"auto"`, `"none": interfaces stay down and without addresses`))),
			fn("bridge_names() -> string[]", "Returns the sorted names of its bridges."),
			fn("include(member: vm|bridge|lab|table)",
				"Makes existing VMs, bridges and labs members here too, all or none."),
			fn("remove(member: string|vm|bridge|lab)", "Ends a membership."),
			fn("members() -> member[]", "Returns all members."),
			fn("vm_names() -> string[]", "Returns the sorted names of its VMs."),
			fn("sub_lab_names() -> string[]", "Returns the sorted names of its sub-labs."),
			fn("boot() -> lab",
				"Boots all VMs at once, those of sub-labs too, except those that run. Returns the lab."),
			fn("shutdown()", "Shuts all VMs down at once."),
			fn("pause()", "Pauses all VMs at one moment."),
			fn("resume()", "Lets all VMs go on."),
			fn("claim(opts: options)", "Reserves what the VMs of the file need together; once per file.", options(
				opt("memory", "size", "", "memory of all VMs"),
				opt("memory_bytes", "integer", "", "the same in bytes"),
				opt("cpus", "integer", "", "vCPUs of all VMs")),
				example(`provium:claim({memory = "2G", cpus = 2})`)),
			fn("snapshot(dir?: path) -> lab_snapshot|string",
				"Freezes all VMs at one moment, with disks and bridges. With a directory it returns that."),
			fn("restore(snapshot: lab_snapshot|string)", "Restores everything that a snapshot of a lab holds."),
			fn("fork() -> lab", "Returns a running copy of the whole lab, a new sub-lab of the calling scope."),
			fn("barrier(name: string, count: integer, timeout?: duration) -> boolean",
				"Waits until count tasks have come. It raises at the timeout (60 s), and when no task is left that "+
					"could "+
					"come."),
			fn("depends_on_file(path: path)",
				"Declares a file that the build of a fixture uses. A relative path starts at the directory of the "+
					"Lua file."),
			fn("name() -> string", "Returns the name of the lab."),
			fn("vm_fixture(name: string) -> vm", "Restores a private copy of the VM that a fixture has built.",
				example(`local db = provium:vm_fixture("setups/database")`)),
			fn("lab_fixture(name: string) -> lab", "Restores a private copy of the lab that a fixture has built."),
			fn("pack(fmt: string, ...: any) -> string", "As string.pack."),
			fn("unpack(fmt: string, s: string, pos?: integer) -> any", "As string.unpack."),
		},
	}
}

func snapshotMethods() []Function {
	return []Function{
		fn("path() -> string", "Returns where it is."),
		fn("size() -> integer", "Returns its bytes on disk, 0 when it is gone."),
		fn("delete()", "Deletes it."),
	}
}

func snapshotClass() Class {
	return Class{Name: "snapshot", Kind: Handle, Title: "Snapshots of VMs", Page: "snapshots.md",
		Text: "What `vm:snapshot()` returns.", Methods: snapshotMethods()}
}

func labSnapshotClass() Class {
	return Class{Name: "lab_snapshot", Kind: Handle, Title: "Snapshots of labs", Page: "snapshots.md#labs",
		Text: "What `lab:snapshot()` returns.", Methods: snapshotMethods()}
}

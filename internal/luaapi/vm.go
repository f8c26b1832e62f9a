package luaapi

import "slices"

// runOptions are the keys of the options of run.
func runOptions() detail {
	return options(
		opt("args", "string[]", "", "arguments; the command is started directly, without a shell"),
		opt("env", "table", "", "added to the environment"),
		opt("env_clear", "boolean", "false", "env is all of the environment"),
		opt("cwd", "string", `"/"`, "directory to start in"),
		opt("stdin", "string", "", "bytes for standard input, then its end"),
		opt("timeout", "duration", "", "at this limit the command and its descendants are killed"),
		opt("timeout_ms", "integer", "", "the same in milliseconds"),
		opt("user", "string|integer", "", "runs as that user, with its groups"),
		opt("setsid", "boolean", "false", "the command leads a session of its own"),
		opt("kill_session", "boolean", "false", "limits and signals also reach processes that init would adopt"))
}

func timeout() Option { return opt("timeout", "duration", "", "limit of the operation") }

func follow() Option { return opt("follow", "boolean", "true", "false acts on a symbolic link itself") }

// fileMethods are the operations on files that batches have, too. more are further options.
func fileMethods(more ...Option) []Function {
	with := func(o ...Option) detail { return options(append(o, more...)...) }
	return []Function{
		fn("stat(path: path, opts?: options) -> file_info", "Returns what is known of a file.", with(follow())),
		fn("mkdir(path: path, opts?: options)", "Makes a directory.", with(
			opt("parents", "boolean", "false", "makes those above it, too"),
			opt("perm", "mode", "0755 less the umask", "permission bits"))),
		fn("chmod(path: path, mode: mode, opts?: options)", "Changes permission bits.", with()),
		fn("chown(path: path, uid: integer, gid: integer, opts?: options)",
			"Changes owner and group; -1 leaves one as it is.", with(follow())),
		fn("symlink(target: string, path: path, opts?: options)", "Makes path a symbolic link to target.", with()),
		fn("readlink(path: path, opts?: options) -> string", "Returns the target of a symbolic link.", with()),
		fn("link(existing: path, path: path, opts?: options)", "Makes path a hard link to an existing file.", with()),
		fn("mknod(path: path, opts: options)", "Makes a special file.", with(
			opt("type", "string", "", `"char", "block", "fifo", "socket" or "file"`),
			opt("major", "integer", "", "number of a device"),
			opt("minor", "integer", "", "number of a device"),
			opt("perm", "mode", "0644", "permission bits, whatever the umask is")),
			example(`vm:mknod("/tmp/null", {type = "char", major = 1, minor = 3})`)),
		fn("truncate(path: path, size: integer, opts?: options)", "Sets the length of a file.", with()),
		fn("getxattr(path: path, name: string, opts?: options) -> string|nil",
			"Returns an extended attribute, nil when the file has no such attribute.", with(follow())),
		fn("setxattr(path: path, name: string, value: string, opts?: options)", "Sets an extended attribute.", with(
			follow(), opt("create", "boolean", "false", "it must not exist"),
			opt("replace", "boolean", "false", "it must exist"))),
		fn("mount(source: string, target: path, fstype: string|nil, opts?: options)",
			"Mounts a file system. fstype is nil for bind, move, remount and propagation.", with(
				opt("options", "string", "", `as for mount(8): "ro,noexec,size=64k"`)),
			example(`vm:mount("none", "/mnt", "tmpfs", {options = "size=64k"})`)),
		fn("umount(target: path, opts?: options)", "Unmounts a file system.", with(
			opt("lazy", "boolean", "false", "detaches it now, and unmounts it when nothing uses it"),
			opt("force", "boolean", "false", "also when a server does not answer"))),
	}
}

// guestMethods are the methods that VMs and workers have.
func guestMethods() []Function {
	limit := options(timeout())
	return slices.Concat([]Function{
		fn("run(command: string, arguments?: string[]|options) -> run_result",
			"Runs a command to its end. A text alone goes to /bin/sh -c; with arguments the program is started "+
				"directly.",
			runOptions(), example(`
vm:run("ls /etc | wc -l"):assert_ok()
vm:run("grep", {"-c", "root", "/etc/passwd"})
vm:run("make check", {cwd = "/src", timeout = "5m", env = {V = "1"}})`)),
		fn("run_async(command: string, arguments?: string[]|options) -> process",
			"Starts a command and returns its process at once. It takes what run takes, without a timeout.",
			runOptions(), example(`
local server = vm:run_async("httpd -f -p 80")
server:stderr_stream():expect("ready", "5s")`)),
		fn("read_file(path: path, opts?: options) -> string", "Returns the contents of a file, at most 96 MiB.", limit),
		fn("write_file(path: path, data: string, opts?: options)", "Writes a file, and makes it when absent.", limit),
		fn("push_file(host_path: path, guest_path: path, opts?: options)",
			"Copies a file or directory of the host into the guest. A relative host path starts at the directory "+
				"of the "+
				"Lua file.", options(
				opt("perm", "mode", "that of the file", "permission bits"),
				opt("auto_dep", "boolean", "true", "in a fixture, the files become dependencies"),
				timeout())),
		fn("push_program(host_path: path, opts?: options) -> string",
			"Copies an ELF program of the host into the guest, with its loader and the libraries that it is linked "+
				"against, and returns its path there. What the guest has already stays.", options(
				opt("to", "path", "`/usr/local/bin/NAME`", "where the program goes"),
				opt("library_path", "string", "", "where libraries are looked for first, as LD_LIBRARY_PATH has it"),
				opt("auto_dep", "boolean", "true", "in a fixture, the files become dependencies"),
				timeout()),
			example(`
vm:push_program("/usr/bin/strace")
vm:run("strace -c ls"):assert_ok()`)),
		fn("pull_file(guest_path: path, host_path: path, opts?: options)",
			"Copies a file or directory of the guest to the host.", limit),
		fn("listdir(path: path, opts?: options) -> dir_entry[]", "Returns the entries of a directory.", limit),
		fn("unlink(path: path, opts?: options)", "Removes a file or an empty directory.", limit),
		fn("rename(from: path, to: path, opts?: options)", "Renames a file.", limit),
		fn("open_file(path: path, mode: options) -> file",
			"Opens a file. The mode has at least one of read, write and append.", options(
				opt("read", "boolean", "false", "opens it for reading"),
				opt("write", "boolean", "false", "opens it for writing"),
				opt("append", "boolean", "false", "writes go to the end"),
				opt("create", "boolean", "false", "makes it when absent"),
				opt("truncate", "boolean", "false", "empties it"),
				opt("exclusive", "boolean", "false", "with create: it must not exist"),
				opt("perm", "mode", "0644 less the umask", "mode of a new file"),
				timeout()),
			example(`local f = vm:open_file("/tmp/x", {read = true, write = true, create = true})`)),
		fn("tail_file(path: path, opts?: options) -> stream",
			"Returns a stream of what is appended to a file.", options(
				opt("start", "string|number", `"end"`,
					`"beginning", an offset, or a negative number of bytes before the end`),
				timeout()),
			example(`vm:tail_file("/var/log/messages"):expect("link is up", "20s")`)),
		fn("fd_stream(fd: integer|file) -> stream",
			"Returns a stream from a descriptor of the executor, or from an open file."),
		fn("syscall(nr: integer, a1?: integer|options, ...: integer) -> syscall_result",
			"Makes a system call with up to six integers. A call that fails returns -1 and an errno and does not "+
				"raise.",
			syscallOptions()),
		fn("syscall_async(nr: integer, a1?: integer|options, ...: integer) -> call",
			"Makes a system call on a further thread.", syscallOptions()),
		fn("ioctl(fd: integer, cmd: integer, data?: string, opts?: options) -> syscall_result",
			"Makes an ioctl. The address of bufs[i] goes to byte ptr_offsets[i] of data.", options(
				opt("bufs", "string[]", "", "further buffers"),
				opt("ptr_offsets", "integer[]", "", "where their addresses go in data"))),
		fn("read_mem(addr: integer, len: integer) -> string|nil, integer",
			"Returns bytes of the executor's memory, at most 4 MiB, or nil and an errno."),
		fn("write_mem(addr: integer, bytes: string) -> integer|nil, integer",
			"Stores bytes in the executor's memory and returns their number, or nil and an errno."),
	}, fileMethods(timeout()))
}

func syscallOptions() detail {
	return options(
		opt("args", "integer[]", "", "arguments, at most six"),
		opt("bufs", "string[]", "", "buffers"),
		opt("ptrs", "integer[]", "", "argument slots, from 0, that get the addresses of the buffers"),
		opt("nested", "table[]", "", "addresses of buffers that go into other buffers",
			opt("parent", "integer", "", "buffer that gets the address, from 1"),
			opt("child", "integer", "", "buffer whose address it is, from 1"),
			opt("offset", "integer", "", "byte of the parent at which it goes"),
			opt("child_offset", "integer", "0", "byte of the child that is meant")))
}

// systemMethods are the methods that wait for what a guest's system has reached.
func systemMethods() []Function {
	return []Function{
		fn("wait_file(path: path, opts?: options)", "Waits until something is at a path.", options(
			opt("timeout", "duration", "30", "limit of the wait"))),
		fn("wait_port(port: integer, opts?: options)",
			"Waits until a program of the guest listens on a port, or is bound to it for UDP.", options(
				opt("timeout", "duration", "30", "limit of the wait"),
				opt("protocol", "string", `"tcp"`, `"tcp" or "udp"`)),
			example(`
local server = vm:run_async("httpd -f -p 80")
vm:wait_port(80)`)),
		fn("wait_unit(name: string, opts?: options)",
			"Waits until a unit of systemd is in a state. It raises at once when the unit has failed or is not "+
				"there.",
			options(
				opt("timeout", "duration", "30", "limit of the wait"),
				opt("state", "string", `"active"`, `"active", "inactive" or "failed"`)),
			example(`vm:wait_unit("ssh.service", {timeout = "1m"})`)),
		fn("wait_boot(opts?: options)",
			"Waits until systemd has carried out what the boot consists of. It raises when a unit has failed, "+
				"with its journal.", options(opt("timeout", "duration", "300", "limit of the wait"))),
		fn("journal(opts?: options) -> journal_entry[]", "Returns the journal of the guest's boot.", options(
			opt("unit", "string", "", "entries of this unit"),
			opt("since", "duration", "", "entries that are not earlier, since the boot"),
			opt("lines", "integer", "", "the last ones, so many at most")),
			example(`for _, e in ipairs(vm:journal{unit = "ssh.service"}) do print(e.message) end`)),
	}
}

func vmClass() Class {
	return Class{
		Name: "vm", Kind: Handle, Title: "VMs", Page: "lua-api.md#vms",
		Text: "A guest. It is created, booted, paused, shutdown or dead.",
		Methods: slices.Concat([]Function{
			fn("boot(opts?: options) -> vm", "Boots the VM and returns it when its agent answers.", bootOptions(),
				example(`local vm = provium:vm("n1", "host"):boot({memory = "1G"})`)),
			fn("pause()", "Stops the vCPUs."),
			fn("resume()", "Lets the vCPUs go on."),
			fn("reset()", "Presses the reset button. It returns when the agent of the new boot serves."),
			fn("shutdown()", "Ends the guest at once."),
			fn("close()", "The same as shutdown, which the end of the scope does."),
			fn("wakeup()", "Ends a suspend-to-RAM."),
			fn("power_button(timeout?: duration) -> boolean",
				"Presses the power button. It returns true when the guest powered off within the timeout (30 s); "+
					"else the guest is stopped, and the result is false. A panic meanwhile is an error."),
			fn("wait_reboot(timeout?: duration) -> boolean",
				"Waits until the guest has rebooted by itself and its agent answers."),
			fn("qmp(command: string, arguments?: table) -> any",
				"Carries out a command of QEMU's monitor and returns its result.", example(`
local status = vm:qmp("query-status").status
vm:qmp("set_link", {name = "nic1", up = false})`)),
			fn("gdb() -> gdb_stub",
				"Has QEMU serve gdb, and returns where. A debugger that connects stops the vCPUs."),
			fn("screen() -> screen", "Returns the screen of a VM with display."),
			fn("keyboard() -> keyboard", "Returns the keyboard."),
			fn("dmesg(opts?: options) -> string",
				"Returns the log of the kernel, also of a guest that is paused, hangs or is dead.", options(
					opt("level", "string", `"debug"`, "lines of this level and more severe ones"),
					opt("since", "duration", "", "lines whose time stamp is not earlier"))),
			fn("snapshot(path?: path) -> snapshot", "Freezes the guest into a file, and lets it go on."),
			fn("restore(snapshot: snapshot|string)", "Starts the guest where it was saved.", example(`
local saved = vm:snapshot()
vm:shutdown()
vm:restore(saved)`)),
			fn("fork(n?: integer) -> vm|vm[]", "Returns a running copy, or an array of n."),
			fn("spawn_worker(opts?: options) -> worker",
				"Starts a further executor with its own descriptors, credentials, namespaces and directory.",
				options(opt("thread", "boolean", "false", "reserved; true is an error"))),
			fn("batch(fn: fun(b: batch), opts?: options) -> batch_result[]",
				"Calls fn with a batch, whose operations are sent in one round trip.", options(timeout()), example(`
local results = vm:batch(function(b)
  b:mkdir("/tmp/d")
  b:write_file("/tmp/d/x", "1")
end)`)),
			fn("console() -> console", "Returns the serial console."),
			fn("clock() -> clock", "Returns the wall clock."),
			fn("nic(name: string) -> nic",
				"Returns a NIC by its bridge, by its own name, or by a guest's name for the interface."),
			fn("disk(id: string) -> disk", "Returns an attached disk."),
			fn("attach_disk(opts?: options) -> disk", "Attaches a disk, before the boot or while the guest runs.",
				attachDiskOptions(), example(`local d = vm:attach_disk({id = "data", size = "64M"})`)),
			fn("name() -> string", "Returns the name."),
			fn("profile() -> string", "Returns the name of the profile."),
			fn("state() -> string", `Returns "created", "booted", "paused", "shutdown" or "dead".`),
			fn("cid() -> integer|nil", "Returns the vsock CID, nil before the boot."),
			fn("is_quiescent() -> boolean", "Reports whether nothing is open and nothing in flight."),
			fn("open_file_count() -> integer", "Returns how many files are open."),
			fn("open_stream_count() -> integer", "Returns how many streams are open."),
		}, systemMethods(), guestMethods()),
	}
}

func workerClass() Class {
	return Class{
		Name: "worker", Kind: Handle, Title: "Workers", Page: "lua-api.md#workers",
		Text: "A further executor of a VM, with its own descriptors, credentials and namespaces.",
		Methods: slices.Concat([]Function{
			fn("kill(sig?: signal)", "Sends a signal (term) to every process that it has started."),
			fn("join() -> integer", "Waits for those processes and returns the highest exit code."),
			fn("handle() -> integer", "Returns its number."),
			fn("close()", "Ends it and its processes."),
		}, guestMethods()),
	}
}

func callClass() Class {
	return Class{
		Name: "call", Kind: Handle, Title: "System calls in flight", Page: "lua-api.md#system-calls", Prefix: "handle",
		Text: "What `syscall_async` returns.",
		Methods: []Function{
			fn("await(timeout?: duration) -> syscall_result", "Waits for the call and returns its result, once."),
		},
	}
}

func batchClass() Class {
	return Class{
		Name: "batch", Kind: Handle, Title: "Batches", Page: "lua-api.md#batch",
		Text: "Collects operations that `vm:batch` sends in one round trip.",
		Methods: slices.Concat([]Function{
			fn("run(command: string, arguments?: string[]|options)", "As vm:run.", runOptions()),
			fn("read_file(path: path)", "As vm:read_file."),
			fn("write_file(path: path, data: string)", "As vm:write_file."),
			fn("listdir(path: path)", "As vm:listdir."),
			fn("unlink(path: path)", "As vm:unlink."),
			fn("rename(from: path, to: path)", "As vm:rename."),
			fn("syscall(nr: integer, ...: integer)", "As vm:syscall, with integers only."),
		}, withoutResults(fileMethods())),
	}
}

func withoutResults(methods []Function) []Function {
	for i := range methods {
		methods[i].Results, methods[i].Example = nil, ""
	}
	return methods
}

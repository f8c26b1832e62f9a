-- Root file systems of what the host has: its programs, and a directory. docs/images.md has
-- the other sources.

-- digest returns the MD5 of a file of the host.
local function digest(path)
  local p <close> = assert(io.popen("md5sum <" .. path))
  return p:read("a")
end

test("a guest has the programs of the host, and not its secrets", function(t)
  local vm = provium:vm("v", "programs"):boot()
  t:assert_matches(vm:run("bash --version"):assert_ok().stdout, "GNU bash")
  -- A program that is linked against the libraries of the host.
  local dir = os.tmpname()
  os.remove(dir)
  assert(os.execute(([[mkdir %s && cd %s && printf '#include <stdio.h>\nint main(void) { puts("linked"); return 3; }' \
    >p.c && gcc -o p p.c]]):format(dir, dir)))
  t:defer(function() os.execute("rm -r " .. dir) end)
  vm:push_file(dir .. "/p", "/usr/local/bin/p", {perm = 0x1ed})
  local r = vm:run("p")
  t:assert_eq(r.stdout, "linked\n")
  t:assert_eq(r.exit_code, 3)
  -- So is a test of Go whose packages use C.
  assert(os.execute(([[go=$(scripts/find-go) && mkdir %s/g && cd %s/g && printf 'module g\n' >go.mod &&
    printf 'package g\nimport ("os/user"; "testing")\nfunc TestUser(t *testing.T) {
      if u, err := user.LookupId("0"); err != nil || u.Username != "root" { t.Fatal(u, err) }\n}\n' >g_test.go &&
    CGO_ENABLED=1 "$go" test -c -o g.test .]]):format(dir, dir)))
  vm:push_file(dir .. "/g/g.test", "/tmp/g.test")
  t:assert_contains(vm:run("ldd /tmp/g.test").stdout, "libc.so")
  t:assert_contains(vm:run("/tmp/g.test -test.v"):assert_ok().stdout, "PASS: TestUser")
  -- Contents, also of what is larger than a request.
  for _, path in ipairs{"/bin/bash", "/etc/passwd", "/usr/bin/qemu-system-x86_64"} do
    if io.open(path) then t:assert_eq(vm:run("md5sum <" .. path).stdout, digest(path), path) end
  end
  for _, path in ipairs{"/etc/shadow", "/root/.ssh", "/root/.bashrc", "/home/user"} do
    t:assert_error_matches(function() vm:stat(path) end, "ENOENT")
  end
  -- It is another machine than the host.
  t:assert_eq(vm:run("hostname").stdout, "provium\n")
  t:assert_contains(vm:read_file("/etc/hosts"), "localhost")
  -- Larger requests than the kernel makes by itself.
  t:assert_eq(vm:read_file("/sys/block/vda/queue/read_ahead_kb"), "512\n")
  -- The disk is one like any other.
  t:assert_eq(vm:disk("userland"):id(), "userland")
  t:assert_error_matches(function() vm:write_file("/dev/disk/by-id/virtio-userland", "x") end, "EPERM")
end)

test("common programs of the host are in memory when a boot comes from the cache", function(t)
  for i = 1, 3 do -- the first one may boot, the third is a copy of the second
    local vm = provium:vm("v" .. i, "programs"):boot()
    local function reads() return tonumber(vm:read_file("/sys/block/vda/stat"):match("%d+")) end
    local before = reads()
    vm:run("bash -c : && python3 -c 1 && perl -e 1"):assert_ok()
    t:assert_eq(reads(), before)
    -- What is not is read from the host, also by copies.
    local path = ({"/usr/bin/xargs", "/usr/bin/find", "/usr/bin/sort"})[i]
    t:assert_eq(vm:run("md5sum <" .. path).stdout, digest(path))
    t:assert_gt(reads(), before)
    vm:shutdown()
  end
end)

test("what guests change is their own, and in their snapshots", function(t)
  local vm = provium:vm("v", "programs"):boot()
  vm:write_file("/etc/passwd", "changed\n")
  vm:run("rm /usr/bin/env && mkdir /usr/new"):assert_ok()
  local s = vm:snapshot()
  vm:write_file("/etc/passwd", "later\n")
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:read_file("/etc/passwd"), "changed\n")
  t:assert_eq(vm:run("ls -d /usr/new").stdout, "/usr/new\n")
  t:assert_error_matches(function() vm:stat("/usr/bin/env") end, "ENOENT")
  -- What was not read before the snapshot is read from the host after it.
  t:assert_eq(vm:run("md5sum </usr/bin/xargs").stdout, digest("/usr/bin/xargs"))
  local other = vm:fork()
  t:assert_eq(other:read_file("/etc/passwd"), "changed\n")
  t:assert_eq(other:run("md5sum </usr/bin/find").stdout, digest("/usr/bin/find"))
  -- A complete snapshot names the userland, and does not contain it.
  local path = os.tmpname()
  local whole = vm:snapshot(path)
  t:defer(function() os.remove(path) end)
  t:assert_lt(whole:size(), 1 << 30)
  local again = provium:vm("w", "programs")
  again:restore(whole)
  t:assert_eq(again:run("md5sum </usr/bin/sort").stdout, digest("/usr/bin/sort"))
  t:assert_eq(again:read_file("/etc/passwd"), "changed\n")
  t:assert_eq(provium:vm("fresh", "programs"):boot():run("head -n 1 /etc/passwd | cut -d : -f 1").stdout, "root\n")
end)

test("a directory is a root file system with its init", function(t)
  local vm = provium:vm("v", "tree", {files = {{path = "/etc/extra", content = "of the boot\n"}}}):boot()
  wait_until(function() return (pcall(vm.stat, vm, "/tmp/init-was-here")) end, {timeout = "1m"})
  t:assert_eq(vm:run("readlink /proc/1/exe").stdout, "/bin/busybox\n")
  t:assert_contains(vm:read_file("/proc/1/cmdline"), "init")
  t:assert_eq(vm:read_file("/etc/motd"), "of the tree\n")
  t:assert_eq(vm:read_file("/etc/extra"), "of the boot\n")
  t:assert_eq(vm:stat("/data/1").perm, 0x1a0)
  t:assert_eq(vm:stat("/bin/busybox").ino, vm:stat("/bin/again").ino)
  t:assert_eq(#vm:read_file("/data/1"), 300000)
  -- Symlinks lead nowhere but into the tree.
  t:assert_eq(vm:read_file("/data/escape"):sub(1, 3), "222")
  t:assert_eq(vm:read_file("/data/absolute"):sub(1, 3), "333")
  t:assert_eq(vm:stat("/data/pipe").entry_type, "fifo")
  -- What the build could make: a device, an extended attribute, a capability.
  local special = vm:read_file("/etc/special")
  local function attribute(path, name)
    local r = vm:syscall(191, {args = {0, 0, 0, 100}, bufs = {path .. "\0", name .. "\0", ("\0"):rep(100)}, -- getxattr
      ptrs = {0, 1, 2}})
    t:assert(r.ret >= 0, name .. ": errno " .. r.errno)
    return r.out_bufs[3]:sub(1, r.ret)
  end
  if special:find("device") then
    local r = vm:run("echo x >/data/full")
    t:assert_contains(r.stderr, "No space left")
  end
  if special:find("note") then t:assert_eq(attribute("/data/2", "user.note"), "hello") end
  if special:find("capability") then -- cap_net_raw is number 13
    t:assert_eq(("<I4I4"):unpack(attribute("/bin/again", "security.capability"), 5), 1 << 13)
  end
end)

test("commands have what an image says about them", function(t)
  local vm = provium:vm("v", "oci"):boot()
  local r = vm:run("echo $GREETING; pwd; id -u; echo $HOME $PATH"):assert_ok()
  t:assert_eq(r.stdout, "hello world\n/srv/app\n1234\n/home/app /opt/bin:/bin\n")
  t:assert_eq(vm:run("id", {"-u"}).stdout, "1234\n")
  r = vm:run("echo $GREETING; pwd; id -u", {user = "root", cwd = "/", env = {GREETING = "mine"}})
  t:assert_eq(r.stdout, "mine\n/\n0\n")
  t:assert_eq(vm:run("/bin/env", {args = {}, env_clear = true, env = {A = "b"}}).stdout, "A=b\n")
  -- Files are root's, as everywhere.
  vm:write_file("/srv/app/x", "root's")
  t:assert_eq(vm:stat("/srv/app/x").uid, 0)
  -- It is in the guest's memory, and so in snapshots.
  local s = vm:snapshot()
  vm:shutdown()
  vm:restore(s)
  t:assert_eq(vm:run("pwd; id -u").stdout, "/srv/app\n1234\n")
end)

test("a partition of a disk is a root file system with its init", function(t)
  local vm = provium:vm("v", "disk-userland"):boot()
  wait_until(function() return (pcall(vm.stat, vm, "/tmp/init-was-here")) end, {timeout = "1m"})
  t:assert_eq(vm:run("readlink /proc/1/exe").stdout, "/bin/busybox\n")
  t:assert_eq(vm:read_file("/etc/motd"), "of the tree\n")
  t:assert_eq(vm:read_file("/data/3"), ("3"):rep(300000))
  vm:write_file("/etc/motd", "changed\n")
  local copy = vm:fork()
  t:assert_eq(copy:read_file("/etc/motd"), "changed\n")
  t:assert_eq(copy:read_file("/data/2"), ("2"):rep(300000))
  t:assert_eq(provium:vm("fresh", "disk-userland"):boot():read_file("/etc/motd"), "of the tree\n")
end)

test("a disk whose file system is damaged is the error of the boot", function(t)
  local path = "dist/damaged.ext4"
  if not io.open(path) then -- the superblock is whole, what follows is not
    assert(os.execute(([[PATH=$PATH:/sbin:/usr/sbin && rm -f %s.new && truncate -s 8M %s.new && mkfs.ext4 -q %s.new &&
      dd if=/dev/zero of=%s.new bs=1024 seek=2 count=60 conv=notrunc status=none && mv %s.new %s]]):gsub("%%s", path)))
  end
  t:assert_error_matches(function() provium:vm("v", "disk-damaged"):boot() end, "userland: mount its disk: ")
end)

-- The file systems that the other suites have no disk with: each where its tools are installed.
for _, kind in ipairs{"erofs", "squashfs", "xfs", "btrfs"} do
  test("a disk with " .. kind .. " is a root file system", {slow = true}, function(t)
    local image = io.open("dist/profiles/disk-kinds/disk." .. kind)
    if not image then t:skip("this machine has no mkfs for it") end
    image:close()
    local vm = provium:vm("v", "disk-" .. kind):boot()
    t:assert_eq(vm:read_file("/etc/motd"), "of the tree\n")
    t:assert_eq(vm:read_file("/data/3"), ("3"):rep(300000))
    vm:write_file("/etc/motd", "changed\n")
    t:assert_eq(vm:fork():read_file("/etc/motd"), "changed\n")
  end)
end

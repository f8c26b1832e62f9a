-- The dd of the built-in userland, which supports direct I/O.
local vm = provium:vm("v", "host"):boot()
local function sh(text) return (vm:run("{ " .. text .. "; } 2>&1").stdout:gsub("\n$", "")) end

test("it copies as others do", function(t)
  t:assert_eq(sh("cd /tmp; printf 0123456789 > a; dd if=a bs=2 skip=1 count=3 status=none"), "234567")
  t:assert_eq(sh("cd /tmp; dd if=a of=b bs=3 seek=1; od -An -c b | tr -d ' \\n'"), "3+1 records in\n3+1 records out\n\\0\\0\\00123456789")
  t:assert_eq(sh("cd /tmp; printf abc | dd of=b conv=notrunc status=none; od -An -c b | tr -d ' \\n'"), "abc0123456789")
  t:assert_eq(sh("printf abc | dd bs=4 conv=sync status=none | od -An -c | tr -d ' '"), "abc\\0")
  t:assert_eq(sh("(printf ab; sleep 0.2; printf cd) | dd bs=4 count=1 iflag=fullblock"), "abcd1+0 records in\n1+0 records out")
  t:assert_eq(sh("printf 0123456789 | dd skip=3 count=4 iflag=skip_bytes,count_bytes status=none"), "3456")
  t:assert_eq(sh("dd if=/dev/zero bs=1k count=1M iflag=count_bytes | wc -c"), "1024+0 records in\n1024+0 records out\n1048576")
  t:assert_eq(sh("dd if=/nope"), "dd: can't open '/nope': No such file or directory")
  t:assert_eq(vm:run("dd if=/nope").exit_code, 1)
end)

test("what it does not know is busybox's", function(t)
  t:assert_eq(sh("printf abcd | dd conv=swab status=none"), "badc")
  t:assert_contains(sh("dd bs=x"), "x")
  t:assert_contains(sh("dd --help"), "Usage")
end)

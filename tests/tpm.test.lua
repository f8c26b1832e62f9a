-- Guests with a TPM 2.0, which swtpm is.

local function pcr(vm) return (vm:read_file("/sys/class/tpm/tpm0/pcr-sha256/16"):gsub("%s", "")) end

-- command sends a command to the TPM, in hexadecimal digits, and returns its answer.
local function command(vm, hex)
  local bytes = hex:gsub(" ", ""):gsub("%x%x", function(b) return ("\\%03o"):format(tonumber(b, 16)) end)
  return vm:run("exec 3<>/dev/tpmrm0; printf '" .. bytes .. "' >&3; head -c 4096 <&3 | od -An -v -tx1 | tr -d ' \\n'")
    :assert_ok().stdout
end

-- extend extends PCR 16 by a digest of one letter.
local function extend(vm, letter)
  local answer = command(vm, "8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000 00000001 000b" ..
    ("%02x"):format(letter:byte()):rep(32))
  assert(answer:sub(13, 20) == "00000000", answer)
end

test("a guest has a TPM, whose state goes with it", function(t)
  local vm = provium:vm("v", "host", {tpm = true}):boot()
  t:assert_eq(vm:read_file("/sys/class/tpm/tpm0/tpm_version_major"), "2\n")
  t:assert_eq(pcr(vm), ("0"):rep(64))
  extend(vm, "a")
  local a = pcr(vm)
  t:assert_neq(a, ("0"):rep(64))
  -- A copy has what the guest had, and its own from then on. So has a copy of the copy.
  local copy = vm:fork()
  t:assert_eq(pcr(copy), a)
  extend(copy, "b")
  local b = pcr(copy)
  t:assert_neq(b, a)
  local second = copy:fork()
  t:assert_eq(pcr(second), b)
  extend(second, "c")
  t:assert_eq(pcr(vm), a)
  t:assert_eq(pcr(copy), b)
  -- A reset is one of the TPM, too.
  vm:reset()
  t:assert_eq(pcr(vm), ("0"):rep(64))
  t:assert_eq(pcr(copy), b)
end)

test("a boot has a TPM that nobody has used, and a snapshot keeps it", function(t)
  local vm = provium:vm("v", "host", {tpm = true}):boot()
  t:assert_eq(pcr(vm), ("0"):rep(64))
  extend(vm, "x")
  local x = pcr(vm)
  local saved = vm:snapshot()
  vm:shutdown()
  vm:boot()
  t:assert_eq(pcr(vm), ("0"):rep(64))
  vm:shutdown()
  vm:restore(saved)
  t:assert_eq(pcr(vm), x)
end)

test("what cannot have a TPM says so", function(t)
  t:assert_error_matches(function() provium:vm("d", "host", {tpm = true, deterministic = true}):boot() end,
    "tpm: .* a deterministic or recorded guest has none")
  t:assert_error_matches(function() provium:vm("x", "arm64", {tpm = true}):boot() end,
    "tpm: machine `virt` cannot have one %(`q35` and `pc` can%)")
  t:assert_error_matches(function() provium:vm("x", "host", {tpm = "yes"}) end, "opts.tpm must be true or false, got string")
end)

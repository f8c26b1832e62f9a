-- Programs of this machine in guests: one that is pushed with its libraries into the small
-- guest, and all of them where the profile says so.

test("a program brings its libraries along", function(t)
  local vm = provium:vm("small", "host"):boot()
  t:assert_eq(vm:push_program("/bin/bash"), "/usr/local/bin/bash")
  t:assert_eq(vm:run("bash -c 'words=(one two); echo ${#words[@]}'"):assert_ok().stdout, "2\n")
end)

test("a guest has the programs of this machine", function(t)
  local vm = provium:vm("full", "programs"):boot()
  t:assert_contains(vm:run("bash --version"):assert_ok().stdout, "GNU bash")
end)

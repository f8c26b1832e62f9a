-- A login over the console, as a person would do it.

local vm = provium:vm("tty", "host", {files = {
  {path = "/etc/passwd", content = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"},
  {path = "/etc/group", content = "root:x:0:\nalice:x:1000:\n"},
  -- the password is "secret"
  {path = "/etc/shadow", content = "root:*:19000:0:99999:7:::\nalice:$1$salt$ez2vlPGdaLYkJam5pWs/Y1:19000:0:99999:7:::\n", mode = 384},
  {path = "/etc/issue", content = "This is a guest\n"},
}}):boot()
vm:mkdir("/home/alice", {parents = true})
vm:run("chown 1000:1000 /home/alice"):assert_ok()

test("a user logs in at a getty and works in a shell", function(t)
  local getty = vm:run_async("while :; do getty -L 115200 ttyS0 vt100; done")
  local console = vm:console()
  local s = console:read()
  s:expect("This is a guest", "30s")
  s:expect("login: ", "30s")
  console:write("alice\n")
  s:expect("Password: ", "30s")
  console:write("wrong\n")
  s:expect("Login incorrect", "30s")
  s:expect("login: ", "30s")
  console:write("alice\n")
  s:expect("Password: ", "30s")
  console:write("secret\n")
  s:expect("$ ", "30s")
  console:write("echo \"I am $(id -un) in $PWD on $(tty)\"\n")
  s:expect("I am alice in /home/alice on /dev/ttyS0", "30s")
  s:expect("$ ", "30s")
  -- Ctrl-C reaches the foreground program, Ctrl-D ends the shell.
  console:write("sh -c 'echo rea''dy; exec cat'\n")
  s:expect("\r\nready", "30s")
  console:write("\3")
  s:expect("$ ", "30s")
  console:write("\4")
  s:expect("login: ", "30s")
  s:close()
  getty:kill("kill")
end)

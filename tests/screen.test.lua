-- The screen and the keyboard of a guest: what it shows is compared, and what is typed arrives.

-- show has text, and nothing else, on the guest's screen.
local function show(vm, text) vm:run("printf '\\033c\\033[?25l" .. text .. "' >/dev/tty1"):assert_ok() end

local function picture(vm)
  local png = vm:screen():png()
  -- Signature and size of the text screen.
  assert(png:sub(1, 8) == "\x89PNG\r\n\x1a\n", "no PNG")
  local width, height = (">I4I4"):unpack(png, 17)
  assert(width == 720 and height == 400, width .. "×" .. height)
  return png
end

test("a console is compared, also after a restore", function(t)
  local vm = provium:vm("v", "host", {display = true}):boot()
  show(vm, "one")
  local one = picture(vm)
  show(vm, "two")
  local two = picture(vm)
  t:assert(two ~= one, "still the picture of one")
  vm:pause()
  t:assert(picture(vm) == two, "not the picture of two")
  vm:resume()
  local s = vm:snapshot()
  show(vm, "one")
  t:assert(picture(vm) == one, "not the picture of one")
  vm:shutdown()
  vm:restore(s)
  t:assert(picture(vm) == two, "not the picture of two")
  -- What a restored guest has changed is in its own snapshots.
  show(vm, "three\\n")
  local three = picture(vm)
  t:assert(three ~= two, "still the picture of two")
  local copy = vm:fork()
  t:assert(picture(copy) == three, "not the picture of three")
  show(copy, "one")
  t:assert(picture(copy) == one, "not the picture of one")

  -- The line that is typed reaches whoever reads the terminal, and is shown.
  local reader = copy:run_async("head -n 2 </dev/tty1")
  copy:keyboard():type("Hello, World! {x}~\n")
  copy:keyboard():press("a", "backspace", "shift-b", "ret")
  t:assert_eq(reader:wait("60s").stdout, "Hello, World! {x}~\nB\n")
  t:assert(picture(copy) ~= one, "still the picture of one")
  copy:run(": >/dev/tty2"):assert_ok() -- until it is opened, there is no such terminal
  copy:keyboard():press("ctrl-alt-f2")
  wait_until(function() return copy:read_file("/sys/class/tty/tty0/active") == "tty2\n" end, {timeout = "60s"})
end)

test("what a machine without a screen cannot show", function(t)
  local vm = provium:vm("v", "host"):boot()
  t:assert_error_matches(function() vm:screen():png() end, "the machine has no display: .* `display` adds one")
  t:assert_error_matches(function() vm:keyboard():type("\27") end, "the character '\\x1b' cannot be typed")
  t:assert_error_matches(function() vm:keyboard():press("enter") end, '"enter" is no key %(valid: .*ret')
end)

-- The global `json`: encoding, decoding, and what both refuse. No guest is booted.

local function raises(t, pattern, fn, ...)
  local args = table.pack(...)
  local err = t:assert_raises(function() fn(table.unpack(args, 1, args.n)) end)
  t:assert_contains(err, pattern)
end

test("scalars encode as JSON writes them", function(t)
  t:assert_eq(json.encode(nil), "null")
  t:assert_eq(json.encode(true), "true")
  t:assert_eq(json.encode(7), "7")
  t:assert_eq(json.encode(-9223372036854775807 - 1), "-9223372036854775808")
  t:assert_eq(json.encode(0.5), "0.5")
  t:assert_eq(json.encode(1.0), "1.0")
  t:assert_eq(json.encode('say "hi"\n\0'), [["say \"hi\"\n\u0000"]])
end)

test("a table with only positive integer keys is an array, gaps are null", function(t)
  t:assert_eq(json.encode({1, "two", false}), '[1,"two",false]')
  t:assert_eq(json.encode({[1] = 1, [4] = 4}), "[1,null,null,4]")
end)

test("every other table is an object, also the empty one", function(t)
  t:assert_eq(json.encode({}), "{}")
  t:assert_eq(json.encode({b = 1, a = {c = 2}}), '{"a":{"c":2},"b":1}')
  t:assert_eq(json.encode({"x", y = "z"}), '{"1":"x","y":"z"}')
  t:assert_eq(json.encode({[0] = "zero"}), '{"0":"zero"}')
end)

test("null is nil: fields vanish and arrays get a hole", function(t)
  local v = json.decode('{"a": null, "b": [1, null, 3]}')
  t:assert_eq(v.a, nil)
  t:assert_eq(v.b[1], 1)
  t:assert_eq(v.b[2], nil)
  t:assert_eq(v.b[3], 3)
  t:assert_eq(json.decode("null"), nil)
end)

test("64-bit integers are exact and unsigned ones keep their bits", function(t)
  t:assert_eq(json.decode("9223372036854775807"), math.maxinteger)
  t:assert_eq(json.decode("-9223372036854775808"), math.mininteger)
  t:assert_eq(json.decode("18446744073709551615"), -1)
  t:assert_eq(math.type(json.decode("12")), "integer")
  t:assert_eq(math.type(json.decode("12.0")), "float")
  t:assert_eq(math.type(json.decode("18446744073709551616")), "float")
end)

test("strings come back byte for byte", function(t)
  local all = {}
  for i = 0, 255 do all[#all + 1] = string.char(i) end
  local bytes = table.concat(all)
  t:assert_eq(json.decode(json.encode(bytes)), bytes)
  t:assert_eq(json.decode([["\u00e4\ud83d\ude00"]]), "ä😀")
end)

test("what JSON cannot hold is refused with its place", function(t)
  raises(t, "cycle", function() local c = {}; c.self = {c}; json.encode(c) end)
  raises(t, "value.f is a function", json.encode, {f = print})
  raises(t, "userdata", json.encode, {io.stdout})
  raises(t, "nan", json.encode, 0 / 0)
  raises(t, "inf", json.encode, {math.huge})
  raises(t, "key of type boolean", json.encode, {[true] = 1})
  raises(t, "gaps", json.encode, {[1] = 1, [2000000] = 2})
end)

test("malformed text is refused with its position", function(t)
  raises(t, "line 2 column 3", json.decode, "[1,\n  x]")
  raises(t, "trailing", json.decode, "{} {}")
  raises(t, "must be a string, got table", json.decode, {})
  for text, reason in pairs({
    [""] = "unexpected end of text", ["[1,]"] = "unexpected `]`, expected a value",
    ["{a:1}"] = "unexpected `a`, expected a string as key", ["01"] = "leading zero",
    ["1."] = "unexpected end of text, expected a digit", ["'x'"] = "unexpected `'`", ['"\1"'] = "control character 0x01",
    nul = "unexpected `n`", ["["] = "unexpected end of text", ['"open'] = "unfinished string",
  }) do
    raises(t, reason, json.decode, text)
  end
end)

test("one table may stand in several places", function(t)
  local shared = {1}
  t:assert_eq(json.encode({a = shared, b = shared}), '{"a":[1],"b":[1]}')
end)

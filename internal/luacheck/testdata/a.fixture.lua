test("no", function() end) --> `test` is not there in fixtures
return provium:vm("x", "host"):boot()

// Package luacheck finds mistakes in test files, fixtures and the modules that they require,
// without running them: syntax, unknown variables, methods, fields and options, values of a
// wrong type, unknown profiles, fixtures and modules, and duplicate tests.
//
// It reports only what it is sure of. A type is known where every assignment to a variable has
// it; what is computed is not looked at. Code that is expected to fail, such as the function of
// assert_raises, is not looked at either.
//
// Start with Project.Check, then checker.
package luacheck

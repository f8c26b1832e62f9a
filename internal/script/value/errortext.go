package value

import (
	"strings"

	"provium/internal/lua"
)

// ErrorText is an error of Lua for people. An error object that is a table is shown whole.
func ErrorText(err *lua.Error) string {
	t, ok := err.Value.(*lua.Table)
	if !ok {
		return err.Message
	}
	text := Render(t, Format)
	if !strings.HasPrefix(err.Message, "(error object is a ") { // it has a __tostring
		text = err.Message + "\n" + text
	}
	if at := err.At.String(); at != "" {
		return at + ": error object: " + text
	}
	return "error object: " + text
}

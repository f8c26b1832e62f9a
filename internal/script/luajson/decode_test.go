package luajson

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]any{
		`null`: nil, ` true `: true, `false`: false, `1`: int64(1), `-0`: int64(0), `1.0`: 1.0, `1e2`: 100.0,
		`9223372036854775807`:                   int64(9223372036854775807),
		`-9223372036854775808`:                  int64(-9223372036854775808),
		`9223372036854775808`:                   int64(-9223372036854775808),
		`18446744073709551615`:                  int64(-1),
		`18446744073709551616`:                  18446744073709551616.0,
		`-9223372036854775809`:                  -9223372036854775809.0,
		`"a\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00"`: "a\"\\/\b\f\n\r\tä😀",
		`"\ud83d x"`:                            "\ufffd x", "\"\xff\"": "\xff", `"\u0000"`: "\x00",
		`[]`: array{}, `{}`: object{}, `[1,null, [2]]`: array{int64(1), nil, array{int64(2)}},
		`{"a":1,"b":{"c":null}}`: object{{"a", int64(1)}, {"b", object{{"c", nil}}}},
	} {
		got, err := parse(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("parse(%s) = %#v, %v; want %#v", in, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		``:                        "unexpected end of text at line 1 column 1 (byte 1)",
		`{} x`:                    "trailing `x` after the value at line 1 column 4 (byte 4)",
		"[1,\n 2 3]":              "unexpected `3`, expected `,` or `]` at line 2 column 4 (byte 8)",
		`[1,]`:                    "unexpected `]`, expected a value at line 1 column 4",
		`{"a" 1}`:                 "unexpected `1`, expected `:`",
		`{a:1}`:                   "unexpected `a`, expected a string as key",
		`{"a":1,}`:                "expected a string as key",
		`{"a":1`:                  "unexpected end of text, expected `,` or `}`",
		`01`:                      "leading zero",
		`-`:                       "expected a digit",
		`1.`:                      "expected a digit",
		`1e`:                      "expected a digit",
		`+1`:                      "unexpected `+`",
		`1e999`:                   "number `1e999` is out of range",
		`nul`:                     "unexpected `n`",
		`NaN`:                     "unexpected `N`",
		`"abc`:                    "unfinished string",
		`"\`:                      "unfinished string",
		`"\x"`:                    "unknown escape sequence `\\x`",
		`"\u12g4"`:                "four hexadecimal digits",
		"\"\n\"":                  "control character 0x0a",
		"\xff":                    "unexpected byte 0xff",
		strings.Repeat("[", 5000): "nesting deeper than 1000 levels",
	} {
		_, err := parse(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%.20q): %v, want an error with %q", in, err, want)
		}
	}
}

// FuzzParse compares with encoding/json, which accepts the same texts but for numbers out of
// range and deep nesting.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,null,"x\u00e4"]}`, `18446744073709551615`, `"\ud83d\ude00"`, `[[[`, `1e999`,
		"\"\x7f\xff\"", `{"a":1,"a":2}`, ` [ ] `, `-`, `-01`, `1.e1`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := parse(s)
		var syntax *SyntaxError
		if err != nil && !errors.As(err, &syntax) {
			t.Fatalf("parse(%q): %v, want a SyntaxError", s, err)
		}
		if err != nil && (strings.Contains(err.Error(), "out of range") ||
			strings.Contains(err.Error(), "nesting deeper")) {
			return
		}
		if valid := json.Valid([]byte(s)); valid != (err == nil) {
			t.Errorf("parse(%q): %v, but encoding/json says %v", s, err, valid)
		}
		if err != nil && (syntax.Offset < 0 || syntax.Offset > len(s) || syntax.Line < 1 || syntax.Column < 1) {
			t.Errorf("parse(%q): error at offset %d, line %d, column %d", s, syntax.Offset, syntax.Line, syntax.Column)
		}
	})
}

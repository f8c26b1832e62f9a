package script

import (
	"testing"

	"provium/internal/lua"
)

// FuzzJSONRoundTrip checks that what was decoded encodes to a text that decodes to the same.
func FuzzJSONRoundTrip(f *testing.F) {
	for _, s := range []string{`[1,2.5,null,"x\u00e4"]`, `{"a":{"b":[true,false]}}`, `18446744073709551615`,
		`1.0`, `-0.0`, `"\u0000\ud83d"`, `[null,null]`, `{"1":1,"a":null}`, "\"\xff\""} {
		f.Add(s)
	}
	s, err := lua.New(lua.Config{})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	f.Fuzz(func(t *testing.T, text string) {
		v, err := decodeJSON(text)
		if err != nil {
			return
		}
		once, err := encodeJSON(jsonToLua(s, v))
		if err != nil {
			t.Fatalf("encode of %q: %v", text, err)
		}
		again, err := decodeJSON(once)
		if err != nil {
			t.Fatalf("decode of %q, made of %q: %v", once, text, err)
		}
		twice, err := encodeJSON(jsonToLua(s, again))
		if err != nil || twice != once {
			t.Fatalf("%q became %q, then %q (%v)", text, once, twice, err)
		}
	})
}

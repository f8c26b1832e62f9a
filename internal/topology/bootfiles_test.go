package topology

import (
	"slices"
	"strings"
	"testing"

	"provium/internal/plainwords"
)

var someFiles = []BootFile{{Path: "/etc/x", Content: "a\x00b\n", Mode: 0o4755, HasMode: true}, {Path: "/y"}}

func TestBootFiles(t *testing.T) {
	text, err := EncodeBootFiles(someFiles)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeBootFiles(text); err != nil || !slices.Equal(got, someFiles) {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "ends too early", string(text[:20]): "ends too early", "[{]": "no JSON from byte 3 on",
		"{}": "of the kind `object`", `[{"Mode": -1}]`: "its field `Mode`",
	} {
		_, err := DecodeBootFiles([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "boot files: ") || !strings.Contains(err.Error(), want) ||
			len(plainwords.Jargon(err.Error())) > 0 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzDecodeBootFiles: what can be decoded stays the same when it is encoded.
func FuzzDecodeBootFiles(f *testing.F) {
	text, err := EncodeBootFiles(someFiles)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(text), "", "[]", "null", `[{"Path":"\ud800","Mode":4294967295}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := DecodeBootFiles(text)
		if err != nil {
			return
		}
		again, err := EncodeBootFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeBootFiles(again); err != nil || !slices.Equal(got, files) {
			t.Errorf("%+v became %+v, %v", files, got, err)
		}
	})
}

package jsonerror

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"provium/internal/plainwords"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"":                "its JSON ends too early",
		`{"a": [1`:        "its JSON ends too early",
		"words":           "it is no JSON from byte 1 on",
		`{"a": nothing}`:  "it is no JSON from byte 8 on",
		`{"a": "x"}`:      "its field `a` is of the kind `string`, which is not expected",
		`[]`:              "it is of the kind `array`, which is not expected",
		`{"b": 1}`:        `it has an unknown field "b"`,
		`{"a": 99999e99}`: "its field `a` is of the kind `number 99999e99`, which is not expected",
	} {
		for range 2 {
			var v struct {
				A int `json:"a"`
			}
			d := json.NewDecoder(bytes.NewReader([]byte(text)))
			d.DisallowUnknownFields()
			got := Plain(d.Decode(&v))
			if got == nil || got.Error() != want || len(plainwords.Jargon(got.Error())) > 0 {
				t.Errorf("%q: %v, want %s", text, got, want)
			}
		}
	}
	var v int
	if err := Plain(json.Unmarshal([]byte("[1"), &v)); err == nil || err.Error() != "its JSON ends too early" {
		t.Error(err)
	}
	other := errors.New("other")
	if err := Plain(other); err != other || Plain(nil) != nil || Plain(io.EOF) == io.EOF {
		t.Error(err)
	}
}

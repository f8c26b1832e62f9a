package seat

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

const pixmap = "P6\n2 1\n255\n\x01\x02\x03\xff\xfe\xfd"

func TestPNG(t *testing.T) {
	data, err := PNG([]byte(pixmap))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() != 2 || b.Dy() != 1 {
		t.Error(b)
	}
	if r, g, b, a := img.At(1, 0).RGBA(); r != 0xffff || g != 0xfefe || b != 0xfdfd || a != 0xffff {
		t.Error(r, g, b, a)
	}
	for _, bad := range []string{"", "P6\n", pixmap[:len(pixmap)-1], pixmap + "x", "P5\n2 1\n255\n123456",
		"P6\n0 1\n255\n", "P6\n-2 -1\n255\n123456", "P6\n2 1\n65535\n123456",
		"P6\n4294967296 4294967296\n255\n", "P6\n99999999 99999999\n255\n"} {
		if _, err := PNG([]byte(bad)); !errors.Is(err, errPicture) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzPNG(f *testing.F) {
	f.Add([]byte(pixmap))
	f.Add([]byte("P6\n1 1\n255\n"))
	f.Add([]byte("P6\n16777216 2\n255\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := PNG(data)
		if err != nil {
			return
		}
		if c, err := png.DecodeConfig(bytes.NewReader(out)); err != nil || c.Width*c.Height*3 > len(data) {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestText(t *testing.T) {
	got, err := Text("aZ0)- _~\t\n")
	want := []Chord{{"a"}, {"shift", "z"}, {"0"}, {"shift", "0"}, {"minus"}, {"spc"}, {"shift", "minus"},
		{"shift", "grave_accent"}, {"tab"}, {"ret"}}
	if err != nil || !slices.EqualFunc(got, want, slices.Equal[Chord]) {
		t.Errorf("%v, %v", got, err)
	}
	// All printable characters have keys, which are the keyboard's, each another chord.
	seen := map[string]rune{}
	for r := ' '; r <= '~'; r++ {
		c := ofCharacter(r)
		name := strings.Join(c, "-")
		if other, ok := seen[name]; ok || len(c) == 0 {
			t.Errorf("%q has the keys of %q: %v", r, other, c)
		}
		seen[name] = r
		if _, err := Keys(name); err != nil {
			t.Error(err)
		}
	}
	for text, want := range map[string]string{
		"ä":                            "the character 'ä' cannot be typed (valid: printable ASCII",
		"a\x1b":                        `the character '\x1b' cannot be typed`,
		"\xff":                         "cannot be typed",
		"\x00":                         `the character '\x00' cannot be typed`,
		strings.Repeat("x", MaxText+1): "at most 65536 can be typed at once",
	} {
		if _, err := Text(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.10q: %v, want %q", text, err, want)
		}
	}
}

func TestKeys(t *testing.T) {
	if got, err := Keys("ctrl-alt-delete"); err != nil || !slices.Equal(got, Chord{"ctrl", "alt", "delete"}) {
		t.Errorf("%v, %v", got, err)
	}
	for name, want := range map[string]string{
		"enter":    `"enter" is no key (valid: a to z, 0 to 9, esc, tab, ret,`,
		"":         `"" is no key`,
		"ctrl-":    `"" is no key`,
		"A":        `"A" is no key`,
		"a-b-a":    `"a-b-a" has the key "a" twice`,
		"x\x1b[2J": `"x\x1b[2J" is no key`,
	} {
		if _, err := Keys(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// keyboard has room for one key, which its guest takes at the third look.
type keyboard struct {
	got   []string
	looks int
	dead  bool
	t     *testing.T
}

func (k *keyboard) Key(_ context.Context, name string, down bool) error {
	if k.looks != 0 {
		k.t.Errorf("%s before %v were taken", name, k.got)
	}
	if !down {
		name = "-" + name
	}
	k.got, k.looks = append(k.got, name), 3
	return nil
}

func (k *keyboard) KeysTaken(context.Context) (bool, error) {
	if !k.dead {
		k.looks--
	}
	return k.looks == 0, nil
}

func TestType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keyboard{t: t}
		if err := Type(t.Context(), k, []Chord{{"shift", "a"}, {"b"}}); err != nil {
			t.Fatal(err)
		}
		if want := []string{"shift", "a", "-a", "-shift", "b", "-b"}; !slices.Equal(k.got, want) {
			t.Error(k.got)
		}
		k = &keyboard{t: t, dead: true}
		err := Type(t.Context(), k, []Chord{{"a"}})
		if err == nil || !strings.Contains(err.Error(), `has not taken the key "a" within 30s`) {
			t.Error(err)
		}
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stopped)
		k = &keyboard{t: t, dead: true}
		if err := Type(ctx, k, []Chord{{"a"}}); !errors.Is(err, stopped) {
			t.Error(err)
		}
	})
}

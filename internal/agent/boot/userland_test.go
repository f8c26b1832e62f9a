package boot

import (
	"slices"
	"testing"
)

func TestParseUserland(t *testing.T) {
	u, ok := parseUserland("userland init\nenv \"A=b\\nc\"\nenv \"PATH=/x\"\nenv \"=\"\nenv A=b\nworkdir \"/srv\"\n" +
		"later \"x\"\nfilesystem \"ext4\"\nuser \"postgres\"\n")
	if !ok || u.serial != "userland" || u.kind != "ext4" || !u.init || u.commands.Dir != "/srv" ||
		u.commands.User != "postgres" || !slices.Equal(u.commands.Env, []string{"A=b\nc", "PATH=/x"}) {
		t.Errorf("%+v", u)
	}
	if u, ok := parseUserland("userland\n"); !ok || u.init || u.commands.Env != nil {
		t.Errorf("%+v", u)
	}
	if _, ok := parseUserland(" \n"); ok {
		t.Error("nothing is a userland")
	}
}

func FuzzUserland(f *testing.F) {
	f.Add("userland init\nenv \"A=b\"\nworkdir \"/srv\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		u, ok := parseUserland(text)
		if ok && u.serial == "" {
			t.Errorf("%+v", u)
		}
	})
}

package boot

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// FuzzCmdline checks that the last word for a setting counts, up to two hyphens, and that
// other words change nothing.
func FuzzCmdline(f *testing.F) {
	f.Add("quiet root=/dev/vda1 rw rootfstype=ext4 rootflags=noatime init=/bin/init -- init=/x ro")
	f.Add("rdinit= root==x\tro\nrw")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseCmdline(text)
		for _, value := range []string{c.rdinit, c.root, c.init, c.fstype, c.options} {
			if len(strings.Fields(value)) > 1 {
				t.Errorf("value %q", value)
			}
		}
		if same := parseCmdline(text + "\t-- root=/dev/no init=/no rw ro"); same != c {
			t.Errorf("%q: what follows the hyphens counts: %+v", text, same)
		}
		first := "root root= ro rdinit=/init init= rootfstype= rootflags= x=y "
		if same := parseCmdline(first + text); same != c {
			t.Errorf("%q: the first words count: %+v, want %+v", text, same, c)
		}
		access := map[bool]string{true: "ro", false: "rw"}[c.readOnly]
		again := fmt.Sprintf("rdinit=%s root=%s init=%s rootfstype=%s rootflags=%s %s", c.rdinit, c.root, c.init,
			c.fstype, c.options, access)
		if same := parseCmdline(again); same != c {
			t.Errorf("%+v became %+v", c, same)
		}
	})
}

// FuzzModules checks that a list of modules is the same when it is written and read again.
func FuzzModules(f *testing.F) {
	f.Add("virtio.ko\n\n# note\n  !a/b.ko  x=1 y=2 \n?c.ko\n")
	f.Add("!\n?\n!?x\n??y\n!#z")
	f.Fuzz(func(t *testing.T, text string) {
		list := parseModules(text)
		var again strings.Builder
		for _, m := range list {
			if strings.ContainsAny(m.path, " \n") || strings.Contains(m.params, "\n") {
				t.Errorf("%+v", m)
			}
			mark := ""
			if m.needed {
				mark += "!"
			}
			if m.soft {
				mark += "?"
			}
			if mark == "" && (m.path == "" || strings.HasPrefix(m.path, "#")) {
				t.Errorf("%+v is no module", m)
			}
			again.WriteString(mark + m.path + " " + m.params + "\n")
		}
		if same := parseModules(again.String()); !reflect.DeepEqual(same, list) {
			t.Errorf("%+v became %+v", list, same)
		}
	})
}

package lab

import (
	"fmt"
	"slices"
	"strings"
)

// reserved are the names that a lookup with a dot finds methods under.
var reserved = [...]string{"pack", "unpack", "vm_fixture", "lab_fixture"}

const maxName = 63

// checkName returns an error when a VM, lab or bridge cannot have that name.
func checkName(kind, name string) error {
	if slices.Contains(reserved[:], name) {
		return fmt.Errorf("%s name `%s` is reserved (reserved: %s)", kind, name, strings.Join(reserved[:], ", "))
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
	if name == "" || len(name) > maxName || bad >= 0 {
		return fmt.Errorf("%s name `%s` is not valid (1 to %d of A-Z, a-z, 0-9, _ and -)", kind, name, maxName)
	}
	return nil
}

// firstFree returns the first of name(from), name(from+1), ... that is not taken, and
// its number.
func firstFree(from int, name func(int) string, taken func(string) bool) (string, int) {
	for n := from; ; n++ {
		if s := name(n); !taken(s) {
			return s, n
		}
	}
}

// numbered returns base with a suffix and a number. A base that is too long for a name
// is cut.
func numbered(base, suffix string, n int) string {
	tail := fmt.Sprintf("%s%d", suffix, n)
	return base[:min(len(base), maxName-len(tail))] + tail
}

package topology

import (
	"fmt"
	"slices"
	"strings"
)

// reserved are the names that a lookup with a dot finds methods under.
var reserved = [...]string{"pack", "unpack", "vm_fixture", "lab_fixture"}

// MaxName is the longest name, in bytes.
const MaxName = 63

// CheckName returns an error when a VM, lab or bridge cannot have that name.
func CheckName(kind, name string) error {
	if slices.Contains(reserved[:], name) {
		return fmt.Errorf("%s name `%s` is reserved (reserved: %s)", kind, name, strings.Join(reserved[:], ", "))
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
	if name == "" || len(name) > MaxName || bad >= 0 {
		return fmt.Errorf("%s name `%s` is not valid (1 to %d of A-Z, a-z, 0-9, _ and -)", kind, name, MaxName)
	}
	return nil
}

// FirstFree returns the first of name(from), name(from+1), ... that is not taken, and
// its number.
func FirstFree(from int, name func(int) string, taken func(string) bool) (string, int) {
	for n := from; ; n++ {
		if s := name(n); !taken(s) {
			return s, n
		}
	}
}

// Numbered returns base with a suffix and a number. A base that is too long for a name
// is cut.
func Numbered(base, suffix string, n int) string {
	tail := fmt.Sprintf("%s%d", suffix, n)
	return base[:min(len(base), MaxName-len(tail))] + tail
}

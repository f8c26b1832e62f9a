package image

import "strings"

// compareReleases compares kernel releases: runs of digits by value, the rest as text,
// and a release candidate before its release.
func compareReleases(a, b string) int {
	a, b = strings.ReplaceAll(a, "-rc", "~rc"), strings.ReplaceAll(b, "-rc", "~rc")
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if x != y {
				return strings.Compare(x, y)
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return rank(a) - rank(b)
		}
		a, b = a[1:], b[1:]
	}
	return rank(a) - rank(b)
}

// rank returns the order of a rest after equal parts: "~" comes before the end of the
// text, and the end before everything else.
func rank(rest string) int {
	switch {
	case rest == "":
		return 0
	case rest[0] == '~':
		return -1
	}
	return int(rest[0])
}

// digits returns how many digits s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

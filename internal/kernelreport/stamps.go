package kernelreport

import "strings"

// Stamps says whether a kernel puts a time stamp before each of its lines.
type Stamps int

// Whether a kernel stamps its lines.
const (
	StampsUnknown Stamps = iota // until the first line with a stamp
	HasStamps
	HasNoStamps
)

// StampsOf returns what a kernel command line says about time stamps: its last
// printk.time= counts.
func StampsOf(cmdline string) Stamps {
	s := StampsUnknown
	for _, word := range strings.Fields(cmdline) {
		if word == "--" {
			break // the rest is for init
		}
		key, value, given := strings.Cut(strings.ReplaceAll(word, `"`, ""), "=")
		if key != "printk.time" {
			continue
		}
		// As the kernel reads a flag.
		switch v := strings.ToLower(value); {
		case !given, v == "1", strings.HasPrefix(v, "y"), strings.HasPrefix(v, "t"), strings.HasPrefix(v, "on"):
			s = HasStamps
		case v == "0", strings.HasPrefix(v, "n"), strings.HasPrefix(v, "f"), strings.HasPrefix(v, "of"):
			s = HasNoStamps
		}
	}
	return s
}

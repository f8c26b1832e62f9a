package artifacts

import (
	"path"
	"strings"
)

const (
	longestName   = 100 // bytes of a file name that is made of a text
	longestFolder = 60  // bytes of each part of the name of a folder
)

// FileName returns a part of a name that every file system takes, like a text of a test or a guest. It has
// no slash, and may begin with a dot.
func FileName(text string) string { return plainName(text, longestName, true) }

// plainName is FileName with a length; end says to keep the end of a long text.
func plainName(text string, longest int, end bool) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, text)
	if end {
		plain = plain[max(0, len(plain)-longest):]
	}
	return plain[:min(len(plain), longest)]
}

// visible returns a name that does not begin with a dot.
func visible(name string) string {
	if name == "" || name[0] == '.' {
		return "_" + name
	}
	return name
}

// folderName returns the name of the folder of a test; with "", of the file.
func folderName(file, test string) string {
	name := plainName(strings.TrimSuffix(path.Base(file), ".test.lua"), longestFolder, true)
	if test != "" {
		name += "." + plainName(test, longestFolder, false)
	}
	return visible(name)
}

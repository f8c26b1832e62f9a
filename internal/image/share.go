package image

import (
	"fmt"
	"strings"

	"provium/internal/machine"
)

// shareModule is the guest's driver of directories that it shares with the host.
const shareModule = "virtiofs"

// guestShares is the file that says in the initrd which directories the guest shares with the host: the tag and the
// quoted path of one in each line.
const guestShares = guestDir + "/shares"

// shareItems are what the initrd says about shared directories.
func shareItems(places []string) []item {
	if len(places) == 0 {
		return nil
	}
	var text strings.Builder
	for i, place := range places {
		fmt.Fprintf(&text, "%s %q\n", machine.Tag(i), place)
	}
	return []item{fileItem(guestShares, 0o644, []byte(text.String()))}
}

package choose

import "encoding/json"

// Choice returns what is wanted of the tests of files as a text, by which two choices can be
// compared: "" for all that are not slow. picks are by file.
func (f Filter) Choice(picks map[string]Picks) string {
	empty := !f.IncludeSlow && f.Keyword == "" &&
		len(f.Tags)+len(f.NoTags)+len(f.TagMeta)+len(f.NoTagMeta)+len(f.Names) == 0
	if empty && len(picks) == 0 {
		return ""
	}
	filter, _ := f.JSON() // lists of texts and numbers: neither can fail
	files, _ := json.Marshal(picks)
	return string(filter) + string(files)
}

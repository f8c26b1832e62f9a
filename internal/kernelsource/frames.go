package kernelsource

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxFrames is how many frames of a text are named.
const maxFrames = 512

// frame is a place in a function, as kernels print it: name+offset/size [module].
type frame struct {
	name         string
	module       string // "" for the kernel itself
	offset, size uint64
	isReturn     bool // the address is that behind a call
	end          int  // where in the text it ends
}

var frameForm = regexp.MustCompile(
	`([A-Za-z_$.][\w$.]*)\+0x([0-9a-f]{1,8})/0x([0-9a-f]{1,8})(?: \[([\w-]+)(?: [0-9a-f]{40})?\])?`)

// exactMarks stand before frames whose address is that of an instruction, not one to return to.
var exactMarks = []string{"RIP: ", "EIP: ", "pc : ", "epc : ", "RIP 0x"}

// framesIn returns the frames of a text, in their order.
func framesIn(text string) (frames []frame) {
	for _, at := range frameForm.FindAllStringSubmatchIndex(text, maxFrames) {
		part := func(n int) string {
			if at[2*n] < 0 {
				return ""
			}
			return text[at[2*n]:at[2*n+1]]
		}
		offset, _ := strconv.ParseUint(part(2), 16, 64)
		size, _ := strconv.ParseUint(part(3), 16, 64)
		if offset > size || strings.HasPrefix(text[at[1]:], " (") {
			continue // no frame, or named already
		}
		line := text[strings.LastIndexByte(text[:at[0]], '\n')+1 : at[0]]
		isExact := slices.ContainsFunc(exactMarks, func(m string) bool { return strings.Contains(line, m) })
		frames = append(frames, frame{name: part(1), module: strings.ReplaceAll(part(4), "-", "_"), offset: offset,
			size: size, isReturn: !isExact && offset > 0, end: at[1]})
	}
	return frames
}

// insert returns the text with the names of frames behind them.
func insert(text string, frames []frame, names []string) string {
	var b strings.Builder
	from := 0
	for i, f := range frames {
		if names[i] == "" {
			continue
		}
		b.WriteString(text[from:f.end])
		b.WriteString(" (" + names[i] + ")")
		from = f.end
	}
	b.WriteString(text[from:])
	return b.String()
}

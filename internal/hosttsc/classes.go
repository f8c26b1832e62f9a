package hosttsc

// width is the width of a class in kHz.
const width = 16_000

// Classes returns the classes of frequencies to which a counter may belong that was measured
// at khz, in order. There are two where another measurement of the same counter might come
// to the other side of a border.
func Classes(khz int) []int {
	class, above, doubt := khz/width, khz%width, khz/1000
	switch {
	case above < doubt:
		return []int{class - 1, class}
	case width-above <= doubt:
		return []int{class, class + 1}
	}
	return []int{class}
}

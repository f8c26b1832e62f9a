package kernelreport

import "bytes"

// MaxLine bounds what is kept of one line, in bytes; longer ones are treated as several.
const MaxLine = 4096

// Clean removes terminal escape sequences and control characters but the tab, using
// buf for the result when there is something to remove.
func Clean(line, buf []byte) []byte {
	i := firstControl(line)
	if i < 0 {
		return line
	}
	out := append(buf[:0], line[:i]...)
	for i < len(line) {
		c := line[i]
		switch {
		case c == 0x1b:
			i += escapeLen(line[i:])
			continue
		case c == '\t' || c >= ' ' && c != 0x7f:
			out = append(out, c)
		}
		i++
	}
	return out
}

func firstControl(line []byte) int {
	for i, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return -1
}

// escapeLen returns the length of the escape sequence that b starts with.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return len(b)
	}
	switch b[1] {
	case '[': // CSI: parameters, then one final byte
		for i := 2; i < len(b); i++ {
			if b[i] >= 0x40 && b[i] <= 0x7e {
				return i + 1
			}
		}
		return len(b)
	case ']', 'P', '^', '_': // strings, ended by BEL or ESC \
		for i := 2; i < len(b); i++ {
			if b[i] == 0x07 {
				return i + 1
			}
			if b[i] == 0x1b {
				return min(i+2, len(b))
			}
		}
		return len(b)
	case '(', ')', '*', '+', '#', '%':
		return min(3, len(b))
	}
	return 2
}

// message is a line taken apart.
type message struct {
	stamp  []byte // "12.345678", or empty
	caller []byte // "T12" or "C0" of CONFIG_PRINTK_CALLER, or empty
	text   []byte // what follows level, time stamp and caller
}

// parse finds the kernel's message in a line. A time stamp may stand behind
// other output, as a prompt without a newline; the last one counts. Without
// one the whole line is the text.
func parse(line []byte) message {
	if len(line) > 3 && line[0] == '<' && line[2] == '>' && isDigit(line[1]) {
		line = line[3:] // the level, as some loaders show it
	}
	m := message{text: line}
	rest := line
	for {
		i := bytes.IndexByte(rest, '[')
		if i < 0 {
			break
		}
		rest = rest[i:]
		n := stampLen(rest)
		if n == 0 {
			rest = rest[1:]
			continue
		}
		m.stamp = bytes.TrimLeft(rest[1:n-1], " ")
		rest = rest[n:]
		m.caller, m.text = cutCaller(rest)
	}
	m.text = bytes.TrimLeft(m.text, " ")
	return m
}

// stampLen returns the length of "[    1.234567]" at the start of b, or 0.
func stampLen(b []byte) int {
	i := 1
	for i < len(b) && b[i] == ' ' && i < 8 {
		i++
	}
	whole := i
	for i < len(b) && isDigit(b[i]) && i-whole < 10 {
		i++
	}
	if i == whole || i+7 >= len(b) || b[i] != '.' || b[i+7] != ']' {
		return 0
	}
	for _, c := range b[i+1 : i+7] {
		if !isDigit(c) {
			return 0
		}
	}
	return i + 8
}

// cutCaller cuts off the "[   T12]" or "[    C0]" of CONFIG_PRINTK_CALLER.
func cutCaller(b []byte) (caller, rest []byte) {
	t := bytes.TrimLeft(b, " ")
	if len(t) == 0 || t[0] != '[' {
		return nil, b
	}
	i := 1
	for i < len(t) && t[i] == ' ' {
		i++
	}
	if i >= len(t) || t[i] != 'T' && t[i] != 'C' {
		return nil, b
	}
	digits := i + 1
	for i = digits; i < len(t) && isDigit(t[i]); i++ {
	}
	if i == digits || i >= len(t) || t[i] != ']' {
		return nil, b
	}
	return t[digits-1 : i], t[i+1:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

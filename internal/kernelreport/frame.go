package kernelreport

import "strings"

// counters are how registers that hold the program counter are named, by architecture.
var counters = []string{
	"RIP: ", "RIP [", "EIP: ", "EIP is at ", "IP: ", "pc : ", "PC is at ", "NIP [", "NIP: ", "epc : ", "epc   : ",
	"ERA: ", "Krnl PSW", "--- interrupt: ",
}

// cutCounter returns what follows the name of the program counter.
func cutCounter(text string) (rest string, ok bool) {
	for _, c := range counters {
		if rest, ok = strings.CutPrefix(text, c); ok {
			return rest, true
		}
	}
	return "", false
}

// framesOf appends the functions that a line of a report has as frames to list. isCounter is
// set if the line shows the program counter. Frames that the kernel doubts are left out.
func framesOf(list []string, text string) (frames []string, isCounter bool) {
	text = strings.TrimLeft(text, " \t")
	if rest, ok := cutCounter(text); ok {
		if name := symbolIn(rest); name != "" {
			list = append(list, name)
		}
		return list, true
	}
	text = cutMarks(text)
	if strings.HasPrefix(text, "? ") || strings.HasSuffix(text, "(unreliable)") {
		return list, false
	}
	if strings.HasPrefix(text, "(") {
		return armFrames(list, text), false
	}
	if name, ok := symbol(text); ok {
		list = append(list, name)
	}
	return list, false
}

// cutMarks cuts off what stands before the function of a frame: marks of the stack that it is
// on, and addresses.
func cutMarks(text string) string {
	for {
		text = strings.TrimLeft(text, " \t")
		switch {
		case strings.HasPrefix(text, "<"):
			i := strings.IndexByte(text, '>')
			if i < 0 || i > 16 || strings.Contains(text[:i], " as ") || i+1 < len(text) && text[i+1] == ':' {
				return text
			}
			text = text[i+1:]
		case strings.HasPrefix(text, "["):
			i := strings.IndexByte(text, ']')
			if i < 0 || !isAddress(strings.Trim(text[1:i], "<>")) {
				return text
			}
			text = text[i+1:]
		default:
			return text
		}
	}
}

func isAddress(s string) bool {
	s = strings.TrimPrefix(s, "0x")
	return len(s) >= 8 && strings.Trim(s, "0123456789abcdef") == ""
}

// armFrames reads "(a) from [<c0102d4c>] (b+0x18/0x1c)".
func armFrames(list []string, text string) []string {
	callee, caller, ok := strings.Cut(text, " from ")
	if !ok {
		return list
	}
	if name := plainName(strings.Trim(callee, "()")); name != "" {
		list = append(list, name)
	}
	if i := strings.IndexByte(caller, '('); i >= 0 {
		if name, ok := symbol(caller[i+1:]); ok {
			list = append(list, name)
		}
	}
	return list
}

// symbolIn returns the first function with an offset in a text.
func symbolIn(text string) string {
	for word := range strings.FieldsSeq(text) {
		for _, sep := range []string{"(", "]", ":"} {
			if i := strings.LastIndex(word, sep); i >= 0 && i < strings.Index(word, "+0x") {
				word = word[i+1:]
			}
		}
		if name, ok := symbol(word); ok {
			return name
		}
	}
	return ""
}

// symbol reads "name+0x12/0x34" at the beginning of a text.
func symbol(text string) (name string, ok bool) {
	i := strings.Index(text, "+0x")
	if i <= 0 || i > 512 {
		return "", false
	}
	rest := text[i+3:]
	hex := len(rest) - len(strings.TrimLeft(rest, "0123456789abcdef"))
	if hex == 0 {
		return "", false
	}
	name = plainName(text[:i])
	return name, name != ""
}

// plainName returns the name of a function without what the compiler has appended to it:
// "foo.isra.0.cold" is foo. It returns "" for what is no name.
func plainName(s string) string {
	s = strings.TrimPrefix(s, ".") // powerpc's entry points
	if strings.HasPrefix(s, "_R") {
		return rustName(s)
	}
	s, _, _ = strings.Cut(s, ".")
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '$' {
			return ""
		}
	}
	if s == "" || isDigit(s[0]) {
		return ""
	}
	return s
}

// rustName returns the path of a function of Rust whose symbol begins with "_R", as far as
// that consists of plain names: crates, modules and the function.
func rustName(s string) string {
	var parts []string
	for i := 2; i < len(s); {
		switch {
		case s[i] == 's' || s[i] == 'B': // a number that tells equal names apart, or a reference
			_, rest, ok := strings.Cut(s[i:], "_")
			if !ok {
				return strings.Join(parts, "::")
			}
			i = len(s) - len(rest)
			continue
		case !isDigit(s[i]):
			i++
			continue
		}
		n := 0
		for ; i < len(s) && isDigit(s[i]) && n < 1000; i++ {
			n = n*10 + int(s[i]-'0')
		}
		if i < len(s) && s[i] == '_' {
			i++
		}
		if n == 0 || i+n > len(s) {
			break
		}
		parts = append(parts, s[i:i+n])
		i += n
	}
	return strings.Join(parts, "::")
}

// calls are the prefixes of the functions around a system call, by version and architecture.
var calls = []string{
	"__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__x32_compat_sys_", "__arm64_sys_", "__arm64_compat_sys_",
	"__riscv_sys_", "__s390x_sys_", "__se_sys_", "__se_compat_sys_", "__do_sys_", "__do_compat_sys_", "____sys_",
	"___sys_", "__sys_", "ksys_", "SYSC_", "SyS_", "compat_SYSC_", "compat_SyS_", "compat_sys_",
}

// canonical returns one name for the functions around a system call: sys_ and its name.
func canonical(name string) string {
	for _, prefix := range calls {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return "sys_" + rest
		}
	}
	return name
}

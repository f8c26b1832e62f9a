package terminal

import "testing"

func TestWithoutRepeated(t *testing.T) {
	const report = "[1] BUG: x\n[1] trace\n[1] end\n"
	for _, c := range []struct{ console, message, want string }{
		{"before\n[1] BUG: x\r\n[1] trace\r\n[1] end\r\nafter\n", "guest failure: BUG: x\n" + report,
			"before\n[3 lines of the report above]\nafter\n"},
		{"[1] BUG: x\n[1] trace\nafter", "guest failure: BUG: x\n" + report, "[1] BUG: x\n[1] trace\nafter"},
		{"[1] BUG: x\n[1]  f+0x1/0x2\n[1]  ? g+0x1/0x2 [mod]\n", "[1] BUG: x\n[1]  f+0x1/0x2 (a/b.c:7)\n" +
			"[1]  ? g+0x1/0x2 [mod] (/src/c d.c:19)\n", "[3 lines of the report above]\n"},
		{"\n\n\n\n", "a\n\n\n\n\nb", "\n\n\n\n"}, {"", "x", ""}, {"a\nb", "", "a\nb"},
	} {
		if got := WithoutRepeated(c.console, c.message); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

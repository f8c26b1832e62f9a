package image

import (
	"strings"
	"testing"

	"provium/internal/arch"
)

func ptr(s string) *string { return &s }

func TestCmdline(t *testing.T) {
	const tail = " console=ttyS0 rdinit=/sbin/provium-agent"
	for _, c := range []struct {
		name string
		spec CmdlineSpec
		want string
	}{
		{"default", CmdlineSpec{Inject: true}, arch.AMD64.Cmdline + tail},
		{"default without agent", CmdlineSpec{}, arch.AMD64.Cmdline + " console=ttyS0"},
		{"profile", CmdlineSpec{Cmdline: ptr("quiet nokaslr"), Inject: true, ExplicitKernel: true}, "quiet nokaslr" +
			tail},
		{"file and profile", CmdlineSpec{File: ptr("a=1\nb=2\n"), Cmdline: ptr("a=3"), Inject: true}, "a=1 b=2 a=3" +
			tail},
		{"file", CmdlineSpec{File: ptr(" a=1 "), ExplicitKernel: true, Inject: true}, "a=1" + tail},
		{"boot replaces both", CmdlineSpec{File: ptr("a=1"), Cmdline: ptr("b=2"), Boot: ptr("c=3"), Inject: true},
			"c=3" + tail},
		{"boot may be blank", CmdlineSpec{Cmdline: ptr("b=2"), Boot: ptr(""), Inject: true}, strings.TrimSpace(tail)},
		{"append goes last", CmdlineSpec{Cmdline: ptr("a=1"), Append: "a=2 loglevel=7", Inject: true}, "a=1" + tail +
			" a=2 loglevel=7"},
		{"console present", CmdlineSpec{Cmdline: ptr("console=ttyS0,115200 a=1")}, "console=ttyS0,115200 a=1"},
		{"console quoted", CmdlineSpec{Cmdline: ptr(`"console=ttyS0"`)}, `"console=ttyS0"`},
		{"console in append", CmdlineSpec{Cmdline: ptr("a=1"), Append: "console=ttyS0"}, "a=1 console=ttyS0"},
		{"other consoles stay", CmdlineSpec{Cmdline: ptr("console=tty0 console=ttyS01 console=hvc0")},
			"console=tty0 console=ttyS01 console=hvc0 console=ttyS0"},
		{"our rdinit present", CmdlineSpec{Cmdline: ptr("rdinit=/sbin/provium-agent"), Inject: true},
			"rdinit=/sbin/provium-agent console=ttyS0"},
		{"other rdinit without agent", CmdlineSpec{Cmdline: ptr("rdinit=/bin/sh")}, "rdinit=/bin/sh console=ttyS0"},
		{"init arguments stay last", CmdlineSpec{Cmdline: ptr("quiet -- single console=ttyS0"), Append: "x=1 -- two",
			Inject: true}, "quiet" + tail + " x=1 -- single console=ttyS0 two"},
		{"quotes", CmdlineSpec{Cmdline: ptr(`dyndbg="file a.c +p" -- x`)}, `dyndbg="file a.c +p" console=ttyS0 -- x`},
		{"whitespace", CmdlineSpec{Cmdline: ptr("\ta=1 \r\n  b=2 ")}, "a=1 b=2 console=ttyS0"},
	} {
		c.spec.Profile = "p"
		if got, err := Cmdline(c.spec); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestBadCmdline(t *testing.T) {
	for _, c := range []struct {
		name string
		spec CmdlineSpec
		want string
	}{
		{"blank", CmdlineSpec{Cmdline: ptr(" \n")}, "profile `p` has empty cmdline"},
		{"blank beside a file", CmdlineSpec{Cmdline: ptr(""), File: ptr("a")}, "profile `p` has empty cmdline"},
		{"blank file", CmdlineSpec{File: ptr("\n")}, "profile `p` has empty cmdline"},
		{"absent with a kernel", CmdlineSpec{ExplicitKernel: true}, "profile `p` has empty cmdline"},
		{"rdinit", CmdlineSpec{Cmdline: ptr("rdinit=/init"), Inject: true}, "rdinit=/init, but the agent has to " +
			"start as rdinit=/sbin/provium-agent: remove it, or set inject_agent = false"},
		{"rdinit appended", CmdlineSpec{Append: "rdinit=/init", Inject: true},
			"remove it, or set inject_agent = false"},
		{"quote", CmdlineSpec{Cmdline: ptr(`a="b c`)}, "missing closing quote"},
		{"NUL", CmdlineSpec{Cmdline: ptr("a\x00b")}, "control character"},
		{"break in quotes", CmdlineSpec{Cmdline: ptr("a=\"b\nc\"")}, "line break inside quotes"},
		{"long", CmdlineSpec{Cmdline: ptr(strings.Repeat("a", 2040))},
			"has 2054 bytes, and the kernel takes at most 2047"},
	} {
		c.spec.Profile = "p"
		if got, err := Cmdline(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func FuzzCmdline(f *testing.F) {
	f.Add("quiet -- x", "a=1")
	f.Add(`a="b c"`, "rdinit=/init")
	f.Fuzz(func(t *testing.T, cmdline, appended string) {
		got, err := Cmdline(CmdlineSpec{Profile: "p", Cmdline: &cmdline, Append: appended, Inject: true})
		if err != nil {
			return
		}
		if strings.ContainsAny(got, "\n\x00") || len(got) > arch.AMD64.MaxCmdline {
			t.Fatalf("%q", got)
		}
		again, err := Cmdline(CmdlineSpec{Profile: "p", Cmdline: &got, Inject: true})
		if err != nil || again != got {
			t.Fatalf("%q became %q, %v", got, again, err)
		}
	})
}

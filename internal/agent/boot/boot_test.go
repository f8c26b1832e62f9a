package boot

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseModules(t *testing.T) {
	got := parseModules("virtio.ko\n\n# note\n  !a/b.ko  x=1 y=2 \n?c.ko\n")
	want := []module{{path: "virtio.ko"}, {path: "a/b.ko", params: "x=1 y=2", needed: true}, {path: "c.ko", soft: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestParseManifest(t *testing.T) {
	got, err := parseManifest("644 \"/etc/host name\" 0\n4755 \"/a\\n\\xff\" 17\n")
	want := []bootFile{{0o644, "/etc/host name", "0"}, {0o4755, "/a\n\xff", "17"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for bad, words := range map[string]string{
		"644":                `line 1: three fields`,
		"99 \"/a\" 1":        `mode "99" is none`,
		"10000 \"/a\" 1":     `mode "10000"`,
		"644 /a 1":           `path /a is not quoted`,
		"644 \"a\" 1":        `path "a" is no absolute path`,
		"644 \"/..\" 1":      `path "/.." is no absolute path`,
		"644 \"/a\\x00\" 1":  `is no absolute path`,
		"644 \"/a\" ../x":    `content "../x" is no number`,
		"644 \"/a\" 1\nrest": `line 2`,
	} {
		if _, err := parseManifest(bad); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("644 \"/etc/hostname\" 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseManifest(text)
		for _, b := range list {
			if err != nil || b.path[0] != '/' || b.mode > 0o7777 || strings.ContainsAny(b.source, "/.") {
				t.Errorf("%+v, %v", b, err)
			}
		}
	})
}

func TestParseCmdline(t *testing.T) {
	got := parseCmdline("quiet root=/dev/vda1 rw rootfstype=ext4 rootflags=noatime init=/bin/init -- init=/x ro")
	want := cmdline{rdinit: "/init", root: "/dev/vda1", init: "/bin/init", fstype: "ext4", options: "noatime"}
	if got != want {
		t.Errorf("%+v", got)
	}
	if got := parseCmdline("console=ttyS0"); got != (cmdline{rdinit: "/init", readOnly: true}) {
		t.Errorf("%+v", got)
	}
}

func TestRootMatcher(t *testing.T) {
	device := properties("MAJOR=254\nMINOR=1\nDEVNAME=vda1\nPARTN=1\nPARTUUID=ab-01\nPARTNAME=root\n")
	for root, want := range map[string]bool{
		"/dev/vda1": true, "/dev/vda": false, "PARTUUID=AB-01": true, "PARTLABEL=root": true, "254:1": true,
		"254:2": false,
	} {
		match, err := rootMatcher(root)
		if err != nil || match(device) != want {
			t.Errorf("%s: %v", root, err)
		}
	}
	if _, err := rootMatcher("LABEL=x"); err == nil || !strings.Contains(err.Error(), "PARTUUID=") {
		t.Error(err)
	}
}

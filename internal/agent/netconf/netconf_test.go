package netconf

import "testing"

func TestPCIPath(t *testing.T) {
	for target, want := range map[string]string{
		"../../devices/pci0000:00/0000:00:1e.0/0000:01:02.0/virtio5/net/eth0": "1e.0/02.0",
		"../../devices/pci0000:00/0000:00:03.0/net/eth0":                      "03.0",
		"../../devices/virtual/net/lo":                                        "",
		"":                                                                    "",
	} {
		if got := pciPath(target); got != want {
			t.Errorf("%s: %q", target, got)
		}
	}
}

func TestEditHosts(t *testing.T) {
	ours := hostsBegin + "10.0.0.2 a\n" + hostsEnd
	for _, c := range []struct{ old, text, want string }{
		{"", "10.0.0.2 a\n", "127.0.0.1 localhost\n::1 localhost\n" + ours},
		{"1.2.3.4 x", "10.0.0.2 a\n", "1.2.3.4 x\n" + ours},
		{"1.2.3.4 x\n" + ours + "5.6.7.8 y\n", "10.0.0.2 a\n", "1.2.3.4 x\n5.6.7.8 y\n" + ours},
		{"1.2.3.4 x\n" + ours, "", "1.2.3.4 x\n"},
		{hostsBegin + "cut", "10.0.0.2 a\n", hostsBegin + "cut\n" + ours},
		{"", "", ""},
	} {
		if got := string(editHosts([]byte(c.old), c.text)); got != c.want {
			t.Errorf("%q and %q: %q", c.old, c.text, got)
		}
	}
}

package accelerator

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"provium/internal/arch"
)

func TestChooseAccel(t *testing.T) {
	opens := func() error { return nil }
	closed := func() error { return errors.New("open /dev/kvm: permission denied") }
	cpu := func(flags string) fstest.MapFS {
		return fstest.MapFS{"cpuinfo": {Data: []byte("processor\t: 0\nflags\t\t: " + flags + "\n")}}
	}
	for _, tc := range []struct {
		want    string
		open    func() error
		flags   string
		name    string
		whyOrEr string
	}{
		{"", opens, "fpu vmx", "kvm", "virtualisation"},
		{"auto", opens, "fpu svm", "kvm", "virtualisation"},
		{"auto", opens, "fpu vmx_not", "tcg", "neither vmx nor svm"},
		{"auto", closed, "vmx", "tcg", "permission denied"},
		{"kvm", opens, "vmx", "kvm", "asked for"},
		{"kvm", closed, "vmx", "", "cannot be used: open /dev/kvm: permission denied"},
		{"kvm", opens, "fpu", "", "neither vmx nor svm"},
		{"tcg", opens, "vmx", "tcg", "asked for"},
		{"xen", opens, "vmx", "", "unknown accelerator `xen` (valid: auto, kvm, tcg)"},
	} {
		got, err := Choose(tc.want, arch.AMD64, Host{OpenKVM: tc.open, Proc: cpu(tc.flags)})
		text := got.Why
		if err != nil {
			text = err.Error()
		}
		if got.Name != tc.name || (err != nil) != (tc.name == "") || !strings.Contains(text, tc.whyOrEr) {
			t.Errorf("%s/%s: %+v, %v", tc.want, tc.flags, got, err)
		}
	}
}

// TestAccelOfArchitectures has KVM only where host and guest are of one architecture.
func TestAccelOfArchitectures(t *testing.T) {
	opens := func() error { return nil }
	flags := map[*arch.Arch]string{arch.AMD64: "flags : vmx\n"}
	for _, host := range arch.All() {
		for _, guest := range arch.All() {
			h := Host{Arch: host, OpenKVM: opens, Proc: fstest.MapFS{"cpuinfo": {Data: []byte(flags[host])}}}
			auto, err := Choose("auto", guest, h)
			if want := map[bool]string{true: "kvm", false: "tcg"}[host == guest]; auto.Name != want || err != nil {
				t.Errorf("%s on %s: %+v, %v", guest, host, auto, err)
			}
			forced, err := Choose("kvm", guest, h)
			if host == guest && (forced.Name != "kvm" || err != nil) {
				t.Errorf("%s on %s: %+v, %v", guest, host, forced, err)
			}
			want := "the guest is " + guest.Name + ", and this host " + host.Name
			if host != guest && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s on %s: %v", guest, host, err)
			}
		}
	}
}

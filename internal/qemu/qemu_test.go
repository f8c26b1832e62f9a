package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/arch"
	"provium/internal/machine"
	"provium/internal/proc"
)

// TestKernelCommandLine has what emulated kernels are told.
func TestKernelCommandLine(t *testing.T) {
	long := strings.Repeat("x", arch.AMD64.MaxCmdline-10)
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"unknown", Config{Cmdline: "quiet"}, "quiet"},
		{"in front, so that what follows wins", Config{Cmdline: "quiet -- x", TSCKHz: 2096011},
			"tsc_early_khz=2096011 quiet -- x"},
		{"alone", Config{TSCKHz: 2096011}, "tsc_early_khz=2096011"},
		{"kvm", Config{Cmdline: "quiet", TSCKHz: 2096011, Accel: "kvm"}, "quiet"},
		{"no room", Config{Cmdline: long, TSCKHz: 2096011}, long},
	} {
		if got := tc.cfg.cmdline(); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestArgs(t *testing.T) {
	c := Config{Name: "a,b", Memory: 512 << 20, Kernel: "/k/vmlinux", Initrd: "/k/initrd",
		Cmdline: "quiet console=ttyS0",
		RTCBase: time.Unix(1700000000, 0), Shape: machine.Shape{Args: []string{"-device", "x"}}}
	d := c.withDefaults()
	got := strings.Join(d.args(fds{ram: 3, qmp: 4, serial: 5, hvc: 6, rng: 7}, "/run/v,1/agent"), " ")
	for _, want := range []string{
		"-name guest=a,,b ", "-machine q35,accel=tcg,memory-backend=ram,suppress-vmdesc=on,vmport=off,hpet=off ",
		"-cpu max,erms=off,fsrm=off ", "-smp 1 ",
		`"id":"ram","size":536870912,"mem-path":"/proc/self/fd/3","share":true} `,
		"-kernel /k/vmlinux -initrd /k/initrd -append quiet console=ttyS0 ",
		"-rtc base=2023-11-14T22:13:20,clock=vm ", "socket,id=qmp,fd=4 ", "path=/run/v,,1/agent ",
		`"name":"org.provium.agent"} `,
		`"qom-type":"rng-egd","id":"rng0","chardev":"rng"} `, " -device x",
	} {
		if !strings.Contains(got+" ", want) && !strings.HasSuffix(got, want) {
			t.Errorf("%q not in %s", want, got)
		}
	}
	d.Accel = "kvm"
	got = strings.Join(d.args(fds{}, "s"), " ")
	if !strings.Contains(got, "-cpu host") || !strings.Contains(got, "rng-random") {
		t.Errorf("kvm without seed: %s", got)
	}
}

func TestConfigErrors(t *testing.T) {
	s := proc.NewStarter()
	defer s.Close()
	kernel := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(kernel, []byte("no kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Starter: s, Dir: t.TempDir(), Memory: 64 << 20, Kernel: kernel}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"memory":  {func(c *Config) { c.Memory = 0 }, "memory is 0 bytes"},
		"kernel":  {func(c *Config) { c.Kernel = "/no/kernel" }, "/no/kernel"},
		"initrd":  {func(c *Config) { c.Initrd = "/no/initrd" }, "/no/initrd"},
		"accel":   {func(c *Config) { c.Accel = "hvf" }, "unknown accelerator `hvf`"},
		"starter": {func(c *Config) { c.Starter = nil }, "no starter"},
		"binary":  {func(c *Config) { c.Binary = "/no/qemu" }, "/no/qemu"},
	} {
		c := good
		tc.change(&c)
		if _, err := Start(context.Background(), c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: err = %v, want %q", name, err, tc.want)
		}
	}
}

// TestStartReportsQEMUsWords runs the real QEMU on a file that is no kernel.
func TestStartReportsQEMUsWords(t *testing.T) {
	s := proc.NewStarter()
	defer s.Close()
	kernel := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(kernel, []byte("no kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), Config{Starter: s, Dir: t.TempDir(), Memory: 64 << 20, Kernel: kernel})
	var se *StartError
	if !errors.As(err, &se) || !strings.Contains(se.Stderr, "invalid kernel header") ||
		!strings.Contains(err.Error(), "invalid kernel header") {
		t.Fatalf("err = %v", err)
	}
}

// TestInitrdTooLarge says what is behind QEMU's words.
func TestInitrdTooLarge(t *testing.T) {
	e := &StartError{Err: errors.New("qemu ended: exit status 1"), Stderr: "qemu: initrd is too large, cannot " +
		"support this. (max: 65535, need 2000000)\n"}
	if got := e.Error(); !strings.Contains(got, "memory is too small: initrd is too large") {
		t.Error(got)
	}
}

func TestComplaint(t *testing.T) {
	for stderr, want := range map[string]string{
		"qemu-system-x86_64: unsupported machine type\n" +
			"Use -machine help to list supported machines\n": "unsupported machine type",
		"/usr/bin/qemu-system-x86_64: warning: slow\n" +
			"qemu-system-x86_64: -m x: bad size\n": "-m x: bad size",
		"libfoo.so: cannot open\n": "libfoo.so: cannot open",
		"":                         "",
	} {
		if got := complaint(stderr); got != want {
			t.Errorf("complaint(%q) = %q, want %q", stderr, got, want)
		}
	}
}

// TestVsock has the agent of a machine on vsock and on no port.
func TestVsock(t *testing.T) {
	c := Config{Memory: 64 << 20, Kernel: "k", Vsock: true, NICs: []NIC{{Slot: 1}}}
	d := c.withDefaults()
	args := strings.Join(d.args(fds{vsock: 9, cid: 77}, "/run/agent"), " ")
	if !strings.Contains(args, `-device {"driver":"vhost-vsock-pci","guest-cid":77,"vhostfd":"9","addr":"0x1d"}`) ||
		strings.Contains(args, "virtserialport") || strings.Contains(args, "/run/agent") {
		t.Error(args)
	}
	h := strings.Join(c.Hardware().Devices, " ")
	if !strings.Contains(h, `"guest-cid":0,`) || strings.Contains(h, "vhostfd") {
		t.Error(h)
	}
	taken := map[uint32]bool{3: true, 4: true}
	take := func(cid uint32) error {
		if taken[cid] {
			return unix.EADDRINUSE
		}
		return nil
	}
	if cid, err := takeCID(1, take); cid != 5 || err != nil {
		t.Error(cid, err)
	}
	taken = map[uint32]bool{lastCID: true}
	if cid, err := takeCID(lastCID, take); cid != firstCID || err != nil {
		t.Error(cid, err)
	}
	if _, err := takeCID(9, func(uint32) error { return unix.EADDRINUSE }); err == nil {
		t.Error("no CID is free, and one was taken")
	}
	if _, err := takeCID(9, func(uint32) error { return unix.EACCES }); err != unix.EACCES {
		t.Error(err)
	}
}

package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"provium/internal/arch"
	"provium/internal/machine"
	"provium/internal/proc"
)

func deterministic(change func(*Config)) *Config {
	yes := true
	c := &Config{Name: "n", Memory: 512 << 20, Kernel: "/k/vmlinux", Seed: 1<<32 + 7, TSCKHz: 2_400_000,
		Shape: machine.Shape{Deterministic: &yes}}
	if change != nil {
		change(c)
	}
	return c
}

func TestDeterministicArgs(t *testing.T) {
	d := deterministic(nil).withDefaults()
	files := fds{ram: 3, qmp: 4, serial: 5, hvc: 6, agent: 7, control: 8, plugin: 9}
	got := strings.Join(d.args(files, "/run/agent"), " ")
	for _, want := range []string{
		"-icount shift=3,sleep=off -seed 7 -plugin /proc/self/fd/9,fd=8,port=7 ",
		"-rtc base=2026-01-01T00:00:00,clock=vm ",
		"file,id=ttyS0,path=/proc/self/fd/5 ", "file,id=hvc0,path=/proc/self/fd/6 ", "socket,id=agent,fd=7 ",
		"tsc_early_khz=1000000",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q not in %s", want, got)
		}
	}
	for _, not := range []string{"rng", "/run/agent", "clock=host"} {
		if strings.Contains(got, not) {
			t.Errorf("%q in %s", not, got)
		}
	}
	fixed := deterministic(func(c *Config) { c.RTCBase = time.Unix(1700000000, 0) }).withDefaults()
	got = strings.Join(fixed.args(fds{}, "s"), " ")
	if !strings.Contains(got, "-rtc base=2023-11-14T22:13:20,clock=vm ") {
		t.Error(got)
	}
	if got := strings.Join(d.Command(), " "); strings.Contains(got, "icount") {
		t.Errorf("a machine that nothing paces: %s", got)
	}
}

// TestDeterministicNetwork has a guest on a bridge: its frames go through sockets that the plugin knows, at its own
// times.
func TestDeterministicNetwork(t *testing.T) {
	c := deterministic(func(c *Config) { c.NICs = []NIC{{Slot: 1, MAC: "02:00:00:00:00:07", Socket: "/s"}} })
	d := c.withDefaults()
	files := fds{agent: 7, control: 8, plugin: 9, pace: 10, nics: []int{11}}
	got := strings.Join(d.args(files, "/run/agent"), " ")
	for _, want := range []string{
		"-plugin /proc/self/fd/9,fd=8,port=7,port=10,nic=11 ", "socket,id=pace,fd=10 ",
		`"id":"net1","server":false,"addr":{"type":"fd","str":"11"}`,
		`"tx":"timer","x-txtimer":10000,"ioeventfd":false`, `"nr":3,"chardev":"pace","name":"org.provium.pace"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q not in %s", want, got)
		}
	}
	c.Shape.Deterministic = nil
	d = c.withDefaults()
	got = strings.Join(d.args(fds{}, "/run/agent"), " ")
	for _, not := range []string{"pace", `"fd"`, "txtimer"} {
		if strings.Contains(got, not) {
			t.Errorf("%q in the command line of another guest: %s", not, got)
		}
	}
}

func TestDeterministicRefusals(t *testing.T) {
	seed := uint64(1)
	arm64, err := arch.Named("arm64")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"":                            nil,
		"set accel = \"tcg\"":         func(c *Config) { c.Accel = "kvm" },
		"2 CPUs have no common order": func(c *Config) { c.CPUs = 2 },
		"guests of arm64":             func(c *Config) { c.Arch = arm64 },
		"virtio-serial":               func(c *Config) { c.Vsock = true },
		"set bus = \"virtio-blk\"":    func(c *Config) { c.Disks = []Disk{{}, {Model: DiskModel{Bus: NVMe}}} },
		"rng_seed":                    func(c *Config) { c.RNGSeed = &seed },
		"leave qemu_args out":         func(c *Config) { c.Shape.Args = []string{"-x"} },
		"firmware and boot_from":      func(c *Config) { c.Shape.Firmware = machine.UEFI },
		"a screen is drawn":           func(c *Config) { c.Shape.Display = c.Shape.Deterministic },
	} {
		err := deterministic(change).checkDeterministic()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s := proc.NewStarter()
	defer s.Close()
	c := deterministic(func(c *Config) { c.CPUs, c.Starter, c.Dir = 2, s, t.TempDir() })
	if _, err := Start(t.Context(), *c); err == nil || !strings.Contains(err.Error(), "set cpus = 1") {
		t.Error(err)
	}
}

// TestPluginDoesNotLoad has QEMUs that do not take the plugin: the start fails and says what to do, and no guest runs
// without it.
func TestPluginDoesNotLoad(t *testing.T) {
	s := proc.NewStarter()
	defer s.Close()
	for name, said := range map[string]string{
		"built without":   "plugin interface not enabled in this build",
		"not loaded":      "Could not load plugin /proc/self/fd/9: failed to map segment",
		"another version": "TCG plugin /proc/self/fd/9 requires API version 9, but this QEMU supports 1",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			binary, kernel, starts := filepath.Join(dir, "qemu"), filepath.Join(dir, "k"), filepath.Join(dir, "starts")
			script := "#!/bin/sh\necho \"$*\" >>" + starts + "\necho 'qemu: " + said + "' >&2\nexit 1\n"
			for _, err := range []error{os.WriteFile(binary, []byte(script), 0o700), os.WriteFile(kernel, nil, 0o600)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			_, err := Start(t.Context(), *deterministic(func(c *Config) {
				c.Starter, c.Dir, c.Binary, c.Kernel = s, dir, binary, kernel
			}))
			want := said + ": deterministic guests need a QEMU that takes plugins"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Error(err)
			}
			text, err := os.ReadFile(starts)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if !strings.Contains(line, "-plugin ") {
					t.Errorf("started without the plugin: %s", line)
				}
			}
		})
	}
}

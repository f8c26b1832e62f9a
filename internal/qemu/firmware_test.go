package qemu

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"provium/internal/machine"
)

// streamStart is the beginning of a saved state: magic, version, and the section of the memory.
const streamStart = "QEVM\x00\x00\x00\x03\x01\x00\x00\x00\x02\x03ram"

func TestMemorySection(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 2*pageSize)
	got, err := memorySection([]byte(streamStart), "m", content)
	if err != nil {
		t.Fatal(err)
	}
	want := "0200000002" + "0000000000000008" + "016d" + strings.Repeat("07", pageSize) +
		"0000000000001028" + strings.Repeat("07", pageSize) + "0000000000000010"
	if hex.EncodeToString(got) != want {
		t.Errorf("%x", got[:32])
	}
	if got, err = memorySection([]byte(streamStart), "m", append(make([]byte, pageSize), content...)); err != nil {
		t.Fatal(err)
	}
	want = "0200000002" + "0000000000000002" + "016d" + "00" + "0000000000001028" + strings.Repeat("07", pageSize) +
		"0000000000002028" + strings.Repeat("07", pageSize) + "0000000000000010"
	if hex.EncodeToString(got) != want {
		t.Errorf("with zeros: %x", got[:32])
	}
	for _, bad := range []string{"", streamStart[:16], strings.Replace(streamStart, "ram", "rom", 1)} {
		if _, err := memorySection([]byte(bad), "m", nil); err == nil {
			t.Errorf("%q has a memory", bad)
		}
	}
}

func TestFirmware(t *testing.T) {
	dir := t.TempDir()
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, []byte("variables"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Machine: "q35", Dir: dir, Memory: 1 << 20, Cmdline: "quiet",
		Firmware: Firmware{Code: "/code", Vars: template},
		Shape:    machine.Shape{Firmware: machine.UEFI}}
	if err := c.makeVars(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "vars.fd")); err != nil || string(text) != "variables" {
		t.Errorf("%q, %v", text, err)
	}
	args := strings.Join(c.args(fds{}, "s"), " ")
	for _, want := range []string{",pflash0=pflash0,pflash1=pflash1", `"node-name":"pflash0","read-only":true,`,
		`"filename":"` + dir + `/vars.fd"`} {
		if !strings.Contains(args, want) {
			t.Errorf("%q not in %s", want, args)
		}
	}
	if strings.Contains(args, "-kernel") || strings.Contains(args, "-append") {
		t.Error("a kernel of no name")
	}
	if h := c.Hardware(); !strings.Contains(strings.Join(h.Devices, " "), "uefi /code") {
		t.Error(h)
	}
	if err := os.Truncate(template, maxVars+1); err != nil {
		t.Fatal(err)
	}
	if err := c.makeVars(); err == nil || !strings.Contains(err.Error(), "more than 4 MiB") {
		t.Error(err)
	}
	c.Shape = machine.Shape{}
	if len(c.firmwareArgs()) > 0 || c.makeVars() != nil {
		t.Error("a BIOS has flash memory of its own")
	}
}

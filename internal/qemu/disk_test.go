package qemu

import (
	"strings"
	"testing"
)

func TestDiskArgs(t *testing.T) {
	c := Config{Memory: 512 << 20, Kernel: "k", Disks: []Disk{{Slot: 1, Socket: "/run/v,1/disk1", Serial: "a"},
		{Slot: 2, Socket: "s", Serial: "b", ReadOnly: true}}}
	d := c.withDefaults()
	got := strings.Join(d.args(fds{}, "agent"), "\n") + "\n"
	last := -1
	for _, want := range []string{
		`"type":"unix","path":"/run/v,1/disk1"`,
		`"node-name":"disk2-data",`, `"read-only":true`,
		"-device\n" + `{"driver":"pcie-pci-bridge","id":"plug"`,
		"-device\n" + `{"driver":"virtio-blk-pci","id":"disk1","bus":"plug","addr":"0x1","drive":"disk1-data",` +
			`"serial":"a","werror":"report","rerror":"report","ioeventfd":false}` + "\n",
		`"serial":"b"`,
	} {
		at := strings.Index(got, want)
		if at <= last {
			t.Errorf("%q is missing, or too early, in\n%s", want, got)
		}
		last = at
	}
}

func TestPlugBridge(t *testing.T) {
	for machine, want := range map[string]string{"q35": "pcie-pci-bridge", "pc-q35-7.2": "pcie-pci-bridge",
		"pc": "pci-bridge", "pc-i440fx-7.2": "pci-bridge", "microvm": ""} {
		c := Config{Machine: machine}
		if got := c.plugBridge(); (got == nil) != (want == "") || got != nil && got.Driver != want {
			t.Errorf("%s: %+v", machine, got)
		}
	}
}

func TestDeletionWatch(t *testing.T) {
	var w deletionWatch
	gone := w.expect("disk1")
	w.onEvent(Event{Name: "DEVICE_DELETED", Data: []byte(`{"path":"/machine/peripheral/disk1/virtio-backend"}`)})
	w.onEvent(Event{Name: "DEVICE_DELETED", Data: []byte(`{"device":"disk2","path":"/machine/peripheral/disk2"}`)})
	w.onEvent(Event{Name: "RESET"})
	select {
	case <-gone:
		t.Fatal("another device counts")
	default:
	}
	w.onEvent(Event{Name: "DEVICE_DELETED", Data: []byte(`{"device":"disk1","path":"/machine/peripheral/disk1"}`)})
	<-gone
	w.onEvent(Event{Name: "DEVICE_DELETED", Data: []byte(`{"device":"disk1"}`)})
	w.forget("disk1")
}

package qemu

import (
	"encoding/json"
	"strings"
	"testing"

	"provium/internal/machine"
)

// The display has a place of its own on each root bus.
func TestDisplay(t *testing.T) {
	on := true
	for name, want := range map[string]string{"q35": `"addr":"0x1"`, "pc": `"addr":"0x1f"`} {
		c := Config{Machine: name, Shape: machine.Shape{Display: &on}}
		for _, description := range []string{
			strings.Join(c.args(fds{}, "s"), " "), strings.Join(c.Hardware().Devices, " "),
		} {
			if !strings.Contains(description, `{"driver":"VGA","id":"display",`+want+`,"vgamem_mb":8}`) {
				t.Errorf("%s: %s", name, description)
			}
		}
		c.Shape = machine.Shape{}
		if strings.Contains(strings.Join(c.args(fds{}, "s"), " "), "VGA") {
			t.Error("a display that nobody wants")
		}
	}
}

func TestVideoAddress(t *testing.T) {
	const found = `[{"devices":[{"qdev_id":"nic1","regions":[{"bar":0,"address":1,"size":8388608}]}]},{"devices":[
		{"qdev_id":"display","regions":[{"bar":2,"address":5,"size":4096},{"bar":0,"address":64,"size":8388608}]}]}]`
	for text, want := range map[string]int64{
		found: 64,
		strings.Replace(found, `"address":64`, `"address":-1`, 1):     0,
		strings.Replace(found, `64,"size":8388608`, `64,"size":1`, 1): 0,
		strings.Replace(found, `"display"`, `""`, 1):                  0,
		`[]`: 0,
	} {
		var buses []pciBus
		if err := json.Unmarshal([]byte(text), &buses); err != nil {
			t.Fatal(err)
		}
		at, err := videoAddress(buses)
		if at != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %d, %v", text, at, err)
		}
	}
}

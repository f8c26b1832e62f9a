package debugger

import "testing"

func TestCommand(t *testing.T) {
	for want, d := range map[string]Debugger{
		"gdb -ex 'target remote /tmp/x/gdb'": {Socket: "/tmp/x/gdb"},
		`gdb -ex 'target remote /g' -ex 'symbol-file -o 0x1e000000 /it'\''s/vmlinux'`: {
			Socket: "/g", Vmlinux: "/it's/vmlinux", Offset: 0x1e000000},
	} {
		if got := d.Command(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

package qemu

import (
	"bytes"
	"fmt"
	"testing"
)

// FuzzParseAddress checks that what is read as an address is one of a page, and is the
// same when QEMU says it again.
func FuzzParseAddress(f *testing.F) {
	f.Add("Host virtual address for 0x0 (ram) is 0x7f1234560000\r\n", int64(0x7f1234560000))
	f.Add("No memory is mapped at address 0x0", int64(1))
	f.Add("x is 0x-1000", int64(-4096))
	f.Fuzz(func(t *testing.T, text string, any int64) {
		say := func(n int64) string { return fmt.Sprintf("Host virtual address for 0x0 (pc.ram) is 0x%x\r\n", n) }
		if n, err := parseAddress(text); err == nil {
			if again, err := parseAddress(say(n)); n <= 0 || n%pageSize != 0 || again != n || err != nil {
				t.Errorf("%q is %#x, then %#x, %v", text, n, again, err)
			}
		}
		n, err := parseAddress(say(any))
		if valid := any > 0 && any%pageSize == 0; valid != (err == nil) || valid && n != any {
			t.Errorf("%#x is %#x, %v", any, n, err)
		}
	})
}

// FuzzJoinState checks that a joined state is a part of the one and all of the other, and
// that joining it again changes nothing.
func FuzzJoinState(f *testing.F) {
	section := "\x04\x00\x00\x00\x00\x05timer\x00\x00\x00\x00\x00\x00\x00\x02"
	f.Add([]byte("QEVM\x00\x00\x00\x03memory"+section+"old"), []byte("QEVM\x00\x00\x00\x03"+section+"new"))
	f.Add([]byte("QEVM\x00\x00\x00\x03"+section+section), []byte("QEVM\x00\x00\x00\x03"+section))
	f.Add([]byte("QEVM\x00\x00\x00\x03"), []byte("QEVM\x00\x00\x00\x03\x04\x00\x00\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, origin, devices []byte) {
		state, err := joinState(origin, nil, devices)
		if err != nil {
			return
		}
		memory, whole := bytes.CutSuffix(state, devices[8:])
		if !whole || len(memory) < 8 || !bytes.HasPrefix(origin, memory) {
			t.Errorf("%x and %x are joined to %x", origin, devices, state)
		}
		if again, err := joinState(state, nil, devices); err == nil && !bytes.Equal(again, state) {
			t.Errorf("%x becomes %x", state, again)
		}
	})
}

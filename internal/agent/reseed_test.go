package agent

import (
	"bytes"
	"testing"
)

// core is the buffer of the kernel's hwrng core over a device that repeats a block.
type core struct {
	block []byte
	left  int
}

// read returns n bytes as a reader of the kernel gets them: each read returns the last n
// bytes that are left of a block, in order.
func (c *core) read(n int) (out []byte) {
	for len(out) < n {
		if c.left == 0 {
			c.left = len(c.block)
		}
		k := min(c.left, n-len(out))
		c.left -= k
		out = append(out, c.block[c.left:c.left+k]...)
	}
	return out
}

func TestLeftInBlock(t *testing.T) {
	block := make([]byte, coreBuffer)
	for i := range block {
		block[i] = byte(i * 37)
	}
	for had := range coreBuffer {
		c := core{block, had}
		got := c.read(probeLen)
		left, ok := leftInBlock(block, got)
		if !ok || left != c.left {
			t.Errorf("with %d before: %d, %v, want %d", had, left, ok, c.left)
		}
		if next := append(c.read(left), c.read(coreBuffer)...); !bytes.Equal(next[left:], block) {
			t.Errorf("with %d before: the next block is not whole", had)
		}
	}
	if _, ok := leftInBlock(block, []byte("another!")); ok {
		t.Error("found in another device's bytes")
	}
}

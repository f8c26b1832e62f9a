package qemu

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
)

// serveEntropy answers QEMU's rng-egd backend with one fixed byte stream per
// seed, until f ends. The backend asks with two bytes, 0x02 and a length, and
// takes that many raw bytes (QEMU backends/rng-egd.c).
func serveEntropy(f *os.File, seed uint64) {
	defer f.Close()
	stream := entropyStream(seed)
	var req [2]byte
	buf := make([]byte, 255)
	for {
		if _, err := io.ReadFull(f, req[:]); err != nil || req[0] != 0x02 {
			return
		}
		out := buf[:req[1]]
		_, _ = stream.Read(out)
		if _, err := f.Write(out); err != nil {
			return
		}
	}
}

// entropyStream is ChaCha8 keyed with the seed: the same seed gives the same
// bytes, whatever sizes they are asked for in.
func entropyStream(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	copy(key[:24], "provium virtio-rng seed")
	binary.LittleEndian.PutUint64(key[24:], seed)
	return rand.NewChaCha8(key)
}

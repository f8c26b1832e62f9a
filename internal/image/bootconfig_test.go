package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withBootconfig appends a bootconfig to an initrd, as the kernel's tools/bootconfig does.
func withBootconfig(initrd []byte, text string) []byte {
	text += "\x00"
	for (len(initrd)+len(text)+bootconfigTail)%4 != 0 {
		text += "\x00"
	}
	sum := uint32(0)
	for _, b := range []byte(text) {
		sum += uint32(b)
	}
	out := append(bytes.Clone(initrd), text...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	out = binary.LittleEndian.AppendUint32(out, sum)
	return append(out, bootconfigMark...)
}

// TestBootconfig keeps the bootconfig of an initrd at the very end, where the kernel looks for it: behind the agent,
// and behind the files of a boot.
func TestBootconfig(t *testing.T) {
	var archive bytes.Buffer
	if err := writeArchive(&archive, []item{fileItem("init", 0o755, []byte("INIT"))}); err != nil {
		t.Fatal(err)
	}
	const text = "kernel.printk = 7\n"
	for name, base := range map[string][]byte{"plain": archive.Bytes(), "packed": gzipped(t, archive.Bytes()),
		"filled": append(archive.Bytes(), make([]byte, 512)...)} {
		for _, agent := range []bool{true, false} {
			s := testStore(t, nil)
			putKernel(t, s.cfg.HostRoot, "6.1")
			path := put(t, withBootconfig(base, text), t.TempDir(), "initrd")
			img, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: path, NoAgent: !agent})
			if err != nil {
				t.Fatal(err)
			}
			composed := filepath.Join(t.TempDir(), "initrd")
			if err := img.Compose(t.Context(), composed, []File{{"/etc/x", 0o644, []byte("one")}}); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{img.Initrd, composed} {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				end, block, err := splitBootconfig(bytes.NewReader(data), int64(len(data)))
				if err != nil || !strings.HasPrefix(string(block), text+"\x00") || int(end)+len(block) != len(data) {
					t.Errorf("%s, agent %v: %q at %d of %d, %v", name, agent, block, end, len(data), err)
					continue
				}
				if file == img.Initrd && !agent {
					continue // which is as it was
				}
				files := contents(t, put(t, data[:end], t.TempDir(), "cut"))
				if files["init"] != "INIT" || agent && files["sbin/provium-agent"] != "AGENT" ||
					file == composed && agent && files[".provium/files/0"] != "one" ||
					file == composed && !agent && files["etc/x"] != "one" {
					t.Errorf("%s, agent %v, %s: %q", name, agent, file, files)
				}
			}
		}
	}
}

func TestDamagedBootconfig(t *testing.T) {
	initrd := bytes.Repeat([]byte("0707"), 50)
	whole := withBootconfig(initrd, "a = b\n")
	for want, change := range map[string]func(b []byte) []byte{
		"the checksum is wrong": func(b []byte) []byte { b[200]++; return b },
		"a length of":           func(b []byte) []byte { b[len(b)-17]++; return b },
		"it has no length":      func(b []byte) []byte { return []byte(bootconfigMark) },
	} {
		data := change(bytes.Clone(whole))
		_, _, err := splitBootconfig(bytes.NewReader(data), int64(len(data)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s := testStore(t, nil)
	putKernel(t, s.cfg.HostRoot, "6.1")
	whole[200]++
	path := put(t, whole, t.TempDir(), "initrd")
	for _, noAgent := range []bool{false, true} {
		_, err := s.Resolve(t.Context(), Spec{Profile: "p", Initrd: path, NoAgent: noAgent})
		if err == nil || !strings.Contains(err.Error(), "its bootconfig is damaged: the checksum is wrong") {
			t.Errorf("%v", err)
		}
	}
}

func FuzzBootconfig(f *testing.F) {
	f.Add(withBootconfig([]byte("07070100"), "a = b\n"))
	f.Add([]byte(bootconfigMark))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		end, block, err := splitBootconfig(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if end < 0 || end > int64(len(data)) || block == nil && end != int64(len(data)) ||
			block != nil && !bytes.HasPrefix(data[end:], block) {
			t.Errorf("%d bytes at %d of %d", len(block), end, len(data))
		}
	})
}

package disk

import (
	"encoding/json"
	"strings"
	"testing"

	"provium/internal/blockdev"
)

func TestDecodeDisks(t *testing.T) {
	entry := func(id string, slot int, chunks int) savedDisk {
		return savedDisk{Spec: Spec{ID: id}, Slot: slot, Contents: &blockdev.Dump{Size: 1 << 20, Medium: chunks}}
	}
	decode := func(all savedDisks, chunks int) error {
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeDisks(text, make([]byte, chunks*blockdev.MapEntry), int64(chunks)*blockdev.ChunkSize)
		return err
	}
	if err := decode(savedDisks{Disks: []savedDisk{entry("a", 1, 1), entry("b", 3, 2)}}, 3); err != nil {
		t.Error(err)
	}
	for want, all := range map[string]savedDisks{
		"slot 0":                     {Disks: []savedDisk{entry("a", 0, 0)}},
		"slot 32":                    {Disks: []savedDisk{entry("a", 32, 0)}},
		"slot 1":                     {Disks: []savedDisk{entry("a", 1, 0), entry("b", 1, 0)}},
		"id `../x` is not valid":     {Disks: []savedDisk{entry("../x", 1, 0)}},
		"two are called":             {Disks: []savedDisk{entry(strings.Repeat("a", 21), 1, 0), entry(strings.Repeat("a", 20), 2, 0)}},
		"contents of `a` are miss":   {Disks: []savedDisk{entry("a", 1, 4)}},
		"contents of `b` are miss":   {Disks: []savedDisk{entry("a", 1, 3), entry("b", 2, 1)}},
		"contents of `n` are miss":   {Disks: []savedDisk{{Spec: Spec{ID: "n"}, Slot: 1}}},
		"contents have another size": {Disks: []savedDisk{entry("a", 1, 1)}},
		"at most 31 are possible":    {Disks: make([]savedDisk, 32)},
	} {
		if err := decode(all, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzDecodeDisks(f *testing.F) {
	f.Add([]byte(`{"disks":[{"spec":{"id":"a"},"slot":1,"contents":{"size":512,"medium":1,"pending":0,"state":{}}}]}`), make([]byte, blockdev.MapEntry))
	f.Add([]byte(`{"disks":[{"spec":{"id":"a"},"slot":1}],"token":"x"}`), []byte{})
	f.Add([]byte(`{"disks":[{"spec":{"id":"a"},"slot":1,"contents":{"size":512}}],"changes":true}`), []byte{})
	f.Add([]byte(`{"disks":[{"spec":{"id":"a"},"slot":1,"contents":{"medium":-1,"pending":9223372036854775807}}]}`), []byte{1})
	f.Fuzz(func(t *testing.T, text, sectors []byte) {
		all, err := decodeDisks(text, sectors, int64(len(sectors)/blockdev.MapEntry)*blockdev.ChunkSize)
		if err != nil {
			return
		}
		for _, d := range all.Disks {
			if all.Token == "" && len(d.Contents.Map) != (d.Contents.Medium+d.Contents.Pending)*blockdev.MapEntry {
				t.Error("a map of the wrong size")
			}
		}
	})
}

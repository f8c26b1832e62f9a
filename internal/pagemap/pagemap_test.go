package pagemap

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func TestPrivateRuns(t *testing.T) {
	const file = pagePresent | pageOfFile
	var entries []byte
	for _, e := range []uint64{0, file, pagePresent, pagePresent | 7, pageSwapped, 0, pagePresent, pagePresent,
		pagePresent, file, pagePresent} {
		entries = binary.LittleEndian.AppendUint64(entries, e)
	}
	var got []string
	err := privateRuns(entries, 2, func(first, count int) error {
		got = append(got, fmt.Sprint(first, "+", count))
		return nil
	})
	if want := "2+2 4+1 6+2 8+1 10+1"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	if err := privateRuns(entries, 2, func(int, int) error { return context.Canceled }); err != context.Canceled {
		t.Error(err)
	}
}

// FuzzPrivateRuns checks the runs of pages against a look at each page.
func FuzzPrivateRuns(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 1, 1, 1, 1, 2}, uint8(2))
	f.Fuzz(func(t *testing.T, kinds []byte, limit uint8) {
		most := int(limit)%16 + 1
		var entries []byte
		var want []bool
		for _, k := range kinds {
			e := [...]uint64{0, pagePresent, pageSwapped, pagePresent | pageOfFile, pageOfFile}[k%5] | uint64(k)>>3
			entries = binary.LittleEndian.AppendUint64(entries, e)
			want = append(want, k%5 == 1 || k%5 == 2)
		}
		got := make([]bool, len(want))
		end := 0
		err := privateRuns(entries, most, func(first, count int) error {
			if first < end || count < 1 || count > most {
				t.Fatalf("run %d+%d after %d, at most %d", first, count, end, most)
			}
			end = first + count
			for i := first; i < end; i++ {
				got[i] = true
			}
			return nil
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v: %v", got, want, err)
		}
	})
}

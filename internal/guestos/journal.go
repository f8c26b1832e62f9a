package guestos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// JournalQuery says which entries of a journal are wanted.
type JournalQuery struct {
	Unit  string        // "": of all units
	Since time.Duration // since the boot; entries before it are left out
	Lines int           // how many, at most, the last ones; 0: all
}

// JournalEntry is one entry of a guest's journal.
type JournalEntry struct {
	Time       time.Time     // by the guest's clock
	Uptime     time.Duration // since the guest's boot
	Unit       string        // "" for what comes from no unit, such as the kernel
	Identifier string        // SYSLOG_IDENTIFIER: the program, as it calls itself
	PID        int           // 0: it comes from no process
	Priority   int           // 0 (emerg) to 7 (debug)
	Message    string        // may have bytes that are no UTF-8
}

// Journal returns entries of the journal of the guest's present boot, the oldest first.
func Journal(ctx context.Context, g Guest, q JournalQuery) ([]JournalEntry, error) {
	boot, err := g.ReadFile(ctx, "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	// Entries of before a change of the machine's id are in the directory of the old one.
	args := []string{"--merge", "--quiet", "--output=json", "--all",
		"_BOOT_ID=" + strings.ReplaceAll(strings.TrimSpace(string(boot)), "-", "")}
	if q.Unit != "" {
		args = append(args, "--unit="+q.Unit)
	}
	if q.Lines > 0 {
		args = append(args, "--lines="+strconv.Itoa(q.Lines))
	}
	r, state, err := askJournal(ctx, g, args...)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errors.New(state)
	}
	if r.Truncated {
		return nil, errors.New("the journal is larger than 64 MiB; ask for one unit, or for its last lines")
	}
	return parseJournal(r.Stdout, q.Since)
}

// parseJournal reads the output of `journalctl --output=json`, see systemd's document "Journal Export Formats".
func parseJournal(text []byte, since time.Duration) (entries []JournalEntry, err error) {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil {
			return nil, fmt.Errorf("journalctl: its line %d is no entry: %w", len(entries)+1, err)
		}
		e := JournalEntry{
			Time:   time.UnixMicro(numberField(fields, "__REALTIME_TIMESTAMP", 0)),
			Uptime: microseconds(numberField(fields, "__MONOTONIC_TIMESTAMP", 0)),
			Unit:   textField(fields, "_SYSTEMD_UNIT"), Identifier: textField(fields, "SYSLOG_IDENTIFIER"),
			PID:      int(numberField(fields, "_PID", 0)),
			Priority: int(numberField(fields, "PRIORITY", 6)), Message: textField(fields, "MESSAGE"),
		}
		if u := textField(fields, "UNIT"); u != "" { // what systemd says about a unit
			e.Unit = u
		}
		if e.Uptime >= since {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// microseconds returns n microseconds, and the longest duration for what is longer.
func microseconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Microsecond)
	return time.Duration(min(max(n, 0), most)) * time.Microsecond
}

// textField returns a field: a text, an array of the numbers of its bytes, or the last of several.
func textField(fields map[string]json.RawMessage, name string) string {
	raw := fields[name]
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var numbers []uint16
	if json.Unmarshal(raw, &numbers) == nil {
		p := make([]byte, len(numbers))
		for i, n := range numbers {
			p[i] = byte(n)
		}
		return string(p)
	}
	var several []json.RawMessage
	if json.Unmarshal(raw, &several) == nil && len(several) > 0 {
		return textField(map[string]json.RawMessage{name: several[len(several)-1]}, name)
	}
	return ""
}

func numberField(fields map[string]json.RawMessage, name string, absent int64) int64 {
	n, err := strconv.ParseInt(textField(fields, name), 10, 64)
	if err != nil {
		return absent
	}
	return n
}

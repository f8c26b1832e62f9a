package agent

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// journals are the directories of journals that systemd-journald writes.
var journals = [...]string{"/run/log/journal", "/var/log/journal"}

// renewMachineID replaces the machine id that the guest has made since the agent started, which began says, in all
// files that have it. One that came with the image is left alone. journals are the directories in which
// systemd-journald has one directory for each id. Most guests have no such file, and an emulated one has all code still
// to be translated when it is restored, so nothing is asked for before a file was found.
func renewMachineID(files, journals []string, began func() (unix.Timespec, bool)) {
	fresh := ""
	for _, path := range files {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > machineIDLen+1 {
			continue
		}
		since, ok := began()
		if !ok || st.Ctim.Nano() < since.Nano() {
			continue
		}
		old, err := os.ReadFile(path)
		if err != nil || !isMachineID(strings.TrimSuffix(string(old), "\n")) {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			continue // e.g. read-only
		}
		if fresh == "" {
			fresh = newMachineID()
		}
		_, _ = f.WriteAt([]byte(fresh), 0)
		f.Close()
		keepJournals(journals, strings.TrimSuffix(string(old), "\n"), fresh)
	}
}

// machineIDLen is how long a machine id is in its file, in bytes.
const machineIDLen = 32

// newMachineID returns a random id, of the form of machine-id(5).
func newMachineID() string {
	var random [machineIDLen / 2]byte
	_, _ = rand.Read(random[:]) // never fails
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
	return hex.EncodeToString(random[:])
}

// keepJournals makes journalctl find what a journald writes that began under another machine id.
func keepJournals(journals []string, old, fresh string) {
	for _, dir := range journals {
		if st, err := os.Stat(dir + "/" + old); err == nil && st.IsDir() {
			_ = os.Symlink(old, dir+"/"+fresh)
		}
	}
}

func isMachineID(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == machineIDLen
}

func selfStat() string {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return ""
	}
	return string(text)
}

// agentStart returns when the agent has started, by the clock that files are stamped with.
func agentStart() (unix.Timespec, bool) { return startTime(selfStat()) }

// startTime returns when a process started, by the clock that files are stamped with. stat
// is its /proc/PID/stat.
func startTime(stat string) (unix.Timespec, bool) {
	// The name of the program may have spaces and parentheses.
	_, fields, ok := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
	list := strings.Fields(fields)
	const field, ticksPerSecond = 22 - 3, 100
	if !ok || len(list) <= field {
		return unix.Timespec{}, false
	}
	ticks, err := strconv.ParseInt(list[field], 10, 64)
	var now, up unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_REALTIME, &now) != nil ||
		unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return unix.Timespec{}, false
	}
	return unix.NsecToTimespec(now.Nano() - up.Nano() + ticks*(1e9/ticksPerSecond)), true
}

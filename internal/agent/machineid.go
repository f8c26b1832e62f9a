package agent

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// journals are the directories of journals that systemd-journald writes.
var journals = [...]string{"/run/log/journal", "/var/log/journal"}

// machineIDs replaces the machine id of a guest that goes on from the boot cache. One that came with the image is
// left alone. The clock is set with each renewal, and a guest may be saved after it: the times of an id's file and of
// the agent's start are both as old as the entry then, so the start is remembered and not computed from what the clock
// shows now.
type machineIDs struct {
	start moment
	last  string // what was written last, which is not the image's whatever the clock says
}

// moment is a time by the wall clock, and by one that nobody sets.
type moment struct{ realtime, boottime int64 }

// now returns the present moment, and false if the kernel does not tell it.
func now() (moment, bool) {
	var m [2]unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME, &m[0]) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &m[1]) != nil {
		return moment{}, false
	}
	return moment{m[0].Nano(), m[1].Nano()}, true
}

// isSince reports whether a file that was stamped at ctime has changed since start. The clock may have been set in
// between, forward or back: the start is then the earlier one of what it was by the clock of that time and by the
// present one. What is later than now was not written here: an image is newer than a guest whose clock starts in the
// past.
func (start moment) isSince(ctime int64, now moment) bool {
	const tick = 1e7 // files are stamped with the time of the last one
	since := min(start.realtime, now.realtime-(now.boottime-start.boottime)) - tick
	return since <= ctime && ctime <= now.realtime
}

// renew replaces the machine id that the guest has made since the agent started, in all files that have it. journals
// are the directories in which systemd-journald has one directory for each id. Most guests have no such file, and an
// emulated one has all code still to be translated when it is restored, so nothing is asked for before a file is found.
func (m *machineIDs) renew(files, journals []string, now func() (moment, bool)) {
	fresh := ""
	for _, path := range files {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > machineIDLen+1 {
			continue
		}
		text, err := os.ReadFile(path)
		old := strings.TrimSuffix(string(text), "\n")
		if err != nil || !isMachineID(old) {
			continue
		}
		if at, ok := now(); old != m.last && (!ok || m.start == moment{} || !m.start.isSince(st.Ctim.Nano(), at)) {
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
		keepJournals(journals, old, fresh)
	}
	if fresh != "" {
		m.last = fresh
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

package provium

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// wallClock finds times that are numbers, are from files, or have lost the monotonic clock otherwise: a jump of the
// host's clock shows in them. Durations of Go's time.Time know nothing of it.
var wallClock = regexp.MustCompile(`\.Unix(|Nano|Milli|Micro)\(\)|time\.(Unix|UnixMilli|UnixMicro|Parse)\(|` +
	`\.Round\(0\)|\.ModTime\(\)|unix\.CLOCK_REALTIME\b`)

// ended is a deadline in the past, which ends reads and writes at once.
const ended = "time.Unix(1, 0)"

// onTheWallClock are the files and packages that may deal with such times, and what for.
var onTheWallClock = map[string]string{
	"cmd/provium/version.go":             "an identity",
	"internal/agent":                     "guests have clocks of their own",
	"internal/artifacts/recorder.go":     "events are stamped",
	"internal/byhand/share.go":           "times of copied files",
	"internal/cachedir/damage/damage.go": "times of files are put back",
	"internal/display/progress.go":       "when an operation began, by its event",
	"internal/event/bus.go":              "events are stamped, and never go back",
	"internal/fakemachine":               "fake guests have clocks, too",
	"internal/fixture/cache.go":          "what is used the least is removed",
	"internal/fixture/dependency.go":     "a file that has just changed is read again",
	"internal/fixture/keep.go":           "what was abandoned is removed",
	"internal/guest/handle/clock.go":     "the guest's clock is set",
	"internal/guestos/journal.go":        "the guest's journal",
	"internal/image/apt/resume.go":       "when a download was made",
	"internal/image/cache":               "what is used the least is removed; a changed file is read again",
	"internal/image/overlay.go":          "which of two files is newer",
	"internal/image/store.go":            "what is used the least is removed",
	"internal/instance/prewarm.go":       "the guest's clock is set",
	"internal/instance/renew.go":         "the guest's clock is set",
	"internal/localvmm/machine.go":       "QMP's events are stamped",
	"internal/merge/merge.go":            "when the run began",
	"internal/qemu/firmware.go":          "an identity",
	"internal/qemu/program.go":           "an identity",
	"internal/qmp/qmp.go":                "QMP's events are stamped",
	"internal/report/page/builder.go":    "when the run began",
	"internal/run/select.go":             "which files are newer than another",
	"internal/script/api/bootopts.go":    "the guest's clock is set",
	"internal/script/journal/journal.go": "events are stamped",
	"internal/script/netapi":             "when packets, questions and leases came",
	"internal/script/osapi/doc.go":       "the guest's journal",
	"internal/sharedcache/layout.go":     "whether a file was replaced",
	"internal/snapshot":                  "what is used the least is removed; an identity",
	"internal/userland/archive.go":       "times of files",
	"internal/vnet/pcap.go":              "packets are stamped",
	"bench":                              "nothing of it is in the program",
	"verify":                             "nothing of it is in the program",
}

// TestLimitsIgnoreTheWallClock finds each file that reads the wall clock: none may measure a limit by it.
func TestLimitsIgnoreTheWallClock(t *testing.T) {
	used := map[string]bool{}
	eachGoFile(t, func(file, pkg string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(strings.ReplaceAll(string(source), ended, ""), "\n") {
			if !wallClock.MatchString(line) {
				continue
			}
			allowed := false
			for at := pkg; at != "." && !allowed; at = parent(at) {
				allowed = onTheWallClock[at] != ""
				used[at] = used[at] || allowed
			}
			if onTheWallClock[file] != "" {
				used[file], allowed = true, true
			}
			if !allowed {
				t.Errorf("%s:%d reads the wall clock, which may jump; measure by time.Since or add it to the table: %s",
					file, n+1, strings.TrimSpace(line))
			}
		}
	})
	for name := range onTheWallClock {
		if !used[name] {
			t.Errorf("%s does not read the wall clock", name)
		}
	}
}

func parent(dir string) string {
	at := strings.LastIndexByte(dir, '/')
	if at < 0 {
		return "."
	}
	return dir[:at]
}

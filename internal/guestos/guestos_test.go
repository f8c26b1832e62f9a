package guestos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/guest"
	"provium/internal/ready"
)

const systemdSocket = "/run/systemd/private"

func TestAwaitUnit(t *testing.T) {
	loaded := "LoadState=loaded\nActiveState=%\nSubState=$\nResult=success\nJob=0\n"
	state := func(active, sub string) string {
		return strings.NewReplacer("%", active, "$", sub).Replace(loaded)
	}
	for name, c := range map[string]struct{ show, want, err string }{
		"active":     {state("active", "running"), "active", ""},
		"inactive":   {state("inactive", "dead"), "inactive", ""},
		"failed":     {state("failed", "failed"), "failed", ""},
		"on its way": {state("activating", "start-pre"), "active", "within 50ms: it is activating (start-pre)"},
		"has failed": {strings.Replace(state("failed", "failed"), "success", "exit-code", 1), "active",
			"the unit x is failed, result exit-code\n  the last words"},
		"starts again": {strings.Replace(state("failed", "failed"), "Job=0", "Job=12", 1), "active",
			"within 50ms: it is failed"},
		"not there": {"LoadState=not-found\nLoadError=org.freedesktop.systemd1.NoSuchUnit " +
			"\"Unit x.service not found.\"\nActiveState=inactive\nJob=0\n", "active",
			"the unit x is not loaded (not-found): Unit x.service not found."},
		"not there, inactive": {"LoadState=not-found\nActiveState=inactive\n", "inactive",
			"the unit x is not loaded (not-found)"},
		"garbage": {"\x00\xff=\n", "active", "within 50ms: it is "},
	} {
		t.Run(name, func(t *testing.T) {
			g := &fakeGuest{files: map[string]string{systemdSocket: ""}, runs: map[string]*guest.RunResult{
				"systemctl show": prints(c.show), "journalctl": prints("the last words\n")}}
			wantError(t, AwaitUnit(t.Context(), g, soon(), "x", c.want), c.err)
		})
	}
}

func TestAwaitUnitWithoutSystemd(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		err   string
	}{
		"minimal init": {map[string]string{"/proc/1/comm": "provium-agent\n"},
			"Provium's minimal one (provium-agent), not"},
		"sysvinit": {map[string]string{"/proc/1/comm": "init\n", "/proc/1/cmdline": "init [2]\x00",
			"/proc/1/mountinfo": onDisk}, "the guest's init is `init`, not systemd: wait for a file"},
		"OpenRC": {map[string]string{"/proc/1/comm": "openrc-init\n", "/proc/1/cmdline": "/sbin/openrc-init\x00",
			"/proc/1/mountinfo": onDisk}, "the guest's init is `openrc-init`, not systemd"},
		"a script": {map[string]string{"/proc/1/comm": "init\n", "/proc/1/cmdline": "/bin/sh\x00/sbin/init\x00",
			"/proc/1/mountinfo": onDisk}, "PID 1 is `init`, and systemd cannot be asked"},
		"an initramfs' init": {map[string]string{"/proc/1/comm": "init\n", "/proc/1/cmdline": "/init\x00",
			"/proc/1/mountinfo": "1 1 0:2 / / rw - rootfs rootfs rw\n"},
			"PID 1 is `init`, and systemd cannot be asked"},
		"another init": {map[string]string{"/proc/1/comm": "init\n"}, "PID 1 is `init`, and systemd cannot be asked"},
		"initrd": {map[string]string{"/etc/initrd-release": "", systemdSocket: ""},
			"within 50ms: the guest is in its initrd"},
		"no /proc":     {nil, "the guest has no /proc"},
		"no systemctl": {map[string]string{systemdSocket: ""}, "systemctl cannot be run: ENOENT"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, AwaitUnit(t.Context(), &fakeGuest{files: c.files}, soon(), "x", "active"), c.err)
		})
	}
}

// onDisk says that PID 1 has left the initramfs.
const onDisk = "30 1 0:25 / / rw - overlay userland rw\n"

func TestAwaitBoot(t *testing.T) {
	for name, c := range map[string]struct {
		state         *guest.RunResult
		strict, ready string // errors
	}{
		"running":     {prints("running\n"), "", ""},
		"degraded":    {exits(1, "degraded\n", ""), "the boot ended degraded\nthe unit a.service is failed\n  why", ""},
		"maintenance": {exits(1, "maintenance\n", ""), "the boot ended maintenance", "the boot ended maintenance"},
		"starting": {exits(1, "starting\n", ""), "within 50ms: systemd still has these jobs:\n  7 b.service start",
			"within 50ms: systemd still has these jobs:\n  7 b.service start"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &fakeGuest{files: map[string]string{systemdSocket: ""}, runs: map[string]*guest.RunResult{
				"systemctl is-system-running --wait": c.state,
				"systemctl list-units":               prints("a.service loaded failed failed A\n--evil x\n"),
				"systemctl list-jobs":                prints("7 b.service start running\n"),
				"journalctl":                         prints("why\n")}}
			wantError(t, AwaitBoot(t.Context(), g, soon()), c.strict)
			wantError(t, AwaitReady(t.Context(), g, soon(), ready.Condition{Kind: ready.Systemd}), c.ready)
			if slices.ContainsFunc(g.ran, func(line string) bool { return strings.Contains(line, "evil") }) {
				t.Errorf("a guest's text became an argument: %q", g.ran)
			}
		})
	}
}

func TestAwaitReady(t *testing.T) {
	const initrd = "1 1 0:2 / / rw - rootfs none rw\n22 1 0:20 / /proc rw - proc proc rw\n"
	const root = initrd + "30 1 8:1 / / rw shared:1 - ext4 /dev/vda rw\n"
	init, command := ready.Condition{Kind: ready.Init}, ready.Condition{Kind: ready.Command, Text: "test -e /x"}
	for name, c := range map[string]struct {
		condition ready.Condition
		guest     fakeGuest
		err       string
	}{
		"agent":   {ready.Condition{}, fakeGuest{err: errors.New("was asked")}, ""},
		"console": {ready.Condition{Kind: ready.Console, Text: "x"}, fakeGuest{err: errors.New("was asked")}, ""},
		"init":    {init, fakeGuest{files: map[string]string{"/proc/1/mountinfo": root, "/proc/1/comm": "init"}}, ""},
		"minimal init": {init, fakeGuest{files: map[string]string{"/proc/1/mountinfo": initrd,
			"/proc/1/comm": "provium-agent\n"}}, ""},
		"initramfs": {init, fakeGuest{files: map[string]string{"/proc/1/mountinfo": initrd, "/proc/1/comm": "sh\n"}},
			"the init of the root file system did not come within 50ms: PID 1 is `sh`, and is in the initramfs"},
		"no /proc": {init, fakeGuest{}, "/proc/1/mountinfo: ENOENT"},
		"command":  {command, fakeGuest{runs: map[string]*guest.RunResult{"test": exits(0, "", "")}}, ""},
		"command fails": {command, fakeGuest{runs: map[string]*guest.RunResult{"test": exits(1, "", "no x\n")}},
			"the success of `test -e /x` did not come within 50ms: exit code 1: no x"},
		"command is killed": {command, fakeGuest{runs: map[string]*guest.RunResult{
			"test": {Status: guest.Signalled, ExitCode: -1, Signal: 9}}}, "signal 9"},
		"no shell": {command, fakeGuest{}, "it cannot be run: ENOENT"},
		"gone":     {command, fakeGuest{err: errors.New("the guest is gone")}, "the guest is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, AwaitReady(t.Context(), &c.guest, soon(), c.condition), c.err)
		})
	}
}

// TestAwaitEndsWithItsContext returns the cause of the end, and not the limit.
func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the test is over")
	cancel(cause)
	if err := AwaitFile(ctx, &fakeGuest{}, patient(), "/x"); !errors.Is(err, cause) {
		t.Errorf("the error is %v", err)
	}
}

func TestAwaitPort(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue\n"
	tcp := head + "   0: 00000000:0016 00000000:0000 0A 0:0\n   1: 0100007F:1F90 0100007F:C000 01 0:0\n"
	tcp6 := head + "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0\n"
	udp := head + "  88: 00000000:0035 00000000:0000 07 0:0\n"
	g := &fakeGuest{files: map[string]string{"/proc/net/tcp": tcp, "/proc/net/tcp6": tcp6, "/proc/net/udp": udp}}
	for _, c := range []struct {
		protocol string
		port     int
		err      string
	}{
		{"tcp", 22, ""}, {"tcp", 80, ""}, {"udp", 53, ""},
		{"tcp", 8080, "port 8080 did not come within 50ms: open are 22, 80"}, // has a connection, no listener
		{"tcp", 53, "open are 22, 80"},
		{"udp", 22, "port 22/udp did not come within 50ms: open are 53"},
	} {
		wantError(t, AwaitPort(t.Context(), g, soon(), c.protocol, c.port), c.err)
	}
	wantError(t, AwaitPort(t.Context(), &fakeGuest{}, soon(), "tcp", 1), "no port is open")
}

func TestJournal(t *testing.T) {
	const lines = `{"__REALTIME_TIMESTAMP":"1796004378423500","__MONOTONIC_TIMESTAMP":"1500000",` +
		`"_SYSTEMD_UNIT":"a.service","SYSLOG_IDENTIFIER":"sh","_PID":"12","PRIORITY":"3","MESSAGE":"text"}` + "\n" +
		`{"__MONOTONIC_TIMESTAMP":"2500000","UNIT":"b.service","_SYSTEMD_UNIT":"init.scope",` +
		`"MESSAGE":[104,105,255]}` + "\n" +
		`{"__MONOTONIC_TIMESTAMP":"3500000","MESSAGE":["first","last"],"PRIORITY":null}` + "\n"
	boot := map[string]string{"/proc/sys/kernel/random/boot_id": "0a-1b\n"}
	g := &fakeGuest{files: boot, runs: map[string]*guest.RunResult{"journalctl": prints(lines)}}
	got, err := Journal(t.Context(), g, JournalQuery{Unit: "a", Since: 2 * time.Second, Lines: 9})
	want := []JournalEntry{
		{Time: time.UnixMicro(0), Uptime: 2500 * time.Millisecond, Unit: "b.service", Priority: 6, Message: "hi\xff"},
		{Time: time.UnixMicro(0), Uptime: 3500 * time.Millisecond, Priority: 6, Message: "last"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if len(g.ran) != 2 || g.ran[0] != "journalctl --sync" ||
		!strings.HasSuffix(g.ran[1], "_BOOT_ID=0a1b --unit=a --lines=9") {
		t.Errorf("%q was run", g.ran)
	}
	all, err := Journal(t.Context(), g, JournalQuery{})
	if err != nil || len(all) != 3 || all[0].Time.UnixMicro() != 1796004378423500 || all[0].PID != 12 ||
		all[0].Priority != 3 || all[0].Unit != "a.service" || all[0].Identifier != "sh" {
		t.Errorf("got %+v, %v", all, err)
	}
	for text, result := range map[string]*guest.RunResult{
		"its line 1 is no entry": prints("-- no entries --\n"),
		"is larger than 64 MiB":  {Stdout: []byte("{}"), Truncated: true},
		"journalctl: not today":  exits(1, "", "not today\n"),
	} {
		g := &fakeGuest{files: boot, runs: map[string]*guest.RunResult{"journalctl": result}}
		_, err := Journal(t.Context(), g, JournalQuery{})
		wantError(t, err, text)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"MESSAGE":[[["x"]]],"__MONOTONIC_TIMESTAMP":"99999999999999999999"}`))
	f.Add([]byte(`{"MESSAGE":[256,65536],"PRIORITY":"-1"}` + "\n\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parseJournal(text, 0)
		if err == nil && len(entries) > len(text) {
			t.Errorf("%d entries in %d bytes", len(entries), len(text))
		}
		for _, e := range entries {
			if e.Uptime < 0 {
				t.Errorf("an entry is %v before the boot", e.Uptime)
			}
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add([]byte("   0: 00000000:0016 00000000:0000 0A\n"))
	f.Add([]byte("1 1 0:2 / / rw - rootfs none rw\n"))
	f.Add([]byte("LoadError=x \"\nJob=1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, p := range append(parsePorts(text, "tcp"), parsePorts(text, "udp")...) {
			if p < 0 || p > 65535 {
				t.Errorf("port %d", p)
			}
		}
		rootType(string(text))
		_ = parseUnit(text).String()
	})
}

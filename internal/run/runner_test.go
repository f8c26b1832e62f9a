package run

import (
	"fmt"
	"os"
	"path/filepath"
	"provium/internal/choose"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"provium/internal/config"
	"provium/internal/disk"
	"provium/internal/event"
	"provium/internal/lab"
	"provium/internal/qemu"
)

// dispatched is the dispatcher's end of a Runner in this process.
type dispatched struct {
	*messagePipe
	t     *testing.T
	conn  *os.File
	ended chan error
}

// dispatch starts a Runner for a file with this text.
func dispatch(t *testing.T, text string) (*dispatched, *job) {
	t.Helper()
	l := newLocalRun(t, "[profiles.p]\n", map[string]string{"a": text})
	dir := l.o.Config.Dir
	t.Chdir(dir) // the runner enters it
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "runner"), os.NewFile(uintptr(pair[1]), "dispatcher")
	d := &dispatched{newMessagePipe(ours, ours), t, ours, make(chan error, 1)}
	filter, err := (&choose.Filter{}).JSON()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer theirs.Close()
		d.ended <- Runner(theirs, string(filter))
	}()
	t.Cleanup(func() { ours.Close() })
	path := "a" + testSuffix
	return d, l.o.job(Candidate{Path: path, Abs: filepath.Join(dir, path)}, l.o.TempBase)
}

// play sends the job and describes what the runner says up to its end. It grants
// requests, unless refuse is set.
func (d *dispatched) play(j *job, refuse string, on func(m *message)) string {
	d.t.Helper()
	if err := d.send(&message{Job: j}); err != nil {
		d.t.Fatal(err)
	}
	var log []string
	for {
		m, err := d.receive()
		if err != nil {
			d.t.Fatalf("%v after %v", err, log)
		}
		switch {
		case m.Events != nil:
			for _, sent := range m.Events {
				e, err := event.DecodePayload(event.Kind(sent.Kind), sent.Payload)
				if err != nil {
					d.t.Fatal(err)
				}
				text := sent.Kind
				if failed, ok := e.(event.TestFailed); ok {
					text += " " + strings.SplitN(failed.Reason, "\n", 2)[0]
				}
				log = append(log, text)
			}
		case m.Registered != nil:
			log = append(log, fmt.Sprint("registered ", m.Registered.Tests))
		case m.Claim != nil:
			log = append(log, fmt.Sprintf("claim %d %d", m.Claim.Memory, m.Claim.CPUs))
			err = d.send(&message{Answer: &answer{ID: m.Claim.ID, Err: refuse}})
		case m.Acquire != nil:
			log = append(log, fmt.Sprintf("acquire %s", m.Acquire.What))
			err = d.send(&message{Answer: &answer{ID: m.Acquire.ID, Err: refuse}})
		case m.Release != nil:
			log = append(log, "release")
		case m.Done != nil:
			log = append(log, fmt.Sprintf("done %q", strings.SplitN(m.Done.ChunkError, "\n", 2)[0]))
			if err := <-d.ended; err != nil {
				d.t.Error(err)
			}
			return strings.Join(log, "; ")
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if on != nil {
			on(m)
		}
	}
}

func TestRunner(t *testing.T) {
	d, j := dispatch(t, guest)
	got := d.play(j, "", nil)
	const want = "claim 1073741824 2; registered [g]; test_started; acquire vm `v`; vm_spawned; vm_shutdown; " +
		"release; " +
		"test_passed; done \"\""
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	d, j = dispatch(t, guest)
	if got = d.play(j, "the pool has none", nil); !strings.HasSuffix(got, `the pool has none"`) {
		t.Error(got)
	}
}

func TestRunnerIsInterrupted(t *testing.T) {
	d, j := dispatch(t, `
test("w", function(t)
  provium:vm("v", "p"):boot()
  while true do end
end)`)
	got := d.play(j, "", func(m *message) {
		if m.Events != nil && m.Events[0].Kind == string(event.KindVMSpawned) {
			if err := d.send(&message{Interrupt: &stopNow{Reason: "enough", Status: "interrupted"}}); err != nil {
				t.Error(err)
			}
		}
	})
	if !strings.Contains(got, "; vm_spawned; ") || !strings.Contains(got, "test_failed ") ||
		!strings.Contains(got, "enough") {
		t.Error(got)
	}
}

func TestRunnerRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*job)
		want   string
	}{
		"project": {func(j *job) { j.Project = "/nowhere" }, "no such file or directory"},
		"pattern": {func(j *job) { j.Oops = []string{"("} }, "console pattern: error parsing regexp"},
		"ignored": {func(j *job) { j.OopsIgnore = []string{"("} }, "console pattern: error parsing regexp"},
	} {
		d, j := dispatch(t, passes)
		tc.change(j)
		if got := d.play(j, "", nil); !strings.HasPrefix(got, "done ") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	d, _ := dispatch(t, passes)
	if err := d.send(&message{Release: &release{}}); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ended; err == nil || err.Error() != "runner: the first message is no job" {
		t.Error(err)
	}
	d, _ = dispatch(t, passes)
	d.conn.Close()
	if err := <-d.ended; err == nil {
		t.Error("a runner without a dispatcher went on")
	}
}

func TestLabProfile(t *testing.T) {
	cmdline := "quiet"
	p := config.Profile{
		Name: "p", Machine: "q35", Accel: "tcg", Transport: "virtio-serial", InjectAgent: true, Cmdline: &cmdline,
		Kernel: "/k", KernelForced: true, Modules: []string{"m"},
		Disks: []config.Disk{{ID: "d", Scratch: 1 << 20, LogicalBlock: 4096, NoDiscard: true}},
	}
	got := labProfile("p", p)
	if got.Name != "p" || got.Machine != "q35" || got.Accel != "tcg" || !got.NoBootCache || got.Image.Vsock ||
		got.Image.Kernel != "/k" || !got.Image.ForcedKernel || got.Image.NoAgent || *got.Image.Cmdline != "quiet" {
		t.Errorf("%+v", got)
	}
	want := disk.Spec{ID: "d", Scratch: 1 << 20, DiskModel: qemu.DiskModel{LogicalBlock: 4096, NoDiscard: true}}
	if len(got.Disks) != 1 || got.Disks[0] != want {
		t.Errorf("%+v", got.Disks)
	}
	p.Transport = "vsock"
	if got := labProfile("p", p); !got.Image.Vsock {
		t.Errorf("%+v", got.Image)
	}
}

// TestKernelReports has the frames of a report named by the files of the profile.
func TestKernelReports(t *testing.T) {
	host := &lab.Host{Profiles: map[string]*lab.Profile{}}
	for name, p := range map[string]config.Profile{
		"given": {Symbols: []string{"../kernelsource/testdata"}},
		"near":  {Kernel: "../kernelsource/testdata/vmlinux"},
		"none":  {},
	} {
		host.Profiles[name] = labProfile(name, p)
	}
	const text = "RIP: 0010:demo_fail+0x0/0x10"
	for profile, want := range map[string]string{
		"given": text + " (core.c:9)", "near": text + " (core.c:9)", "none": text, "unknown": text,
	} {
		got, err := kernelReports(host).Source(t.Context(), profile, text)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", profile, got, err)
		}
	}
}

package hostload

import (
	"fmt"
	"math"
	"os"
	"testing"
	"testing/fstest"
	"time"
)

// host is a file system with those files, in pairs of a name and a text.
func host(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	set(m, files...)
	return m
}

func set(m fstest.MapFS, files ...string) {
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
}

var start = time.Unix(1e9, 0)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func TestMachine(t *testing.T) {
	quota := []string{"proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max", "max 100000\n",
		"sys/fs/cgroup/a/cpu.max", "150000 100000\n", "sys/fs/cgroup/a/cpu.stat", "usage_usec 1000000\nuser_usec 1\n",
		"sys/fs/cgroup/a/cpu.pressure", "some avg10=12.50 avg60=0\n"}
	for name, c := range map[string]struct {
		first, then []string
		cpus        []string
		want        Machine
	}{
		"all CPUs": {[]string{"proc/stat", "cpu  10 20 30 1000 5 1 2 3 7 7\ncpu0 1 1 1 1 1 1 1 1\n",
			"proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   100 kB\n",
			"proc/pressure/cpu", "some avg10=50.00 avg60=1.0 avg300=0 total=7\nfull avg10=0\n",
			"proc/pressure/memory", "some avg10=1.00\n"},
			[]string{"proc/stat", "cpu  60 40 60 9000 50 11 12 13 7 7\n"}, nil,
			Machine{2, 0.65, 0.5, 0.01, 100 << 10}},
		"some CPUs": {[]string{"proc/stat", "cpu 999 0 0 0\ncpu0 999 0 0 0 0\ncpu2 10 0 0 0 0\ncpu3 10 0 0 0 0\n"},
			[]string{"proc/stat", "cpu 9999 0 0 0\ncpu0 9999 0 0 0 0\ncpu2 60 0 0 7 0\ncpu3 40 0 0 0 8\n"},
			[]string{"cpu2", "cpu3"}, Machine{2, 0.4, Unknown, Unknown, Unknown}},
		"quota": {quota, []string{"sys/fs/cgroup/a/cpu.stat", "usage_usec 3000000\n"}, nil,
			Machine{2, 1, 0.125, Unknown, Unknown}},
		"quota, version 1": {[]string{"proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/y\n",
			"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000", "sys/fs/cgroup/cpu/x/cpuacct.usage", "1000000000",
			"sys/fs/cgroup/memory/y/memory.limit_in_bytes", "1000",
			"sys/fs/cgroup/memory/y/memory.usage_in_bytes", "900",
			"sys/fs/cgroup/memory/y/memory.stat", "total_inactive_file 50\n", "proc/meminfo", "MemAvailable: 1 kB\n"},
			[]string{"sys/fs/cgroup/cpu/x/cpuacct.usage", "2000000000"}, nil, Machine{2, 0.5, Unknown, Unknown, 150}},
		"memory limit above": {[]string{"proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "5000",
			"sys/fs/cgroup/a/memory.max", "3000", "sys/fs/cgroup/a/memory.current", "2000",
			"sys/fs/cgroup/a/memory.pressure", "some avg10=3.00\n", "proc/meminfo", "MemAvailable: 999 kB\n"}, nil, nil,
			Machine{2, 0, Unknown, 0.03, 1000}},
		"nothing": {nil, nil, nil, Machine{2, 0, Unknown, Unknown, Unknown}},
		"garbage": {[]string{"proc/stat", "cpu x y\ncpu  a b c d e f\n", "proc/meminfo", "MemAvailable: lots\n",
			"proc/pressure/cpu", "some avg10=NaN\n", "proc/pressure/memory", "some\nsome avg10=-4\n",
			"proc/self/cgroup", "::\n0::/../..\n", "sys/fs/cgroup/cpu.max", "x"}, nil, nil,
			Machine{2, 0, Unknown, Unknown, Unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			root := host(c.first...)
			m := NewMeter(root, 2, c.cpus)
			if got, _ := m.Measure(start, nil); got.Busy != 0 {
				t.Errorf("busy before there is a measurement: %v", got)
			}
			set(root, c.then...)
			got, _ := m.Measure(start.Add(2*time.Second), nil)
			if !near(got.Busy, c.want.Busy) || !near(got.Waiting, c.want.Waiting) ||
				!near(got.Stalled, c.want.Stalled) ||
				got.CPUs != c.want.CPUs || got.MemoryFree != c.want.MemoryFree {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func stat(parent, user, system int) string {
	return fmt.Sprintf("7 (a ) (b) S %d 1 1 0 -1 4194560 1 2 3 4 %d %d 0 0 20 0\n", parent, user, system)
}

func TestProcesses(t *testing.T) {
	status := func(anon, shared int) string {
		return fmt.Sprintf("Name:\tx\nRssAnon:\t%8d kB\nRssFile:\t  7000 kB\nRssShmem:\t%8d kB\nVmSwap:\t1 kB\n",
			anon, shared)
	}
	lists := host("proc/10/task/10/children", "11 ", "proc/10/task/12/children", "13 14\n",
		"proc/11/task/11/children", "15")
	parents := host("proc/meminfo", "")
	for name, root := range map[string]fstest.MapFS{"lists of children": lists, "parents": parents} {
		t.Run(name, func(t *testing.T) {
			if name == "parents" { // a kernel without CONFIG_PROC_CHILDREN
				set(root, "proc/10/task/10/stat", "", "proc/11/task/11/stat", "")
			}
			set(root, "proc/10/stat", stat(1, 100, 0), "proc/11/stat", stat(10, 200, 50),
				"proc/13/stat", stat(10, 0, 0),
				"proc/15/stat", stat(11, 0, 0), "proc/20/stat", stat(1, 999, 999),
				"proc/10/status", status(1000, 0), "proc/11/status", status(2000, 3000), "proc/20/status", status(1, 1))
			m := NewMeter(root, 2, nil)
			m.Measure(start, []int{10, 99})
			set(root, "proc/10/stat", stat(1, 120, 0), "proc/11/stat", stat(10, 210, 60),
				"proc/15/stat", stat(11, 30, 0))
			_, got := m.Measure(start.Add(time.Second), []int{10, 99})
			if !near(got[10].CPUs, 0.7) || got[10].Memory != 6002<<10 || got[99] != (Process{}) {
				t.Error(got)
			}
		})
	}
}

// Threads that wait at the same time are late once, and one that has ended takes nothing back.
func TestWaits(t *testing.T) {
	root := host("proc/10/task/10/children", "11", "proc/10/stat", stat(1, 0, 0), "proc/11/stat", stat(10, 0, 0),
		"proc/10/task/10/schedstat", "5 1000000000 1\n", "proc/11/task/11/schedstat", "1 2000000000 1",
		"proc/11/task/12/schedstat", "1 500000000 1", "proc/11/task/13/schedstat", "0",
		"proc/11/task/14/schedstat", "a b c",
		"proc/11/task/15/schedstat", "1 -7 1")
	m := NewMeter(root, 2, nil)
	var own Waits
	want := func(all time.Duration, of11 Waited) {
		t.Helper()
		_, got := m.Measure(start, []int{10, 99})
		if got[10].Hindered != all || got[99].Hindered != 0 {
			t.Errorf("%v, want %v", got[10].Hindered, all)
		}
		if got := own.Measure(root, "proc/11"); got != of11 {
			t.Errorf("%v of one process, want %v", got, of11)
		}
	}
	want(2*time.Second, Waited{2 * time.Second, 2500 * time.Millisecond})
	want(2*time.Second, Waited{2 * time.Second, 2500 * time.Millisecond})
	set(root, "proc/10/task/10/schedstat", "5 4000000000 1\n", "proc/11/task/12/schedstat", "1 1500000000 1")
	want(5*time.Second, Waited{3 * time.Second, 3500 * time.Millisecond})
	delete(root, "proc/11/task/11/schedstat")
	set(root, "proc/11/task/16/schedstat", "1 1000000000 1")
	want(6*time.Second, Waited{4 * time.Second, 4500 * time.Millisecond})
	if got := own.Measure(root, "proc/99"); got.Longest != 4*time.Second {
		t.Errorf("%v of a process that is gone", got)
	}
}

func TestBusy(t *testing.T) {
	for text, want := range map[string]bool{
		"some avg10=59.00 avg60=99.00\n": false, "some avg10=60.00\n": true, "": false,
	} {
		if got := Busy(host("proc/pressure/cpu", text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if Busy(host()) {
		t.Error("a host that does not tell is busy")
	}
}

// TestHere measures this machine and this process.
func TestHere(t *testing.T) {
	m := NewMeter(os.DirFS("/"), 2, nil)
	m.Measure(time.Now(), []int{os.Getpid()})
	machine, processes := m.Measure(time.Now(), []int{os.Getpid()})
	if p := processes[os.Getpid()]; p.Memory <= 0 || machine.MemoryFree <= 0 {
		t.Error(machine, p)
	}
}

package sched

import (
	"maps"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

func host(files ...string) fstest.MapFS {
	m := fstest.MapFS{
		"proc/meminfo":                  {Data: []byte("MemTotal:       10485760 kB\nMemFree:         123 kB\n")},
		"sys/devices/system/cpu/online": {Data: []byte("0-7\n")},
	}
	for i := 0; i < len(files); i += 2 {
		if files[i+1] == "absent" {
			delete(m, files[i])
			continue
		}
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func TestHostBudget(t *testing.T) {
	const eight = 8 << 30 // 80 % of 10 GiB
	for _, tc := range []struct {
		name  string
		files []string
		want  Amount
	}{
		{"plain", nil, Amount{eight, 8}},
		{"cpus offline", []string{"sys/devices/system/cpu/online", "0,2-3\n"}, Amount{eight, 3}},
		{"affinity", []string{"proc/self/status", "Name:\tx\nCpus_allowed_list:\t1,6-9\n"}, Amount{eight, 3}},
		{"affinity garbage", []string{"proc/self/status", "Cpus_allowed_list:\tx\n"}, Amount{eight, 8}},
		{"v2", []string{"proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "5368709120\n",
			"sys/fs/cgroup/a/b/cpu.max", "150000 100000\n"}, Amount{4 << 30, 2}},
		{"v2 parent is tighter", []string{"proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "max\n",
			"sys/fs/cgroup/a/memory.max", "5368709120\n", "sys/fs/cgroup/a/b/cpu.max", "max 100000\n",
			"sys/fs/cgroup/cpu.max", "300000 100000"}, Amount{4 << 30, 3}},
		{"v2 limit above the host", []string{"proc/self/cgroup", "0::/\n", "sys/fs/cgroup/memory.max",
			"99999999999999\n", "sys/fs/cgroup/cpu.max", "10000000 100000\n"}, Amount{eight, 8}},
		{"v2 less than a cpu", []string{"proc/self/cgroup", "0::/\n", "sys/fs/cgroup/cpu.max", "20000 100000\n"},
			Amount{eight, 1}},
		{"container without /proc/self/cgroup", []string{"sys/fs/cgroup/memory.max", "5368709120\n"},
			Amount{4 << 30, 8}},
		{"v1", []string{"proc/self/cgroup", "5:cpu,cpuacct:/x\n3:memory:/y\n1:name=systemd:/\n",
			"sys/fs/cgroup/memory/y/memory.limit_in_bytes", "5368709120", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us",
			"200000", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000"}, Amount{4 << 30, 2}},
		{"v1 unlimited", []string{"proc/self/cgroup", "5:cpu:/\n3:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712", "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
			"-1"}, Amount{eight, 8}},
		{"garbage", []string{"proc/self/cgroup", "nonsense\n0::/../..\n", "sys/fs/cgroup/memory.max", "lots",
			"sys/fs/cgroup/cpu.max", "NaN NaN"}, Amount{eight, 8}},
	} {
		if got, err := HostBudget(host(tc.files...)); err != nil || got != tc.want {
			t.Errorf("%s: %v, %v, want %v", tc.name, got, err, tc.want)
		}
	}
	for _, files := range [][]string{
		{"proc/meminfo", "absent"}, {"proc/meminfo", "x"}, {"proc/meminfo", "MemTotal: many kB"},
		{"proc/meminfo", "MemTotal: 0 kB"},
		{"sys/devices/system/cpu/online", "7-3"}, {"sys/devices/system/cpu/online", "0-99999999999"},
	} {
		if got, err := HostBudget(host(files...)); err == nil || !strings.Contains(err.Error(), " read: ") {
			t.Errorf("%v: %v, %v", files, got, err)
		}
	}
}

func TestHostBudgetHere(t *testing.T) {
	got, err := HostBudget(os.DirFS("/"))
	if err != nil || got.Memory <= 0 || got.CPUs < 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOvercommit(t *testing.T) {
	for _, tc := range []struct {
		cpus    int
		factor  float64
		want    int
		clamped bool
	}{
		{4, 1, 4, false}, {4, 1.5, 6, false}, {1, 0.5, 1, false}, {3, 0.5, 1, false}, {10, 1.1, 11, false},
		{4, 0, 2, true}, {4, -1, 2, true}, {4, 100, 32, true}, {4, math.Inf(1), 32, true}, {4, math.NaN(), 4, true},
	} {
		if got, clamped := Overcommit(tc.cpus, tc.factor); got != tc.want || clamped != tc.clamped {
			t.Errorf("%d x %v: %d, %v", tc.cpus, tc.factor, got, clamped)
		}
	}
}

func FuzzCPUList(f *testing.F) {
	f.Add("0-3,5\n")
	f.Add("")
	f.Add("1-")
	f.Fuzz(func(t *testing.T, s string) {
		cpus, err := parseCPUList(s)
		if err != nil {
			return
		}
		var list []string
		for cpu := range cpus {
			list = append(list, strconv.Itoa(cpu))
		}
		again, err := parseCPUList(strings.Join(list, ","))
		if err != nil || len(cpus) == 0 || !maps.Equal(again, cpus) {
			t.Errorf("one by one: %v, %v, want %v", again, err, cpus)
		}
	})
}

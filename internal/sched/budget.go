package sched

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the factor on the CPU budget.
const (
	MinOvercommit = 0.5
	MaxOvercommit = 8.0
)

// Overcommit multiplies a number of CPUs, at least to 1. The factor is held
// within its bounds; clamped reports that it was outside.
func Overcommit(cpus int, factor float64) (result int, clamped bool) {
	held := min(max(factor, MinOvercommit), MaxOvercommit)
	if math.IsNaN(factor) {
		held = 1
	}
	return max(1, int(float64(cpus)*held+1e-9)), held != factor
}

// HostBudget returns what the host offers by default: 80 % of its RAM or of
// the control group's limit, and the CPUs that are online and allowed, or the
// control group's quota. root is the root of the file system, with proc and
// sys below it.
func HostBudget(root fs.FS) (Amount, error) {
	ram, err := totalRAM(root)
	if err != nil {
		return Amount{}, err
	}
	allowed, _, err := allowedCPUs(root)
	if err != nil {
		return Amount{}, err
	}
	cpus := len(allowed)
	limit := cgroupLimits(root)
	if limit.memory > 0 {
		ram = min(ram, limit.memory)
	}
	if limit.cpus > 0 {
		cpus = min(cpus, max(1, int(math.Ceil(limit.cpus-1e-9))))
	}
	return Amount{Memory: ram / 5 * 4, CPUs: cpus}, nil
}

func totalRAM(root fs.FS) (int64, error) {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("memory size read: %w", err)
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			if err != nil || kb <= 0 || kb > math.MaxInt64>>10 {
				return 0, fmt.Errorf("memory size read: /proc/meminfo has MemTotal %q", strings.TrimSpace(string(rest)))
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("memory size read: /proc/meminfo has no MemTotal")
}

// HostCPUs returns how many CPUs this process can use at a time, which is less than
// they are under the quota of a control group, and their names as in /proc/stat; no name
// where these are all CPUs of the host.
func HostCPUs(root fs.FS) (cpus float64, names []string) {
	allowed, some, err := allowedCPUs(root)
	if err != nil {
		return float64(runtime.NumCPU()), nil
	}
	cpus = float64(len(allowed))
	if quota := cgroupLimits(root).cpus; quota > 0 {
		cpus = min(cpus, quota)
	}
	if some {
		for _, n := range slices.Sorted(maps.Keys(allowed)) {
			names = append(names, "cpu"+strconv.Itoa(n))
		}
	}
	return cpus, names
}

// allowedCPUs returns the CPUs of the host that this process may run on. some reports
// that others are online.
func allowedCPUs(root fs.FS) (cpus map[int]bool, some bool, err error) {
	b, err := fs.ReadFile(root, "sys/devices/system/cpu/online")
	if errors.Is(err, fs.ErrNotExist) { // a bare chroot has no /sys
		cpus = map[int]bool{}
		for n := range runtime.NumCPU() {
			cpus[n] = true
		}
		return cpus, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("cpu count read: %w", err)
	}
	online, err := parseCPUList(string(b))
	if err != nil {
		return nil, false, fmt.Errorf("cpu count read: %w", err)
	}
	status, err := fs.ReadFile(root, "proc/self/status")
	if err != nil {
		return online, false, nil // what is allowed is a refinement
	}
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte("Cpus_allowed_list:"))
		if !ok {
			continue
		}
		allowed, err := parseCPUList(string(rest))
		if err != nil {
			break
		}
		both := maps.Clone(online)
		maps.DeleteFunc(both, func(cpu int, _ bool) bool { return !allowed[cpu] })
		if len(both) == 0 { // the two are of different times
			break
		}
		return both, len(both) < len(online), nil
	}
	return online, false, nil
}

// parseCPUList parses a list as "0-2,4".
func parseCPUList(s string) (map[int]bool, error) {
	const most = 1 << 16
	cpus := map[int]bool{}
	for _, part := range strings.Split(strings.TrimSpace(s), ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		a, errA := strconv.Atoi(lo)
		b, errB := strconv.Atoi(hi)
		if errA != nil || errB != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("malformed list of cpus %.80q", s)
		}
		for cpu := a; cpu <= b; cpu++ {
			cpus[cpu] = true
		}
	}
	return cpus, nil
}

// limits are limits of control groups; 0 is no limit.
type limits struct {
	memory int64
	cpus   float64
}

func (l *limits) add(memory int64, cpus float64) {
	if memory > 0 && (l.memory == 0 || memory < l.memory) {
		l.memory = memory
	}
	if cpus > 0 && (l.cpus == 0 || cpus < l.cpus) {
		l.cpus = cpus
	}
}

// cgroupLimits takes the tightest limits of the process's groups and those
// above them. What cannot be read is no limit.
func cgroupLimits(root fs.FS) limits {
	var l limits
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		b = []byte("0::/\n") // hidden, as in some containers: the root is what we have
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		fields := strings.SplitN(sc.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir := path.Clean("/" + fields[2])
		if fields[1] == "" {
			ascend(dir, func(d string) {
				l.add(readLimit(root, "sys/fs/cgroup"+d+"/memory.max"), readQuota(root, "sys/fs/cgroup"+d+"/cpu.max"))
			})
			continue
		}
		for _, controller := range strings.Split(fields[1], ",") {
			switch controller {
			case "memory":
				ascend(dir, func(d string) {
					l.add(readLimit(root, "sys/fs/cgroup/memory"+d+"/memory.limit_in_bytes"), 0)
				})
			case "cpu":
				ascend(dir, func(d string) {
					quota := readLimit(root, "sys/fs/cgroup/cpu"+d+"/cpu.cfs_quota_us")
					period := readLimit(root, "sys/fs/cgroup/cpu"+d+"/cpu.cfs_period_us")
					if quota > 0 && period > 0 {
						l.add(0, float64(quota)/float64(period))
					}
				})
			}
		}
	}
	return l
}

// ascend calls f for a group and all above it, with "" for the topmost.
func ascend(dir string, f func(string)) {
	for ; dir != "/"; dir = path.Dir(dir) {
		f(dir)
	}
	f("")
}

// readLimit reads a number; no file, "max" and -1 are 0.
func readLimit(root fs.FS, name string) int64 {
	b, err := fs.ReadFile(root, path.Clean(name))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// readQuota reads "quota period" in CPUs.
func readQuota(root fs.FS, name string) float64 {
	b, err := fs.ReadFile(root, path.Clean(name))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) != 2 {
		return 0
	}
	quota, errQ := strconv.ParseFloat(f[0], 64)
	period, errP := strconv.ParseFloat(f[1], 64)
	if errQ != nil || errP != nil || !(quota > 0) || !(period > 0) || math.IsInf(quota, 0) {
		return 0
	}
	return quota / period
}

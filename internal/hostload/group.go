package hostload

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// group is the control group whose limits hold for this process: that with a quota of
// CPU time, and that with a limit of memory. The zero value has no limits.
type group struct {
	quota  bool
	cpu    string // directory of the one with a quota
	memory string // directory of the one with the least limit
	v2     bool
}

// findGroup finds the groups of the process.
func findGroup(root fs.FS) group {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		text = []byte("0::/\n") // hidden, as in some containers
	}
	var g group
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir := path.Clean("/" + fields[2])
		if fields[1] == "" && !g.quota && g.memory == "" {
			g.v2 = true
			g.find(root, "sys/fs/cgroup", dir, "cpu.max", "memory.max")
			if !g.quota && g.memory == "" {
				g.v2 = false
			}
			continue
		}
		for _, controller := range strings.Split(fields[1], ",") {
			switch controller {
			case "cpu":
				g.find(root, "sys/fs/cgroup/cpu", dir, "cpu.cfs_quota_us", "")
			case "memory":
				g.find(root, "sys/fs/cgroup/memory", dir, "", "memory.limit_in_bytes")
			}
		}
	}
	return g
}

// find takes the lowest group with a quota, and that with the least limit of memory.
func (g *group) find(root fs.FS, base, dir, quotaFile, memoryFile string) {
	least := int64(1 << 60) // above it is no limit
	for {
		at := path.Join(base, dir)
		if quotaFile != "" && !g.quota {
			if n, ok := firstNumber(root, path.Join(at, quotaFile)); ok && n > 0 {
				g.quota, g.cpu = true, at
			}
		}
		if memoryFile != "" {
			if n, ok := firstNumber(root, path.Join(at, memoryFile)); ok && n > 0 && n < least {
				least, g.memory = n, at
			}
		}
		if dir == "/" {
			return
		}
		dir = path.Dir(dir)
	}
}

// firstNumber reads the number that a file begins with, which "max" is not.
func firstNumber(root fs.FS, name string) (int64, bool) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	return n, err == nil
}

// field reads a number from a file of lines with a name and a number.
func field(root fs.FS, file, name string) (int64, bool) {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) == 2 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// cpuSeconds returns what the group has used.
func (g *group) cpuSeconds(root fs.FS) float64 {
	if g.v2 {
		usec, _ := field(root, path.Join(g.cpu, "cpu.stat"), "usage_usec")
		return float64(usec) / 1e6
	}
	// The accounting of version 1 is mostly mounted together with the quota.
	for _, dir := range []string{g.cpu, strings.Replace(g.cpu, "cgroup/cpu", "cgroup/cpuacct", 1)} {
		if ns, ok := firstNumber(root, path.Join(dir, "cpuacct.usage")); ok {
			return float64(ns) / 1e9
		}
	}
	return 0
}

// memoryFree returns what is left of the group's limit, Unknown without one. Memory of
// files that nobody has used lately counts as free.
func (g *group) memoryFree(root fs.FS) int64 {
	if g.memory == "" {
		return Unknown
	}
	limitFile, usedFile, inactive := "memory.max", "memory.current", "inactive_file"
	if !g.v2 {
		limitFile, usedFile, inactive = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
	}
	limit, ok := firstNumber(root, path.Join(g.memory, limitFile))
	used, ok2 := firstNumber(root, path.Join(g.memory, usedFile))
	if !ok || !ok2 {
		return Unknown
	}
	cold, _ := field(root, path.Join(g.memory, "memory.stat"), inactive)
	return max(0, limit-used+cold)
}

// pressureFile returns the file with the group's pressure, or the machine's.
func (g *group) pressureFile(resource string) string {
	switch {
	case g.v2 && resource == "cpu" && g.quota:
		return path.Join(g.cpu, "cpu.pressure")
	case g.v2 && resource == "memory" && g.memory != "":
		return path.Join(g.memory, "memory.pressure")
	}
	return path.Join("proc/pressure", resource)
}

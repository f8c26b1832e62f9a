package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var errNotDir = syscall.ENOTDIR

// readProfile reads one profile table whose relative paths start at dir.
func readProfile(name string, table map[string]any, dir string, env Env) (Profile, error) {
	p := Profile{Name: name, Dir: dir, GuestOS: "linux", InjectAgent: true, Accel: "auto", BootCache: true, Transport: "virtio-serial"}
	var cmdline string
	var timeout float64
	// {out} stands in several values, so it is settled first.
	if v, ok := table["build_out"]; ok {
		if err := pathInto(&p.BuildOut, dir)(v); err != nil {
			return p, fmt.Errorf("profile `%s` build_out: %w", name, err)
		}
	}
	if p.BuildOut == "" {
		switch {
		case env.BuildDir != "":
			p.BuildOut = filepath.Join(env.BuildDir, name)
		default:
			p.BuildOut = filepath.Join(env.CacheHome, "provium", "builds", name)
		}
	}
	path := func(to *string) func(any) error { return outPathInto(to, dir, p.BuildOut) }
	var disks []any
	err := section{where: fmt.Sprintf("profile `%s`", name), valid: []key{
		{"kernel", path(&p.Kernel)},
		{"root", path(&p.Root)},
		{"initrd", path(&p.Initrd)},
		{"cmdline", stringInto(&cmdline)},
		{"cmdline_file", path(&p.CmdlineFile)},
		{"guest_os", stringInto(&p.GuestOS)},
		{"inject_agent", boolInto(&p.InjectAgent)},
		{"agent_overlay_path", path(&p.AgentOverlayPath)},
		{"build", stringInto(&p.Build)},
		{"build_out", func(any) error { return nil }},
		{"machine", stringInto(&p.Machine)},
		{"accel", choiceInto(&p.Accel, "auto", "kvm", "tcg")},
		{"boot_cache", boolInto(&p.BootCache)},
		{"agent_boot_timeout", numberInto(&timeout)},
		{"modules", stringsInto(&p.Modules)},
		{"transport", choiceInto(&p.Transport, "virtio-serial", "vsock")},
		{"disks", listInto(&disks)},
	}}.read(table)
	if err != nil {
		return p, err
	}
	if _, given := table["agent_boot_timeout"]; given {
		if !(timeout > 0) || timeout > 1e6 {
			return p, fmt.Errorf("profile `%s` agent_boot_timeout: expected a positive number of seconds, got %v", name, timeout)
		}
		p.AgentBootTimeout = time.Duration(timeout * float64(time.Second))
	}
	if p.GuestOS != "linux" && p.GuestOS != "peios" {
		return p, fmt.Errorf("profile `%s` has guest_os = `%s`, only `linux` and `peios` are supported", name, p.GuestOS)
	}
	if err := p.setCmdline(table, cmdline); err != nil {
		return p, err
	}
	if p.Kernel != "" && p.Root != "" {
		return p, fmt.Errorf("profile `%s` has both kernel and root; root is for finding a kernel", name)
	}
	p.Build = strings.ReplaceAll(p.Build, outMark, p.BuildOut)
	for i, d := range disks {
		disk, err := readDisk(d, dir, p.BuildOut)
		if err != nil {
			return p, fmt.Errorf("profile `%s` disks[%d]: %w", name, i+1, err)
		}
		if disk.ID == "" {
			disk.ID = fmt.Sprintf("disk%d", i)
		}
		if slices.ContainsFunc(p.Disks, func(o Disk) bool { return o.ID == disk.ID }) {
			return p, fmt.Errorf("profile `%s` disks[%d]: id `%s` is used twice", name, i+1, disk.ID)
		}
		p.Disks = append(p.Disks, disk)
	}
	if env.Kernel != "" {
		p.Kernel, p.KernelForced, p.Root = env.Kernel, true, ""
	}
	return p, nil
}

func (p *Profile) setCmdline(table map[string]any, cmdline string) error {
	_, given := table["cmdline"]
	switch {
	case given && strings.TrimSpace(cmdline) == "":
		return fmt.Errorf("profile `%s` has empty cmdline", p.Name)
	case given:
		p.Cmdline = &cmdline
	case p.CmdlineFile == "" && p.Kernel != "":
		return fmt.Errorf("profile `%s` has empty cmdline: with a kernel of its own it needs cmdline or cmdline_file", p.Name)
	}
	return nil
}

func readDisk(v any, dir, out string) (Disk, error) {
	table, ok := v.(map[string]any)
	if !ok {
		return Disk{}, fmt.Errorf("expected a table, got %s", kindOf(v))
	}
	var d Disk
	var mediated bool // accepted and without meaning: every disk can be faulted
	err := section{where: "a disk", valid: []key{
		{"path", outPathInto(&d.Path, dir, out)},
		{"scratch", sizeInto(&d.Scratch)},
		{"template", outPathInto(&d.Template, dir, out)},
		{"id", stringInto(&d.ID)},
		{"readonly", boolInto(&d.ReadOnly)},
		{"mediated", boolInto(&mediated)},
	}}.read(table)
	if err != nil {
		return d, err
	}
	var given []string
	for _, k := range []string{"path", "scratch", "template"} {
		if _, ok := table[k]; ok {
			given = append(given, k)
		}
	}
	switch len(given) {
	case 1:
		return d, nil
	case 0:
		return d, errors.New("exactly one of path, scratch and template is needed, none is given")
	}
	return d, fmt.Errorf("exactly one of path, scratch and template is needed, given are %s", strings.Join(given, " and "))
}

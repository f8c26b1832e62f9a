package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"provium/internal/arch"
	"provium/internal/machine"
	"provium/internal/ready"
	"provium/internal/userland"
)

var errNotDir = syscall.ENOTDIR

// readProfile reads one profile table, which has the full name key in its file.
// Its relative paths start at dir.
func readProfile(name, key string, table map[string]any, dir string, env Env) (Profile, error) {
	p, err := readProfileTable(name, key, table, dir, env)
	var ke *keyError
	if err != nil && !errors.As(err, &ke) {
		err = &keyError{key, err}
	}
	return p, err
}

func readProfileTable(name, full string, table map[string]any, dir string, env Env) (Profile, error) {
	p := Profile{Name: name, Dir: dir, GuestOS: "linux", InjectAgent: true, Accel: "auto",
		Transport: "virtio-serial"}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		// It names directories below the cache.
		return p, fmt.Errorf("profile name `%s` is not valid: it must not be empty, `.` or `..`, or contain `/`", name)
	}
	at := base{dir: dir, home: env.Home}
	var cmdline string
	// {out} stands in several values, so it is settled first.
	if v, ok := table["build_out"]; ok {
		if err := pathInto(&p.BuildOut, at)(v); err != nil {
			return p, &keyError{joinKey(full, "build_out"), fmt.Errorf("profile `%s` build_out: %w", name, err)}
		}
	}
	if p.BuildOut == "" {
		p.BuildOut = env.buildOut(name)
	}
	at.out = p.BuildOut
	var disks []any
	err := section{where: fmt.Sprintf("profile `%s`", name), key: full, valid: p.keys(at, &cmdline, &disks)}.read(table)
	if err != nil {
		return p, err
	}
	if p.GuestOS != "linux" && p.GuestOS != "peios" {
		return p, &keyError{joinKey(full, "guest_os"),
			fmt.Errorf("profile `%s` has guest_os = `%s`, only `linux` and `peios` are supported", name, p.GuestOS)}
	}
	p.KernelForced = env.isCell // kernels of a matrix have a command line that suits all
	if err := p.setCmdline(table, full, cmdline); err != nil {
		return p, err
	}
	if err := p.Shape.Check(p.machineType(), 1); err != nil {
		return p, &keyError{joinKey(full, "firmware"), fmt.Errorf("profile `%s` %w", name, err)}
	}
	if err := p.checkUserland(); err != nil {
		return p, &keyError{joinKey(full, "userland"), err}
	}
	if err := p.CheckShares(); err != nil {
		return p, &keyError{joinKey(full, "rw"), err}
	}
	if _, given := table["ready"]; !given && p.Userland.MayHaveInit() {
		p.Ready = ready.Condition{Kind: ready.Init}
	}
	if _, given := table["boot_cache"]; !given {
		// Nothing prepares a guest without our agent for a second life.
		p.BootCache = p.InjectAgent
	}
	p.Build = strings.ReplaceAll(p.Build, outMark, p.BuildOut)
	if p.Cmdline != nil {
		*p.Cmdline = strings.ReplaceAll(*p.Cmdline, outMark, p.BuildOut)
	}
	if err := p.setDisks(disks, full, at); err != nil {
		return p, err
	}
	if env.Kernel != "" {
		p.Kernel, p.KernelForced, p.KernelRelease, p.Root = env.Kernel, true, "", ""
	}
	if env.QEMU != "" {
		p.QEMU = env.QEMU
	}
	return p, nil
}

// archInto reads the name of an architecture.
func archInto(to *string) func(any) error {
	return func(v any) error {
		name, ok := v.(string)
		if !ok {
			return fmt.Errorf("expected a string, got %s", kindOf(v))
		}
		a, err := arch.Named(name)
		if err == nil {
			*to = a.Name
		}
		return err
	}
}

// keys returns the keys of a profile, whose relative paths start at at. What needs more than its own value goes to
// cmdline and disks.
func (p *Profile) keys(at base, cmdline *string, disks *[]any) []key {
	path := func(to *string) func(any) error { return pathInto(to, at) }
	return []key{
		{"arch", archInto(&p.Arch)},
		{"kernel", kernelInto(&p.Kernel, &p.KernelRelease, at)},
		{matrixKey, func(any) error { return nil }}, // makes several profiles, see addProfile
		{"root", path(&p.Root)},
		{"initrd", path(&p.Initrd)},
		{"userland", userlandInto(&p.Userland, at)},
		{"rw", sharesInto(&p.Shape.Shares, at)},
		{"cmdline", stringInto(cmdline)},
		{"cmdline_file", path(&p.CmdlineFile)},
		{"guest_os", stringInto(&p.GuestOS)},
		{"inject_agent", boolInto(&p.InjectAgent)},
		{"agent_overlay_path", path(&p.AgentOverlayPath)},
		{"build", stringInto(&p.Build)},
		{"build_out", func(any) error { return nil }},
		{"machine", stringInto(&p.Machine)},
		{"qemu", programInto(&p.QEMU, at)},
		{"firmware_console", boolInto(&p.FirmwareConsole)},
		{"boot_compressed", choiceOfBoolInto(&p.BootCompressed)},
		{"accel", choiceInto(&p.Accel, "auto", "kvm", "tcg")},
		{"boot_cache", bootCacheInto(&p.BootCache, &p.BootCacheAge)},
		{"agent_boot_timeout", secondsInto(&p.AgentBootTimeout)},
		{"op_timeout", secondsInto(&p.OpTimeout)},
		{"ready", readyInto(&p.Ready)},
		{"ready_timeout", secondsInto(&p.ReadyTimeout)},
		{"modules", modulesInto(&p.Modules, at)},
		{"symbols", pathsInto(&p.Symbols, at)},
		{"transport", choiceInto(&p.Transport, "virtio-serial", "vsock")},
		{"kernel_warnings", choiceInto(&p.KernelWarnings, "fail", "note")},
		{"disks", listInto(disks)},
		{"qemu_args", argsInto(&p.Shape.Args)},
		{"firmware", choiceInto(&p.Shape.Firmware, machine.Firmwares()...)},
		{"display", choiceOfBoolInto(&p.Shape.Display)},
		{"tpm", choiceOfBoolInto(&p.Shape.TPM)},
		{"deterministic", choiceOfBoolInto(&p.Shape.Deterministic)},
		{"boot_from", choiceInto(&p.Shape.BootFrom, machine.Sources()...)},
	}
}

// machineType returns the type of the profile's machines, as far as it is known.
func (p *Profile) machineType() string {
	if p.Machine != "" {
		return p.Machine
	}
	if a, err := arch.Named(p.Arch); err == nil {
		return a.Machine
	}
	return arch.AMD64.Machine
}

// checkUserland returns an error for a userland beside what it takes the place of.
func (p *Profile) checkUserland() error {
	switch p.Userland.Kind {
	case "", userland.Busybox:
		return nil
	}
	if p.Initrd == "" && p.InjectAgent {
		return nil
	}
	return fmt.Errorf("profile `%s` has userland and initrd, or inject_agent = false; a userland comes with an "+
		"initrd of its own, and the agent in it", p.Name)
}

// modulesInto reads modules. Those that are paths become absolute ones.
func modulesInto(to *[]string, at base) func(any) error {
	return func(v any) error {
		if err := namesInto(to)(v); err != nil {
			return err
		}
		for i, entry := range *to {
			file, params, _ := strings.Cut(strings.TrimSpace(entry), " ")
			if !strings.Contains(file, "/") {
				continue
			}
			path, err := at.resolve(file)
			if err != nil {
				return fmt.Errorf("entry %d: %w", i+1, err)
			}
			(*to)[i] = strings.TrimSpace(path + " " + params)
		}
		return nil
	}
}

// readyInto reads when a boot is done.
func readyInto(to *ready.Condition) func(any) error {
	return func(v any) error {
		var text string
		err := stringInto(&text)(v)
		if err == nil && text == "" {
			err = errors.New("must not be empty")
		}
		if err == nil {
			*to, err = ready.Parse(text)
		}
		return err
	}
}

// userlandInto reads where a root file system comes from.
func userlandInto(to *userland.Source, at base) func(any) error {
	return func(v any) error {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("expected a string, got %s", kindOf(v))
		}
		var err error
		*to, err = userland.Parse(text, func(path string) (string, error) {
			var out string
			err := pathInto(&out, at)(path)
			return out, err
		})
		return err
	}
}

func (p *Profile) setDisks(disks []any, key string, at base) error {
	inDisks := func(i int, err error) error {
		return &keyError{joinKey(key, "disks"), fmt.Errorf("profile `%s` disks[%d]: %w", p.Name, i+1, err)}
	}
	for i, d := range disks {
		disk, err := readDisk(d, at)
		if err != nil {
			return inDisks(i, err)
		}
		if disk.ID == "" {
			disk.ID = fmt.Sprintf("disk%d", i)
		}
		if slices.ContainsFunc(p.Disks, func(o Disk) bool { return o.ID == disk.ID }) {
			return inDisks(i, fmt.Errorf("id `%s` is used twice", disk.ID))
		}
		p.Disks = append(p.Disks, disk)
	}
	return nil
}

// buildOut is where a profile's build goes that does not say it.
func (env Env) buildOut(profile string) string {
	if env.BuildDir != "" {
		return filepath.Join(env.BuildDir, profile)
	}
	return filepath.Join(env.CacheHome, "provium", "builds", profile)
}

func (p *Profile) setCmdline(table map[string]any, key, cmdline string) error {
	_, given := table["cmdline"]
	switch {
	case (p.Kernel != "" || p.KernelRelease != "") && p.Root != "":
		return fmt.Errorf("profile `%s` has both kernel and root; root is for finding a kernel", p.Name)
	case given && strings.TrimSpace(cmdline) == "":
		return &keyError{joinKey(key, "cmdline"), fmt.Errorf("profile `%s` has empty cmdline", p.Name)}
	case given:
		p.Cmdline = &cmdline
	case strings.HasSuffix(p.Kernel, ".efi"), p.KernelForced: // it may have one, or is not the profile's own
	case p.CmdlineFile == "" && p.Kernel != "":
		return fmt.Errorf("profile `%s` has empty cmdline: with a kernel of its own it needs cmdline or cmdline_file",
			p.Name)
	}
	return nil
}

// blockInto reads the size of a disk's block.
func blockInto(to *int64) func(any) error {
	return func(v any) error {
		n, ok := v.(int64)
		if !ok {
			return fmt.Errorf("expected 512 or 4096, got %s", kindOf(v))
		}
		if n != 512 && n != 4096 {
			return fmt.Errorf("expected 512 or 4096, got %d", n)
		}
		*to = n
		return nil
	}
}

func readDisk(v any, at base) (Disk, error) {
	table, ok := v.(map[string]any)
	if !ok {
		return Disk{}, fmt.Errorf("expected a table, got %s", kindOf(v))
	}
	var d Disk
	discard, writeCache := true, true
	var mediated bool // accepted and without meaning: every disk can be faulted
	err := section{where: "a disk", valid: []key{
		{"path", pathInto(&d.Path, at)},
		{"scratch", sizeInto(&d.Scratch)},
		{"template", pathInto(&d.Template, at)},
		{"id", stringInto(&d.ID)},
		{"readonly", boolInto(&d.ReadOnly)},
		{"mediated", boolInto(&mediated)},
		{"format", choiceInto(&d.Format, "raw", "qcow2", "vhd", "vhdx", "vmdk")},
		{"logical_block_size", blockInto(&d.LogicalBlock)},
		{"physical_block_size", blockInto(&d.PhysicalBlock)},
		{"discard", boolInto(&discard)},
		{"write_cache", boolInto(&writeCache)},
		{"bus", choiceInto(&d.Bus, "virtio-blk", "virtio-scsi", "nvme")},
	}}.read(table)
	if err != nil {
		return d, err
	}
	d.NoDiscard, d.NoWriteCache = !discard, !writeCache
	var given []string
	for _, k := range []string{"path", "scratch", "template"} {
		if _, ok := table[k]; ok {
			given = append(given, k)
		}
	}
	if d.Format != "" && d.Scratch != 0 {
		return d, errors.New("format: a scratch disk has none")
	}
	if d.PhysicalBlock != 0 && d.PhysicalBlock < d.LogicalBlock {
		return d, fmt.Errorf("physical_block_size %d is less than logical_block_size %d", d.PhysicalBlock,
			d.LogicalBlock)
	}
	switch len(given) {
	case 1:
		return d, nil
	case 0:
		return d, errors.New("exactly one of path, scratch and template is needed, none is given")
	}
	return d, fmt.Errorf("exactly one of path, scratch and template is needed, given are %s",
		strings.Join(given, " and "))
}

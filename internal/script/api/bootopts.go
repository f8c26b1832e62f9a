package api

import (
	"fmt"
	"math"
	"strings"
	"time"

	"provium/internal/lua"
	"provium/internal/ready"
	"provium/internal/script/diskapi"
	"provium/internal/script/machineapi"
	"provium/internal/script/value"
	"provium/internal/topology"
)

// bootOpts reads the optional table of boot opts at argument i, or nil when it is absent.
func bootOpts(x *env, a value.Args, i int) (*topology.BootOpts, error) {
	o, err := a.Options(i)
	if err != nil || o.Table == nil {
		return nil, err
	}
	b := &topology.BootOpts{}
	for _, read := range []func(value.Options, *topology.BootOpts) error{
		readMachine, readCmdline, readTimes, readFiles, machineapi.ReadShape,
	} {
		if err := read(o, b); err != nil {
			return nil, err
		}
	}
	if err := b.Validate(); err != nil {
		return nil, fmt.Errorf("%s: opts.%w", a.Func, err)
	}
	if b.Disks, err = diskapi.BootDisks(x.Env, o, "disks"); err != nil {
		return nil, err
	}
	return b, nil
}

// readMachine reads what the machine is made of.
func readMachine(o value.Options, b *topology.BootOpts) (err error) {
	if o.Has("memory") {
		if b.Memory, err = value.ParseSize(o.Get("memory")); err != nil {
			return fmt.Errorf("%s: opts.memory: %w", o.Func, err)
		}
	}
	cpus, ok, err := o.Integer("cpus")
	if err != nil {
		return err
	}
	if ok && cpus < 1 {
		return o.Errorf("cpus", "must be an integer of at least 1, got %d", cpus)
	}
	b.CPUs = int(cpus)
	seed, ok, err := o.Integer("rng_seed")
	if err != nil {
		return err
	}
	if ok {
		bits := uint64(seed)
		b.RNGSeed = &bits
	}
	if o.Has("cold") {
		cold, err := o.Bool("cold", false)
		if err != nil {
			return err
		}
		b.Cold = &cold
	}
	if o.Has("wait") {
		wait, ok := o.Get("wait").(string)
		if !ok {
			wait = value.Format(o.Get("wait"))
		}
		if _, err := ready.Parse(wait); err != nil || !ok || wait == "" {
			return o.Errorf("wait", "must be \"agent\", \"none\", \"init\", \"systemd\", \"console:TEXT\" or "+
				"\"command:CMD\", got %s", value.Format(o.Get("wait")))
		}
		b.Wait = wait
	}
	b.ExpectPanic, err = o.Bool("expect_panic", false)
	return err
}

func readCmdline(o value.Options, b *topology.BootOpts) (err error) {
	for _, key := range []string{"kernel_cmdline", "kernel_cmdline_append"} {
		text, err := o.Str(key, "")
		if err != nil {
			return err
		}
		if strings.ContainsAny(text, "\x00\n") {
			return o.Errorf(key, "holds a NUL or a line break: %s", value.Quote(value.Clip(text, 80)))
		}
	}
	if o.Has("kernel_cmdline") {
		text, _ := o.Str("kernel_cmdline", "")
		b.Cmdline = &text
	}
	b.CmdlineAppend, err = o.Str("kernel_cmdline_append", "")
	return err
}

func readTimes(o value.Options, b *topology.BootOpts) error {
	if v := o.Get("initial_time"); v != nil {
		var at time.Time
		switch v := v.(type) {
		case int64:
			at = time.Unix(v, 0)
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%s: opts.initial_time: NaN/inf not allowed", o.Func)
			}
			if math.Abs(v) > 1<<53 {
				return fmt.Errorf("%s: opts.initial_time: %s is out of range", o.Func, value.FormatFloat(v))
			}
			whole, fraction := math.Modf(v)
			at = time.Unix(int64(whole), int64(math.Round(fraction*1e9)))
		default:
			return fmt.Errorf("%s: opts.initial_time: expected number (seconds since epoch), got %s", o.Func,
				lua.TypeName(v))
		}
		b.InitialTime = &at
	}
	if v := o.Get("agent_timeout"); v != nil {
		d, err := value.ParseDuration(v)
		if err != nil || d == 0 {
			return fmt.Errorf("%s: opts.agent_timeout: expected a positive number of seconds, got %s", o.Func,
				value.Format(v))
		}
		b.AgentTimeout = d
	}
	return nil
}

func readFiles(o value.Options, b *topology.BootOpts) error {
	if !o.Has("files") {
		return nil
	}
	t, ok := o.Get("files").(*lua.Table)
	if !ok {
		return o.TypeError("files", "an array of {path=, content=}")
	}
	entries, err := value.Sequence(t)
	if err != nil {
		return o.Errorf("files", "%w", err)
	}
	for i, entry := range entries {
		what := fmt.Sprintf("%s: opts.files[%d]", o.Func, i+1)
		t, ok := entry.(*lua.Table)
		if !ok {
			return fmt.Errorf("%s must be a table {path=, content=}, got %s", what, lua.TypeName(entry))
		}
		file, err := bootFile(what, t)
		if err != nil {
			return err
		}
		b.Files = append(b.Files, file)
	}
	return nil
}

func bootFile(what string, t *lua.Table) (topology.BootFile, error) {
	var f topology.BootFile
	o, err := value.NewOptions(what, t, []string{"path", "content", "mode"})
	if err != nil {
		return f, err
	}
	var ok bool
	if f.Path, ok = o.Get("path").(string); !ok {
		return f, fmt.Errorf("%s: path must be a string, got %s", what, lua.TypeName(o.Get("path")))
	}
	if err := topology.CheckFilePath(f.Path); err != nil {
		return f, fmt.Errorf("%s: %w", what, err)
	}
	if f.Content, ok = o.Get("content").(string); !ok {
		return f, fmt.Errorf("%s: content must be a string, got %s", what, lua.TypeName(o.Get("content")))
	}
	if v := o.Get("mode"); v != nil {
		n, ok := value.ToInteger(v)
		if !ok || n < 0 || n > 0o7777 {
			return f, fmt.Errorf("%s: mode must be an integer between 0 and 4095 (mode 7777), got %s", what,
				value.Format(v))
		}
		f.Mode, f.HasMode = uint32(n), true
	}
	return f, nil
}

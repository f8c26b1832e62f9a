package machineapi

import (
	"provium/internal/lua"
	"provium/internal/machine"
	"provium/internal/script/value"
	"provium/internal/topology"
)

// ReadShape reads the boot opts that say what a machine is made of.
func ReadShape(o value.Options, b *topology.BootOpts) error {
	if o.Has("qemu_args") {
		t, ok := o.Get("qemu_args").(*lua.Table)
		if !ok {
			return o.TypeError("qemu_args", "an array of strings")
		}
		list, err := value.Sequence(t)
		if err != nil {
			return o.Errorf("qemu_args", "%w", err)
		}
		for i, v := range list {
			arg, ok := v.(string)
			if !ok {
				return o.Errorf("qemu_args", "must be an array of strings; entry %d is a %s", i+1, lua.TypeName(v))
			}
			b.Shape.Args = append(b.Shape.Args, arg)
		}
	}
	for key, word := range map[string]struct {
		to    *string
		valid []string
	}{"firmware": {&b.Shape.Firmware, machine.Firmwares()}, "boot_from": {&b.Shape.BootFrom, machine.Sources()}} {
		if !o.Has(key) {
			continue
		}
		var err error
		if *word.to, err = o.Choice(key, "", word.valid...); err != nil {
			return err
		}
	}
	for key, to := range map[string]**bool{"deterministic": &b.Shape.Deterministic, "display": &b.Shape.Display,
		"tpm": &b.Shape.TPM} {
		if !o.Has(key) {
			continue
		}
		on, err := o.Bool(key, false)
		if err != nil {
			return err
		}
		*to = &on
	}
	return readTopology(o, b)
}

// readTopology reads how the CPUs are divided. Their number follows unless it is given.
func readTopology(o value.Options, b *topology.BootOpts) error {
	if !o.Has("cpu_topology") {
		return nil
	}
	t, ok := o.Get("cpu_topology").(*lua.Table)
	if !ok {
		return o.TypeError("cpu_topology", "a table {sockets=, cores=, threads=}")
	}
	parts, err := value.NewOptions(o.Func+": opts.cpu_topology", t, []string{"sockets", "cores", "threads"})
	if err != nil {
		return err
	}
	for key, to := range map[string]*int{
		"sockets": &b.Shape.CPU.Sockets, "cores": &b.Shape.CPU.Cores, "threads": &b.Shape.CPU.Threads,
	} {
		n, err := parts.IntegerWithin(key, 1, 1, topology.MaxCPUs)
		if err != nil {
			return err
		}
		*to = int(n)
	}
	if b.CPUs == 0 {
		b.CPUs = b.Shape.CPU.CPUs()
	}
	if err := b.Shape.CPU.Check(b.CPUs); err != nil {
		return o.Errorf("cpu_topology", "does not fit: %w", err)
	}
	return nil
}

package diskapi

import (
	"fmt"
	"slices"
	"strings"

	"provium/internal/disk"
	"provium/internal/lua"
	"provium/internal/qemu"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// BootDisks reads the disks of boot opts.
func BootDisks(x *binding.Env, o value.Options, key string) ([]disk.Spec, error) {
	if !o.Has(key) {
		return nil, nil
	}
	t, ok := o.Get(key).(*lua.Table)
	if !ok {
		return nil, o.TypeError(key, "an array of tables")
	}
	entries, err := value.Sequence(t)
	if err != nil {
		return nil, o.Errorf(key, "%w", err)
	}
	var disks []disk.Spec
	for i, entry := range entries {
		what := fmt.Sprintf("%s: opts.%s[%d]", o.Func, key, i+1)
		t, ok := entry.(*lua.Table)
		if !ok {
			return nil, fmt.Errorf("%s must be a table {path=}, {scratch=} or {template=}, got %s", what,
				lua.TypeName(entry))
		}
		spec, err := bootDisk(x, what, t)
		if err != nil {
			return nil, err
		}
		disks = append(disks, spec)
	}
	return disks, nil
}

// bootDisk reads one entry. mediated has no meaning: every disk can be faulted.
func bootDisk(x *binding.Env, what string, t *lua.Table) (disk.Spec, error) {
	var spec disk.Spec
	o, err := value.NewOptions(what, t, append([]string{"path", "scratch", "template", "id", "readonly", "mediated"},
		diskModelOptions()...))
	if err != nil {
		return spec, err
	}
	var given []string
	for _, key := range []string{"path", "scratch", "template"} {
		if o.Has(key) {
			given = append(given, key)
		}
	}
	switch len(given) {
	case 1:
	case 0:
		return spec, fmt.Errorf("%s: exactly one of path, scratch and template is needed, none is given", what)
	default:
		return spec, fmt.Errorf("%s: exactly one of path, scratch and template is needed, given are %s", what,
			strings.Join(given, " and "))
	}
	if spec.Path, err = imagePath(x, o, "path"); err != nil {
		return spec, err
	}
	if spec.Template, err = imagePath(x, o, "template"); err != nil {
		return spec, err
	}
	if spec.Scratch, err = diskSize(o, "scratch"); err != nil {
		return spec, err
	}
	if spec.ID, err = diskID(o, "id"); err != nil {
		return spec, err
	}
	if _, err = o.Bool("mediated", false); err != nil {
		return spec, err
	}
	if spec.ReadOnly, err = o.Bool("readonly", false); err != nil {
		return spec, err
	}
	return spec, diskModel(o, &spec)
}

// diskModelOptions are the options that say what an image is and how a disk presents
// itself.
func diskModelOptions() []string {
	return []string{"format", "logical_block_size", "physical_block_size", "discard", "write_cache", "bus"}
}

// diskModel reads those options.
func diskModel(o value.Options, spec *disk.Spec) error {
	var err error
	if spec.Format, err = o.Str("format", ""); err != nil {
		return err
	}
	if o.Has("format") {
		switch valid := disk.Formats(); {
		case spec.Path == "" && spec.Template == "":
			return o.Errorf("format", "has no meaning without an image")
		case !slices.Contains(valid, spec.Format):
			return o.Errorf("format", "must be one of %s, got `%s`", strings.Join(valid, ", "),
				value.Clip(spec.Format, 80))
		}
	}
	if o.Has("bus") {
		if spec.Bus, err = o.Choice("bus", "", qemu.Buses()...); err != nil {
			return err
		}
	}
	if spec.LogicalBlock, err = blockSize(o, "logical_block_size"); err != nil {
		return err
	}
	if spec.PhysicalBlock, err = blockSize(o, "physical_block_size"); err != nil {
		return err
	}
	discard, err := o.Bool("discard", true)
	if err != nil {
		return err
	}
	cache, err := o.Bool("write_cache", true)
	if err != nil {
		return err
	}
	spec.NoDiscard, spec.NoWriteCache = !discard, !cache
	if err := spec.DiskModel.Check(); err != nil {
		return fmt.Errorf("%s: opts: %w", o.Func, err)
	}
	logical, _ := spec.Blocks()
	if spec.Scratch%int64(logical) != 0 {
		return fmt.Errorf("%s: opts: a size of %d bytes is no multiple of logical_block_size %d", o.Func, spec.Scratch,
			logical)
	}
	return nil
}

// blockSize reads the size of a disk's block in bytes; 0 when the option is absent.
func blockSize(o value.Options, key string) (int, error) {
	n, given, err := o.Integer(key)
	if err == nil && given && n != 512 && n != 4096 {
		err = o.Errorf(key, "must be 512 or 4096, got %d", n)
	}
	return int(n), err
}

// diskSize reads the size of a blank disk in bytes; 0 when the option is absent.
func diskSize(o value.Options, key string) (int64, error) {
	if !o.Has(key) {
		return 0, nil
	}
	n, err := value.ParseSize(o.Get(key))
	if err != nil {
		return 0, fmt.Errorf("%s: opts.%s: %w", o.Func, key, err)
	}
	if n%disk.SectorSize != 0 || n > disk.MaxSize {
		return 0, o.Errorf(key, "must be a multiple of %d and at most %d bytes, got %d", disk.SectorSize,
			int64(disk.MaxSize), n)
	}
	return n, nil
}

// diskID reads the id of a disk; "" when the option is absent.
func diskID(o value.Options, key string) (string, error) {
	id, err := o.Str(key, "")
	if err != nil || !o.Has(key) {
		return "", err
	}
	if err := disk.CheckID(id); err != nil {
		return "", fmt.Errorf("%s: opts.%s: %w", o.Func, key, err)
	}
	return id, nil
}

// imagePath reads the path of an image and makes it absolute: a relative one starts at the
// project. It returns "" when the option is absent.
func imagePath(x *binding.Env, o value.Options, key string) (string, error) {
	path, err := o.Path(key)
	if path == "" || err != nil {
		return "", err
	}
	return x.InProject(path), nil
}

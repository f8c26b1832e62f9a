package script

import (
	"fmt"
	"slices"
	"strings"

	"provium/internal/lab"
	"provium/internal/lua"
)

// readDisks reads the disks of boot opts.
func readDisks(o options, b *lab.BootOpts) error {
	if !o.has("disks") {
		return nil
	}
	t, ok := o.get("disks").(*lua.Table)
	if !ok {
		return o.wrong("disks", "an array of tables")
	}
	entries, err := sequence(t)
	if err != nil {
		return o.errorf("disks", "%w", err)
	}
	for i, entry := range entries {
		what := fmt.Sprintf("%s: opts.disks[%d]", o.what, i+1)
		t, ok := entry.(*lua.Table)
		if !ok {
			return fmt.Errorf("%s must be a table {path=}, {scratch=} or {template=}, got %s", what, typeName(entry))
		}
		spec, err := bootDisk(what, t)
		if err != nil {
			return err
		}
		b.Disks = append(b.Disks, spec)
	}
	return nil
}

// bootDisk reads one entry. mediated has no meaning: every disk can be faulted.
func bootDisk(what string, t *lua.Table) (lab.DiskSpec, error) {
	var spec lab.DiskSpec
	o, err := newOptions(what, t, append([]string{"path", "scratch", "template", "id", "readonly", "mediated"}, diskModelOptions()...))
	if err != nil {
		return spec, err
	}
	var given []string
	for _, key := range []string{"path", "scratch", "template"} {
		if o.has(key) {
			given = append(given, key)
		}
	}
	switch len(given) {
	case 1:
	case 0:
		return spec, fmt.Errorf("%s: exactly one of path, scratch and template is needed, none is given", what)
	default:
		return spec, fmt.Errorf("%s: exactly one of path, scratch and template is needed, given are %s", what, strings.Join(given, " and "))
	}
	if spec.Path, err = o.hostPath("path"); err != nil {
		return spec, err
	}
	if spec.Template, err = o.hostPath("template"); err != nil {
		return spec, err
	}
	if spec.Scratch, err = o.diskSize("scratch"); err != nil {
		return spec, err
	}
	if spec.ID, err = o.diskID("id"); err != nil {
		return spec, err
	}
	if _, err = o.boolean("mediated", false); err != nil {
		return spec, err
	}
	if spec.ReadOnly, err = o.boolean("readonly", false); err != nil {
		return spec, err
	}
	return spec, o.diskModel(&spec)
}

// diskModelOptions are the options that say what an image is and how a disk presents
// itself.
func diskModelOptions() []string {
	return []string{"format", "logical_block_size", "physical_block_size", "discard", "write_cache"}
}

// diskModel reads them.
func (o options) diskModel(spec *lab.DiskSpec) error {
	var err error
	if spec.Format, err = o.str("format", ""); err != nil {
		return err
	}
	if o.has("format") {
		switch valid := lab.DiskFormats(); {
		case spec.Path == "" && spec.Template == "":
			return o.errorf("format", "has no meaning without an image")
		case !slices.Contains(valid, spec.Format):
			return o.errorf("format", "must be one of %s, got `%s`", strings.Join(valid, ", "), clip(spec.Format, 80))
		}
	}
	if spec.LogicalBlock, err = o.blockSize("logical_block_size"); err != nil {
		return err
	}
	if spec.PhysicalBlock, err = o.blockSize("physical_block_size"); err != nil {
		return err
	}
	discard, err := o.boolean("discard", true)
	if err != nil {
		return err
	}
	cache, err := o.boolean("write_cache", true)
	if err != nil {
		return err
	}
	spec.NoDiscard, spec.NoWriteCache = !discard, !cache
	if err := spec.DiskModel.Check(); err != nil {
		return fmt.Errorf("%s: opts: %w", o.what, err)
	}
	logical, _ := spec.Blocks()
	if spec.Scratch%int64(logical) != 0 {
		return fmt.Errorf("%s: opts: a size of %d bytes is no multiple of logical_block_size %d", o.what, spec.Scratch, logical)
	}
	return nil
}

// blockSize reads the size of a disk's block in bytes; 0 when the option is absent.
func (o options) blockSize(key string) (int, error) {
	n, given, err := o.integer(key)
	if err == nil && given && n != 512 && n != 4096 {
		err = o.errorf(key, "must be 512 or 4096, got %d", n)
	}
	return int(n), err
}

// hostPath reads the name of a host file; "" when the option is absent.
func (o options) hostPath(key string) (string, error) {
	path, err := o.str(key, "")
	switch {
	case err != nil || !o.has(key):
		return "", err
	case path == "":
		return "", o.errorf(key, "must not be empty")
	case strings.ContainsRune(path, 0):
		return "", o.errorf(key, "holds a NUL byte: %s", quote(clip(path, 80)))
	}
	return path, nil
}

// diskSize reads the size of a blank disk in bytes; 0 when the option is absent.
func (o options) diskSize(key string) (int64, error) {
	if !o.has(key) {
		return 0, nil
	}
	n, err := parseSize(o.get(key))
	if err != nil {
		return 0, fmt.Errorf("%s: opts.%s: %w", o.what, key, err)
	}
	if n%lab.SectorSize != 0 || n > lab.MaxDiskSize {
		return 0, o.errorf(key, "must be a multiple of %d and at most %d bytes, got %d", lab.SectorSize, int64(lab.MaxDiskSize), n)
	}
	return n, nil
}

// diskID reads the id of a disk; "" when the option is absent.
func (o options) diskID(key string) (string, error) {
	id, err := o.str(key, "")
	if err != nil || !o.has(key) {
		return "", err
	}
	if err := lab.CheckDiskID(id); err != nil {
		return "", fmt.Errorf("%s: opts.%s: %w", o.what, key, err)
	}
	return id, nil
}

package diskapi

import (
	"context"
	"fmt"

	"provium/internal/disk"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

const (
	defaultDiskSize = 4 << 30 // of attach_disk, in bytes
	maxSectorRead   = 1 << 21 // sectors in one read: 1 GiB, which is to fit in memory
)

type diskMethod = binding.Method[*env, *disk.Disk]

func newDiskType(x *env) *lua.Type {
	return &lua.Type{
		Name: "disk",
		ToString: func(_ *lua.Call, obj any) string {
			d := obj.(*disk.Disk)
			return fmt.Sprintf("disk(%s of vm %s)", d.ID(), d.Owner().Name())
		},
		Methods: binding.MethodTable(x, "disk", diskMethods()),
	}
}

// diskOp is Op with the method's name before the error.
func diskOp(x *env, a value.Args, d *disk.Disk, do func(ctx context.Context) error) error {
	if err := x.Op(a, lab.VMOf(d), do); err != nil {
		return fmt.Errorf("%s: %w", a.Func, err)
	}
	return nil
}

// vmAttachDisk is vm:attach_disk(opts?).
func vmAttachDisk(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	o, err := a.Options(1)
	if err != nil {
		return nil, err
	}
	spec := disk.Spec{ID: "attached-" + vm.Name()}
	if o.Has("id") {
		if spec.ID, err = diskID(o, "id"); err != nil {
			return nil, err
		}
	}
	size, err := diskSize(o, "size")
	if err != nil {
		return nil, err
	}
	if spec.Path, err = imagePath(x.Env, o, "image"); err != nil {
		return nil, err
	}
	if spec.Template, err = imagePath(x.Env, o, "template"); err != nil {
		return nil, err
	}
	if spec.Path != "" && spec.Template != "" {
		return nil, o.Errorf("template",
			"and image exclude each other: an image is used in place, a template is copied")
	}
	if spec.ReadOnly, err = o.Bool("readonly", false); err != nil {
		return nil, err
	}
	if spec.Path == "" && spec.Template == "" {
		spec.Scratch = size
		if size == 0 {
			spec.Scratch = defaultDiskSize
		}
	}
	if err := diskModel(o, &spec); err != nil {
		return nil, err
	}
	var d *disk.Disk
	err = x.Op(a, vm, func(ctx context.Context) (err error) {
		d, err = vm.AttachDisk(ctx, spec)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Func, err)
	}
	return []lua.Value{x.Disk(d)}, nil
}

// vmDisk is vm:disk(id).
func vmDisk(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	id, err := a.Str(1, "id")
	if err != nil {
		return nil, err
	}
	var d *disk.Disk
	err = a.Call.Block(func(ctx context.Context) (err error) {
		d, err = vm.Disk(ctx, id)
		return err
	})
	if err != nil {
		return nil, a.Errorf("%w", err)
	}
	return []lua.Value{x.Disk(d)}, nil
}

func diskDetach(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	return nil, diskOp(x, a, d, d.Detach)
}

// sectorArg is a position or a number of sectors.
func sectorArg(a value.Args, i int, name string) (int64, error) {
	n, ok := value.ToInteger(a.Value(i))
	if !ok {
		if v, isFloat := a.Value(i).(float64); isFloat {
			return 0, a.Errorf("argument %d (%s) must be an integer, got %s", i, name, value.FormatFloat(v))
		}
		return 0, a.TypeError(i, name, "an integer")
	}
	return n, nil
}

func diskReadSectors(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	first, err := sectorArg(a, 1, "offset")
	if err != nil {
		return nil, err
	}
	n, err := sectorArg(a, 2, "n")
	if err != nil {
		return nil, err
	}
	if n > maxSectorRead {
		return nil, a.Errorf("%d sectors are too many for one read (at most %d; the disk has %d bytes)", n,
			maxSectorRead, d.Size())
	}
	o, err := a.Options(3)
	if err != nil {
		return nil, err
	}
	pending, err := o.Bool("pending", false)
	if err != nil {
		return nil, err
	}
	var p []byte
	err = diskOp(x, a, d, func(ctx context.Context) (err error) {
		p, err = d.ReadSectors(ctx, first, n, pending)
		return err
	})
	return value.Results(err, string(p))
}

func diskWriteSectors(x *env, a value.Args, d *disk.Disk) ([]lua.Value, error) {
	first, err := sectorArg(a, 1, "offset")
	if err != nil {
		return nil, err
	}
	data, err := a.Str(2, "data")
	if err != nil {
		return nil, err
	}
	return nil, diskOp(x, a, d, func(ctx context.Context) error { return d.WriteSectors(ctx, first, []byte(data)) })
}

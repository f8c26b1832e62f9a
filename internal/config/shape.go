package config

import (
	"fmt"
	"strings"

	"provium/internal/machine"
)

// argsInto takes arguments for QEMU. {out} has no meaning in them.
func argsInto(to *[]string) func(any) error {
	return func(v any) error {
		if err := stringsInto(to)(v); err != nil {
			return err
		}
		if err := machine.CheckArgs(*to); err != nil {
			return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "qemu_args: "))
		}
		return nil
	}
}

// sharesInto reads directories of the host that guests may write to.
func sharesInto(to *[]machine.Share, at base) func(any) error {
	return func(v any) error {
		var entries []string
		if err := stringsInto(&entries)(v); err != nil {
			return err
		}
		for i, entry := range entries {
			share, err := machine.ParseShare(entry, at.resolve)
			if err != nil {
				return fmt.Errorf("entry %d: %w", i+1, err)
			}
			*to = append(*to, share)
		}
		return machine.CheckShares(*to)
	}
}

// CheckShares returns an error for shared directories that no agent of ours mounts.
func (p *Profile) CheckShares() error {
	if len(p.Shape.Shares) == 0 || p.Initrd == "" && p.InjectAgent && !p.Shape.IsFromDisk() {
		return nil
	}
	return fmt.Errorf("profile `%s` has rw, and initrd, inject_agent = false or boot_from = \"disk\"; the agent of "+
		"the built-in initrd mounts what rw says", p.Name)
}

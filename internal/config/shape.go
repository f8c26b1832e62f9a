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

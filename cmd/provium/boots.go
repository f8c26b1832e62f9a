package main

import (
	"io"

	"github.com/spf13/cobra"

	"provium/cmd/provium/internal/listing"
	"provium/internal/snapshot"
)

func (p *program) bootsCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the guests in the boot cache, the one that was used last first",
		Long: `Lists the guests in the boot cache, the one that was used last first: size on disk,
profile, release of the kernel, memory and vCPUs, when it was made and last used.`,
	}
	clean := &cobra.Command{Use: "clean", Short: "Empty the boot cache"}
	return commandGroup("boots", "List and drop the guests that the boot cache keeps", p.withBoots(list, listing.Boots),
		p.withBoots(clean, listing.CleanBoots))
}

// withBoots completes a command that looks at the boot cache.
func (p *program) withBoots(cmd *cobra.Command, do func(io.Writer, *snapshot.Cache) error) *cobra.Command {
	cmd.Args = noArguments
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := p.caches().boots()
		if err != nil {
			return err
		}
		return do(cmd.OutOrStdout(), &snapshot.Cache{Dir: dir})
	}
	finish(cmd)
	return cmd
}

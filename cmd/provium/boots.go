package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"provium/internal/snapshot"
	"provium/internal/terminal"
)

func (p *program) bootsCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the guests in the boot cache, the one that was used last first",
		Long: `Lists the guests in the boot cache, the one that was used last first: size on disk,
profile, release of the kernel, memory and vCPUs, when it was made and last used.`,
	}
	clean := &cobra.Command{Use: "clean", Short: "Empty the boot cache"}
	return commandGroup("boots", "List and drop the guests that the boot cache keeps", p.withBoots(list, listBoots),
		p.withBoots(clean, cleanBoots))
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

func listBoots(out io.Writer, cache *snapshot.Cache) error {
	all, err := cache.List()
	if err != nil {
		return err
	}
	now := time.Now()
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, e := range all {
		used := "never used"
		if e.Used.After(e.Made) {
			used = "used " + ago(now.Sub(e.Used))
		}
		what := "(cannot be read)\t\t"
		if e.Foreign {
			what = "(of another version of Provium)\t\t"
		}
		if m := e.Manifest; m != nil {
			kernel := m.Guest.Kernel
			if kernel == "" {
				kernel = "?"
			}
			what = fmt.Sprintf("%s\t%s\t%s, %d vCPU", m.Guest.Profile, kernel, sizeText(m.Machine.Memory),
				m.Machine.CPUs)
		}
		fmt.Fprintf(w, "%12s\t%s\tmade %s\t%s\n", mib(e.Size), terminal.Escape(what), ago(now.Sub(e.Made)), used)
	}
	if err := w.Flush(); err != nil {
		return outputError(err)
	}
	_, err = fmt.Fprintf(out, "%d entries, %s\n", len(all), mib(bootsSize(all)))
	return outputError(err)
}

func cleanBoots(out io.Writer, cache *snapshot.Cache) error {
	removed, err := cache.Clean(time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "removed %d entries, %s\n", len(removed), mib(bootsSize(removed)))
	return outputError(err)
}

func bootsSize(entries []snapshot.Entry) (sum int64) {
	for _, e := range entries {
		sum += e.Size
	}
	return sum
}

// ago returns for people how long something is past.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%dmin ago", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	}
	return fmt.Sprintf("%dd ago", d/day)
}

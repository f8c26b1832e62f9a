package main

import (
	"io"

	"github.com/spf13/cobra"
)

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	cmd := &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print a completion script for a shell",
		ValidArgs: shells,
		Example: `  provium completion bash > /etc/bash_completion.d/provium
  provium completion zsh > "${fpath[1]}/_provium"
  provium completion fish > ~/.config/fish/completions/provium.fish`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "expected one shell: bash, zsh or fish")
			}
			root, out := cmd.Root(), cmd.OutOrStdout()
			generators := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh":  root.GenZshCompletion,
				"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
			}
			generate, ok := generators[args[0]]
			if !ok {
				return usage(cmd, "unknown shell `%s`%s (valid: bash, zsh, fish)", args[0], didYouMean(args[0], shells))
			}
			return generate(out)
		},
	}
	finish(cmd)
	return cmd
}

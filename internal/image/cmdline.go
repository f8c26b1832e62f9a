package image

import (
	"cmp"
	"fmt"
	"strings"

	"provium/internal/arch"
)

const agentPath = "/sbin/provium-agent"

// CmdlineSpec is what a kernel command line is made of.
type CmdlineSpec struct {
	// Arch is the guest's architecture; x86-64 if nil.
	Arch *arch.Arch
	// Profile names the profile in errors.
	Profile string
	// Cmdline is the profile's cmdline, nil if it is absent.
	Cmdline *string
	// File is the content of the profile's cmdline_file, nil if it is absent.
	File *string
	// Boot is the boot's kernel_cmdline, which replaces both; nil if absent.
	Boot *string
	// Append is the boot's kernel_cmdline_append. It goes after everything.
	Append string
	// ExplicitKernel tells that the profile names its kernel, and so has to name
	// its command line.
	ExplicitKernel bool
	// Inject tells that the guest starts with our agent.
	Inject bool
}

// Cmdline puts a kernel command line together: the profile's (or the boot's),
// then the serial console unless present, then the agent as rdinit, then what
// the boot appends. A "--" starts the arguments of init: what is added stands in
// front of it.
func Cmdline(c CmdlineSpec) (string, error) {
	guest := cmp.Or(c.Arch, arch.AMD64)
	var params, initArgs []string
	add := func(text string) error {
		p, i, err := splitCmdline(text)
		if err != nil {
			return fmt.Errorf("profile `%s`: kernel command line: %w", c.Profile, err)
		}
		params = append(params, p...)
		initArgs = append(initArgs, i...)
		return nil
	}
	base, err := baseCmdline(c)
	if err != nil {
		return "", err
	}
	for _, text := range base {
		if err := add(text); err != nil {
			return "", err
		}
	}
	given := len(params)
	if err := add(c.Append); err != nil {
		return "", err
	}
	appended := params[given:]
	params = params[:given:given]

	hasConsole, hasAgent := false, false
	for _, p := range append(params[:given:given], appended...) {
		key, value, _ := strings.Cut(strings.ReplaceAll(p, `"`, ""), "=")
		switch {
		case key == "console" && (value == guest.Console || strings.HasPrefix(value, guest.Console+",")):
			hasConsole = true
		case key == "rdinit" && value == agentPath:
			hasAgent = true
		case key == "rdinit" && c.Inject:
			return "", fmt.Errorf("profile `%s`: the kernel command line has rdinit=%s, but the agent has to start "+
				"as rdinit=%s: remove it, or set inject_agent = false and start a compatible agent yourself",
				c.Profile, value, agentPath)
		}
	}
	if !hasConsole {
		params = append(params, "console="+guest.Console)
	}
	if c.Inject && !hasAgent {
		params = append(params, "rdinit="+agentPath)
	}
	params = append(params, appended...)
	if len(initArgs) > 0 {
		params = append(append(params, "--"), initArgs...)
	}
	out := strings.Join(params, " ")
	if len(out) > guest.MaxCmdline { // the kernel would cut it silently
		return "", fmt.Errorf("profile `%s`: the kernel command line has %d bytes, and the kernel takes at most %d",
			c.Profile, len(out), guest.MaxCmdline)
	}
	return out, nil
}

func baseCmdline(c CmdlineSpec) ([]string, error) {
	if c.Boot != nil {
		return []string{*c.Boot}, nil
	}
	empty := fmt.Errorf("profile `%s` has empty cmdline", c.Profile)
	blank := func(s *string) bool { return strings.TrimSpace(*s) == "" }
	switch {
	case c.Cmdline != nil && blank(c.Cmdline):
		return nil, empty
	case c.Cmdline != nil && c.File != nil:
		return []string{*c.File, *c.Cmdline}, nil
	case c.Cmdline != nil:
		return []string{*c.Cmdline}, nil
	case c.File != nil && blank(c.File):
		return nil, fmt.Errorf("%w: its cmdline_file is blank", empty)
	case c.File != nil:
		return []string{*c.File}, nil
	case c.ExplicitKernel:
		return nil, fmt.Errorf("%w: a profile with a kernel of its own needs cmdline or cmdline_file", empty)
	}
	return []string{cmp.Or(c.Arch, arch.AMD64).Cmdline}, nil
}

// splitCmdline splits at blanks outside of double quotes, as the kernel does, and
// at the first "--".
func splitCmdline(text string) (params, initArgs []string, err error) {
	var words []string
	start, quoted := -1, false
	for i := 0; i <= len(text); i++ {
		blank := i == len(text)
		if !blank {
			switch c := text[i]; {
			case c == '"':
				quoted = !quoted
			case c == ' ' || c == '\t' || c == '\n' || c == '\r':
				if quoted && c != ' ' && c != '\t' {
					return nil, nil, fmt.Errorf("line break inside quotes in %q", text)
				}
				blank = !quoted
			case c < ' ' || c == 0x7f:
				return nil, nil, fmt.Errorf("control character %q in %q", c, text)
			}
		}
		switch {
		case blank && start >= 0:
			words = append(words, text[start:i])
			start = -1
		case !blank && start < 0:
			start = i
		}
	}
	if quoted {
		return nil, nil, fmt.Errorf("missing closing quote in %q", text)
	}
	for i, w := range words {
		if w == "--" {
			return words[:i], words[i+1:], nil
		}
	}
	return words, nil, nil
}

package listing

import (
	"cmp"
	"fmt"
	"strings"

	"provium/internal/image"
	"provium/internal/userland"
)

// Image returns what a profile boots, for people.
func Image(img *image.Image) string {
	var b strings.Builder
	line := func(name, text string) { fmt.Fprintf(&b, "  %-9s %s\n", name, text) }
	fmt.Fprintf(&b, "profile %s\n", img.Profile)
	kernel := fmt.Sprintf("%s (%s)", cmp.Or(img.KernelGiven, img.KernelFile), img.Origin)
	if img.Release != "" {
		kernel += ", " + img.Release
	}
	line("kernel", kernel)
	if img.Kernel != cmp.Or(img.KernelGiven, img.KernelFile) {
		line("boots", img.Kernel)
	}
	switch {
	case img.Initrd == "":
		line("initrd", "none")
	case img.BaseInitrd != "":
		line("initrd", img.Initrd)
		line("made of", img.BaseInitrd)
	case img.Inject:
		line("initrd", img.Initrd+" (built in)")
	default:
		line("initrd", img.Initrd)
	}
	if u := img.Userland; u != nil {
		line("userland", fmt.Sprintf("%s, described by %s", u.Source, u.Index))
		if u.Digest != "" {
			line("  digest", u.Digest)
		}
		if u.Filesystem != "" {
			where := "the whole image"
			if u.Partition > 0 {
				where = fmt.Sprintf("partition %d", u.Partition)
			}
			line("  disk", fmt.Sprintf("%s, %s of %s", where, u.Filesystem, Size(u.Size)))
		}
		if u.HasInit {
			line("  init", "/sbin/init")
		}
		for _, path := range u.Skipped {
			line("  without", path+" (not everybody may read it)")
		}
		writeImageConfig(line, u.Config)
	}
	if img.Inject {
		line("agent", img.Overlay)
	} else {
		line("agent", "not added (inject_agent = false)")
	}
	if img.ModulesDir != "" {
		line("modules", "from "+img.ModulesDir)
	}
	for _, group := range []struct {
		name    string
		modules []image.Module
	}{{"early", img.Early}, {"late", img.Late}} {
		var names []string
		for _, m := range group.modules {
			names = append(names, strings.TrimSpace(m.Name+" "+m.Params))
		}
		if len(names) > 0 {
			line("  "+group.name, strings.Join(names, ", "))
		}
	}
	line("cmdline", img.Cmdline)
	for _, n := range img.Notes {
		line("note", n)
	}
	return b.String()
}

// writeImageConfig shows what an OCI image says about its commands.
func writeImageConfig(line func(name, text string), c userland.Config) {
	for _, kv := range c.Env {
		line("  env", kv)
	}
	if c.WorkDir != "" {
		line("  workdir", c.WorkDir)
	}
	if c.User != "" {
		line("  user", c.User)
	}
	if len(c.Entrypoint) > 0 {
		line("  command", strings.Join(c.Entrypoint, " ")+" (not started)")
	}
}

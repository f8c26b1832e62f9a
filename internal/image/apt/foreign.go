package apt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// debianKeys is where Debian's keys are, if they are installed.
const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// errNoArchive is returned where the package manager is not set up for Debian.
var errNoArchive = errors.New("this machine's apt knows no Debian archive, which has packages of other architectures")

// useLists fetches the package lists of another architecture or release into the temporary directory, for
// all later calls. They come from the Debian archive that this machine's apt is set up with.
func (a *apt) useLists(ctx context.Context) error {
	text, err := a.apt(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages",
		"Origin: Debian", "Label: Debian", "Component: main")
	if err != nil {
		return err
	}
	archive, suite, ok := strings.Cut(strings.TrimSpace(firstLine(text)), " ")
	if !ok {
		return errNoArchive
	}
	suite = cmp.Or(a.want.Suite, a.want.Arch.Suite, suite)
	signed := ""
	if _, err := os.Stat(debianKeys); err == nil {
		signed = " signed-by=" + debianKeys
	}
	name := a.want.Arch.Name
	sources, status := filepath.Join(a.dir, "sources.list"), filepath.Join(a.dir, "status")
	line := fmt.Sprintf("deb [arch=%s%s] %s %s main\n", name, signed, archive, suite)
	err = errors.Join(os.WriteFile(sources, []byte(line), 0o644),
		os.WriteFile(status, nil, 0o644)) // no package of it is installed
	if err != nil {
		return fmt.Errorf("make image cache: %w", err)
	}
	for _, o := range []string{"Dir::Etc::sourcelist=" + sources, "Dir::Etc::sourceparts=-",
		"Dir::State::status=" + status, "APT::Architecture=" + name, "APT::Architectures=" + name,
		"Acquire::Languages=none",
		// Descriptions for graphical programs are as large as the lists.
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"} {
		a.options = append(a.options, "-o", o)
	}
	if err := a.usePrivateLists(ctx); err != nil {
		return fmt.Errorf("no package lists of %s in Debian's %s: %w", name, suite, err)
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

package kernel

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// fullConfig sets all that guests need.
func fullConfig() string {
	var b strings.Builder
	b.WriteString("#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_HZ=250\nCONFIG_LOCALVERSION=\"=y\"\n")
	for _, name := range needs {
		b.WriteString(name + "=y\n")
	}
	for _, name := range needsDriver {
		b.WriteString(name + "=m\n")
	}
	return b.String()
}

func TestOptions(t *testing.T) {
	config := fullConfig()
	every := func(string) bool { return true }
	none := func(string) bool { return false }
	for name, c := range map[string]struct {
		config    string
		hasModule func(string) bool
		want      []string
	}{
		"all":        {config, every, nil},
		"no modules": {config, none, needsDriver[:]},
		"built in":   {strings.ReplaceAll(config, "=m", "=y"), none, nil},
		"no PCI": {strings.Replace(config, "CONFIG_PCI=y", "# CONFIG_PCI is not set", 1), every,
			[]string{"CONFIG_PCI"}},
		"a module": {strings.Replace(config, "CONFIG_UNIX=y", "CONFIG_UNIX=m", 1), every,
			[]string{"CONFIG_UNIX"}},
		"nothing": {"", every, slices.Concat(needs[:], needsDriver[:])},
	} {
		if got := ReadOptions(c.config).Missing(c.hasModule); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := Options(nil).Missing(none); got != nil {
		t.Errorf("of unknown options: %q", got)
	}
}

func TestEmbeddedConfig(t *testing.T) {
	config := fullConfig()
	for _, before := range []int{0, 100, 1<<20 - 3, 1<<20 + 7} {
		file := slices.Concat(bytes.Repeat([]byte("I"), before), []byte(configBegin), zipped([]byte(config)),
			[]byte(configEnd), []byte("more"))
		got, err := EmbeddedConfig(bytes.NewReader(file), int64(len(file)))
		if err != nil || got != config {
			t.Errorf("behind %d bytes: %d bytes, %v", before, len(got), err)
		}
	}
	for name, file := range map[string]string{"none": strings.Repeat("x", 1<<21), "empty": "", "cut": configBegin,
		"damaged": configBegin + "\x1f\x8b damaged"} {
		if text, err := EmbeddedConfig(strings.NewReader(file), int64(len(file))); err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func FuzzEmbeddedConfig(f *testing.F) {
	f.Add([]byte(configBegin + string(zipped([]byte("CONFIG_PCI=y\n"))) + configEnd))
	f.Fuzz(func(t *testing.T, file []byte) {
		text, err := EmbeddedConfig(bytes.NewReader(file), int64(len(file)))
		if err == nil && len(text) > MaxConfig {
			t.Errorf("%d bytes", len(text))
		}
		ReadOptions(text).Missing(func(string) bool { return false })
	})
}

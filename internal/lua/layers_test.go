package lua

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// layers are the C files from the lowest one up. Each may include the headers of the layers
// below it and its own.
var layers = []string{"state", "box", "value", "trace", "hook", "library", "object", "call", "life"}

func TestLayers(t *testing.T) {
	files, err := filepath.Glob("*.[ch]")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	include := regexp.MustCompile(`(?m)^#include "(\w+)\.h"`)
	for _, file := range files {
		name := strings.TrimSuffix(file, filepath.Ext(file))
		if file == "glue.h" {
			continue // the one that Go includes
		}
		level := slices.Index(layers, name)
		if level < 0 {
			t.Errorf("%s is in no layer", file)
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range include.FindAllStringSubmatch(string(text), -1) {
			if on := slices.Index(layers, m[1]); on < 0 || on > level {
				t.Errorf("%s includes %s.h, which is not below it", file, m[1])
			}
		}
	}
}

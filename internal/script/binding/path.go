package binding

import (
	"fmt"
	"path/filepath"
	"strings"
)

// ShowPath returns err with the absolute path that was tried, when err names a relative path
// of the project or a file beside it. It returns other errors unchanged.
func (x *Env) ShowPath(err error, path string) error {
	if err == nil || path == "" || filepath.IsAbs(path) {
		return err
	}
	tried, text := x.InProject(path), err.Error()
	named := strings.Contains(text, path)
	if dir := filepath.Dir(path); dir != "." { // a new file has another name at first
		named = named || strings.Contains(text, dir+"/")
	}
	if !named || strings.Contains(text, tried) {
		return err
	}
	return fmt.Errorf("%w (tried `%s`)", err, tried)
}

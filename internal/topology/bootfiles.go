package topology

import (
	"encoding/json"
	"fmt"

	"provium/internal/jsonerror"
)

// EncodeBootFiles returns the JSON of files that a boot was given.
func EncodeBootFiles(files []BootFile) ([]byte, error) { return json.Marshal(files) }

// DecodeBootFiles decodes what EncodeBootFiles has made.
func DecodeBootFiles(text []byte) (files []BootFile, err error) {
	if err := json.Unmarshal(text, &files); err != nil {
		return nil, fmt.Errorf("boot files: %w", jsonerror.Plain(err))
	}
	return files, nil
}

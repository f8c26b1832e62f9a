package coverage

import (
	"bufio"
	"fmt"
	"io"
)

// Format is how a report is written.
type Format string

// The formats.
const (
	FormatText Format = "text"
	FormatHTML Format = "html"
	FormatJSON Format = "json"
)

// ParseFormat returns the format of that name.
func ParseFormat(text string) (Format, error) {
	switch f := Format(text); f {
	case FormatText, FormatHTML, FormatJSON:
		return f, nil
	}
	return "", fmt.Errorf("expected text, html or json")
}

// Write writes a report in a format. color is for text.
func Write(w io.Writer, f Format, r *Report, color bool) error {
	switch f {
	case FormatHTML:
		out := bufio.NewWriterSize(w, 64<<10)
		if err := HTML(out, r); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("coverage write: %w", err)
		}
		return nil
	case FormatJSON:
		return JSON(w, r)
	}
	return Text(w, r, color)
}

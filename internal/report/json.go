package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"provium/internal/terminal"
)

// JSON writes one line per file.
type JSON struct{ w io.Writer }

// NewJSON returns a renderer that writes to w.
func NewJSON(w io.Writer) *JSON { return &JSON{w: w} }

// jsonFile has the shape of the output; the order of its fields is kept.
type jsonFile struct {
	Path       string     `json:"path"`
	Status     FileStatus `json:"status"`
	Timeout    string     `json:"timeout"`
	Passed     bool       `json:"passed"`
	Duration   float64    `json:"duration"` // seconds
	ChunkError *string    `json:"chunk_error"`
	Tests      []jsonTest `json:"tests"`
}

type jsonTest struct {
	Name     string     `json:"name"`
	Status   TestStatus `json:"status"`
	Message  *string    `json:"message"`
	Log      []string   `json:"log"`
	Duration float64    `json:"duration"` // seconds
	// Retries is how often it had failed before, Flaky that it has passed then.
	Retries int  `json:"retries,omitempty"`
	Flaky   bool `json:"flaky,omitempty"`
}

// File writes the line of one file, with a single write.
func (j *JSON) File(r FileResult) error {
	f := jsonFile{
		Path: r.Path, Status: r.Status, Timeout: "in_time", Passed: r.Status == FilePassed,
		Duration: seconds(r.Duration), ChunkError: orNull(r.ChunkError), Tests: []jsonTest{},
	}
	if r.Status == FileTimedOut {
		f.Timeout = "timed_out"
	}
	for _, t := range r.Tests {
		log := t.Log
		if log == nil {
			log = []string{}
		}
		f.Tests = append(f.Tests, jsonTest{Name: t.Name, Status: t.Status, Message: orNull(t.Message), Log: log,
			Duration: seconds(t.Duration), Retries: len(t.Retries), Flaky: t.IsFlaky()})
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // `nil ~= <n1>` is for reading
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("result encode: %w", err)
	}
	if _, err := j.w.Write(terminal.EscapeJSON(line.Bytes())); err != nil {
		return fmt.Errorf("result write: %w", err)
	}
	return nil
}

// seconds rounds to microseconds: the rest is noise.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

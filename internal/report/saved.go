package report

import (
	"errors"
	"fmt"
	"io"
	"time"

	"provium/internal/event"
)

// Saved is what one or more saved streams tell, as of the shards of a run: their results
// one behind the other, each file's once for each iteration. The zero value is ready.
type Saved struct {
	Files []FileResult
	// NotStarted counts files that were selected and never started.
	NotStarted int
	// Elapsed is the duration of the longest stream.
	Elapsed time.Duration
	// Lost counts events that the readers who saved the streams did not get.
	Lost uint64
	// Keep is called for each result before it joins Files, to take the contents of attachments out of it. They are
	// dropped where it is nil.
	Keep func(*FileResult)
}

// VersionError is returned for a stream of another protocol version.
type VersionError struct{ Version uint32 }

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the stream has protocol version %d, this program reads version %d", e.Version,
		event.ProtocolVersion)
}

// Read adds a stream. After an error, what the stream had before its damage is added; one
// that wraps [event.ErrTruncated] is that of a run which was killed, or has not ended.
func (s *Saved) Read(r event.Reader) error {
	it := iteration{keep: s.keep}
	var first, last int64
	var elapsed time.Duration
	finish := func() {
		files, notStarted := it.results()
		s.Files = append(s.Files, files...)
		s.NotStarted += notStarted
		it = iteration{keep: s.keep}
	}
	for n := 0; ; n++ {
		env, err := r.Decode()
		if err != nil {
			finish()
			if elapsed == 0 {
				elapsed = time.Duration(last - first)
			}
			s.Elapsed = max(s.Elapsed, elapsed)
			if err == io.EOF {
				return nil
			}
			return err
		}
		if n == 0 {
			first = env.TS
		}
		last = env.TS
		switch e := env.Event.(type) {
		case event.RunStarted:
			finish()
			if e.ProtocolVersion != event.ProtocolVersion {
				return &VersionError{e.ProtocolVersion}
			}
		case event.RunCompleted:
			elapsed += duration(e.DurationNS)
		case event.EventsLost:
			s.Lost += e.Count
		default:
			it.add(env.Event)
		}
	}
}

// keep takes the contents of attachments out of a result.
func (s *Saved) keep(r *FileResult) {
	if s.Keep != nil {
		s.Keep(r)
	}
	for _, t := range r.Tests {
		for i := range t.Attachments {
			t.Attachments[i].Data = nil
		}
	}
}

// iteration is what a run of the selection has told so far.
type iteration struct {
	order []string
	files map[string]*savedFile
	keep  func(*FileResult)
}

type savedFile struct {
	*Collector
	dispatched bool
	result     *FileResult // once it is complete
}

// file returns the file at path.
func (it *iteration) file(path string) *savedFile {
	f := it.files[path]
	if f == nil {
		if it.files == nil {
			it.files = map[string]*savedFile{}
		}
		f = &savedFile{Collector: NewCollector(path)}
		it.files[path] = f
		it.order = append(it.order, path)
	}
	return f
}

func (it *iteration) add(e event.Event) {
	switch e := e.(type) {
	case event.FileDiscovered:
		it.file(e.Path)
	case event.FileDispatched:
		it.file(e.Path).dispatched = true
	case event.TestStarted:
		it.file(e.Path).Add(e)
	case event.TestPassed:
		it.file(e.Path).Add(e)
	case event.TestFailed:
		it.file(e.Path).Add(e)
	case event.TestSkipped:
		it.file(e.Path).Add(e)
	case event.TestRetried:
		it.file(e.Path).Add(e)
	case event.TestOutput:
		it.file(e.Path).Add(e)
	case event.TestAttachment:
		it.file(e.Path).Add(e)
	case event.KernelReport:
		if e.File != "" { // else it is of none of the files
			it.file(e.File).Add(e)
		}
	case event.FileCompleted:
		f := it.file(e.Path)
		r := f.Result(FileStatus(e.Status), e.ChunkError, duration(e.DurationNS))
		r.Artifacts = e.Artifacts
		it.keep(&r)
		f.dispatched, f.result = true, &r
	}
}

// errStreamEnds is why the result of a file is not known.
var errStreamEnds = errors.New("the event stream ends before the file does")

// results returns the results of the files that have started, in the order of the run.
func (it *iteration) results() (files []FileResult, notStarted int) {
	for _, path := range it.order {
		f := it.files[path]
		switch {
		case f.result != nil:
			files = append(files, *f.result)
		case !f.dispatched && f.Tests() == 0 && f.Running() == nil:
			notStarted++
		default:
			if t := f.Running(); t != nil {
				f.Add(event.TestFailed{Path: path, Name: t.Name, Reason: errStreamEnds.Error()})
			}
			r := f.Result(FileInterrupted, "", 0)
			if f.Tests() == 0 {
				r.ChunkError = errStreamEnds.Error()
			}
			it.keep(&r)
			files = append(files, r)
		}
	}
	return files, notStarted
}

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/wire"
)

// Every operation below may be called from many goroutines at once. A context
// that ends makes the guest stop the operation as well (a command is killed
// with its descendants) and returns the context's cause as the error. Failures
// in the guest are *OpError, all others wrap the reason why the link is gone.

// Ping makes one round trip to the agent.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.do(ctx, &wire.Ping{}, transfer{})
	return err
}

// Run runs a command and returns when the started process has ended, even if
// children of it still hold its outputs open.
func (c *Client) Run(ctx context.Context, r RunRequest) (*RunResult, error) {
	req := RunOp{r}.request().(*wire.Run)
	t := transfer{limit: wire.MaxOutput, within: r.Timeout, ends: true}
	req.Stdin = t.send(r.Stdin)
	a, err := c.do(ctx, req, t)
	if err != nil {
		return nil, cutShort(a, err)
	}
	return runResult(a)
}

// CutShortError is why a command was stopped from outside before its end.
type CutShortError struct {
	Err            error
	Item           int    // its number in a batch, from 1; 0 for one that is in none
	Stdout, Stderr []byte // the ends of what it had printed
}

// Error returns the text of Err.
func (e *CutShortError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *CutShortError) Unwrap() error { return e.Err }

// cutShort returns the error of a command, with what it has printed if a is known.
func cutShort(a *answer, err error) error {
	if a == nil {
		return err
	}
	item := 0
	if batch, ok := a.value.(wire.BatchValue); ok {
		item, a = stopped(batch, a)
	}
	r, other := runResult(a)
	if other != nil || len(r.Stdout)+len(r.Stderr) == 0 {
		return err
	}
	return &CutShortError{Err: err, Item: item, Stdout: r.Stdout, Stderr: r.Stderr}
}

// stopped returns the number and the answer of the operation of a batch that was under way when
// the batch was stopped: the last one that has a value. Of the streams, of which only the ends
// are left, that is what it has sent last.
func stopped(batch wire.BatchValue, a *answer) (item int, of *answer) {
	of = &answer{}
	for i, r := range batch {
		if r.Err != nil {
			continue
		}
		item, of = i+1, &answer{value: r.Value}
		for s, n := range r.Streamed {
			of.in[s] = a.in[s][len(a.in[s])-int(min(n, uint64(len(a.in[s])))):]
		}
	}
	return item, of
}

func runResult(a *answer) (*RunResult, error) {
	v, ok := a.value.(*wire.RunValue)
	if !ok {
		return nil, badAnswer("run", a.value)
	}
	r := &RunResult{
		Status:    v.Status,
		Stdout:    join(a.in[wire.StreamStdout], v.Stdout),
		Stderr:    join(a.in[wire.StreamStderr], v.Stderr),
		Truncated: v.Truncated,
	}
	switch v.Status {
	case Signalled:
		r.ExitCode, r.Signal = -1, int(v.Code)
	case TimedOut:
		r.ExitCode = -2
	default:
		r.ExitCode = int(v.Code)
	}
	return r, nil
}

// ReadFile returns a file's contents. A regular file above 96 MiB is refused
// before any of it is read.
func (c *Client) ReadFile(ctx context.Context, path string) ([]byte, error) {
	a, err := c.do(ctx, ReadFileOp{path}.request(), transfer{limit: wire.MaxReadFile})
	if err != nil {
		return nil, err
	}
	return fileData(a)
}

func fileData(a *answer) ([]byte, error) {
	v, ok := a.value.(*wire.FileValue)
	if !ok {
		return nil, badAnswer("read_file", a.value)
	}
	return join(a.in[wire.StreamData], v.Data), nil
}

// PullFile copies a guest file of any size to w in bounded memory and returns
// its permission bits. An error of w stops the operation and is returned.
func (c *Client) PullFile(ctx context.Context, path string, w io.Writer) (perm uint32, err error) {
	a, err := c.do(ctx, &wire.ReadFile{Path: path}, transfer{to: w})
	if err != nil {
		return 0, err
	}
	v, ok := a.value.(*wire.FileValue)
	if !ok {
		return 0, badAnswer("read_file", a.value)
	}
	if _, err := w.Write(v.Data); err != nil {
		return 0, fmt.Errorf("read_file %s: %w", path, err)
	}
	return v.Perm, nil
}

// WriteFile creates a file (0644 unless perm is given) or replaces its
// contents, keeping its mode unless perm is given.
func (c *Client) WriteFile(ctx context.Context, path string, data []byte, perm Perm) error {
	req := WriteFileOp{Path: path, Perm: perm}.request().(*wire.WriteFile)
	var t transfer
	req.Data = t.send(data)
	_, err := c.do(ctx, req, t)
	return err
}

// PushFile is WriteFile with everything from r, in bounded memory. When r
// fails, the operation is stopped and its error returned; the guest file then
// has some of the bytes.
func (c *Client) PushFile(ctx context.Context, path string, r io.Reader, perm Perm) error {
	req := WriteFileOp{Path: path, Perm: perm}.request().(*wire.WriteFile)
	req.Data = wire.Bulk{Length: wire.UntilEnd}
	_, err := c.do(ctx, req, transfer{from: r})
	return err
}

// DataReader reads a file and skips its holes.
type DataReader = wire.DataReader

// NewDataReader returns a reader of f; without holes the file system is not asked for
// them, as for what is not a regular file.
func NewDataReader(f io.ReadSeeker, holes bool) *DataReader { return wire.NewDataReader(f, holes) }

// PieceWriter takes the data of a file with holes.
type PieceWriter interface {
	io.WriterAt
	// Truncate sets the size, at the end.
	Truncate(size int64) error
}

// PullPieces is PullFile without the holes of the file.
func (c *Client) PullPieces(ctx context.Context, path string, to PieceWriter) (perm uint32, err error) {
	var pieces wire.Pieces
	feed := func(p []byte) error {
		return pieces.Feed(p, func(offset int64, p []byte) error {
			_, err := to.WriteAt(p, offset)
			return err
		})
	}
	a, err := c.do(ctx, &wire.ReadFile{Path: path, Pieces: true}, transfer{to: writerFunc(feed)})
	if err != nil {
		return 0, err
	}
	v, ok := a.value.(*wire.FileValue)
	if !ok {
		return 0, badAnswer("read_file", a.value)
	}
	if err := feed(v.Data); err != nil {
		return 0, err
	}
	size, err := pieces.Size()
	if err == nil {
		err = to.Truncate(size)
	}
	return v.Perm, err
}

// writerFunc is a writer that takes all or fails.
type writerFunc func(p []byte) error

func (f writerFunc) Write(p []byte) (int, error) { return len(p), f(p) }

// PushPieces is PushFile without the holes of the file.
func (c *Client) PushPieces(ctx context.Context, path string, r *DataReader, perm Perm) error {
	req := WriteFileOp{Path: path, Perm: perm}.request().(*wire.WriteFile)
	req.Pieces, req.Data = true, wire.Bulk{Length: wire.UntilEnd}
	_, err := c.do(ctx, req, transfer{from: &pieceStream{r: r, buf: make([]byte, wire.ChunkSize)}})
	return err
}

// pieceStream is a file as the stream of its pieces.
type pieceStream struct {
	r     *DataReader
	buf   []byte
	ready []byte // of buf, to be read
	last  bool
}

func (s *pieceStream) Read(p []byte) (int, error) {
	if len(s.ready) == 0 {
		if s.last {
			return 0, io.EOF
		}
		offset, n, err := s.r.Next(s.buf[wire.PieceHeader:])
		if err != nil && err != io.EOF {
			return 0, err
		}
		s.last = err == io.EOF
		wire.PutPiece(s.buf, offset, n)
		s.ready = s.buf[:wire.PieceHeader+n]
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// Stat describes a file; without follow a symbolic link itself.
func (c *Client) Stat(ctx context.Context, path string, follow bool) (*FileInfo, error) {
	a, err := c.do(ctx, StatOp{path, follow}.request(), transfer{})
	if err != nil {
		return nil, err
	}
	return fileInfo(a)
}

func fileInfo(a *answer) (*FileInfo, error) {
	v, ok := a.value.(*wire.StatValue)
	if !ok {
		return nil, badAnswer("stat", a.value)
	}
	return &FileInfo{Size: int64(v.Size), MtimeNS: v.MtimeNS, Perm: v.Perm, Type: v.Type,
		FileNumbers: v.FileNumbers}, nil
}

// ListDir lists a directory without "." and "..", sorted by name.
func (c *Client) ListDir(ctx context.Context, path string) ([]DirEntry, error) {
	a, err := c.do(ctx, ListDirOp{path}.request(), transfer{})
	if err != nil {
		return nil, err
	}
	return dirEntries(a)
}

func dirEntries(a *answer) ([]DirEntry, error) {
	v, ok := a.value.(wire.EntriesValue)
	if !ok {
		return nil, badAnswer("listdir", a.value)
	}
	out := make([]DirEntry, len(v))
	for i, e := range v {
		out[i] = DirEntry(e)
	}
	return out, nil
}

// Mkdir creates a directory with mode perm, 0755 by default. With parents it
// creates what is missing above it and accepts an existing directory.
func (c *Client) Mkdir(ctx context.Context, path string, parents bool, perm Perm) error {
	_, err := c.do(ctx, MkdirOp{path, parents, perm}.request(), transfer{})
	return err
}

// Unlink removes a file or an empty directory.
func (c *Client) Unlink(ctx context.Context, path string) error {
	_, err := c.do(ctx, &wire.Unlink{Path: path}, transfer{})
	return err
}

// Rename renames within one guest file system.
func (c *Client) Rename(ctx context.Context, from, to string) error {
	_, err := c.do(ctx, &wire.Rename{From: from, To: to}, transfer{})
	return err
}

// ClockGet reads the guest's clocks.
func (c *Client) ClockGet(ctx context.Context) (Clock, error) {
	return c.clock(ctx, &wire.ClockGet{})
}

// ClockSet sets the guest's wall clock, in nanoseconds since 1970, and returns
// the clocks as they are after that.
func (c *Client) ClockSet(ctx context.Context, ns int64) (Clock, error) {
	return c.clock(ctx, &wire.ClockSet{RealtimeNS: ns})
}

// ClockSetEarliest is ClockSet, or sets the earliest time that the guest's kernel takes if
// that is later.
func (c *Client) ClockSetEarliest(ctx context.Context, ns int64) error {
	_, err := c.clock(ctx, &wire.ClockSet{RealtimeNS: ns, Earliest: true})
	return err
}

// ClockAdvance moves the guest's wall clock by ns nanoseconds, which may be
// negative, and returns the clocks as they are after that.
func (c *Client) ClockAdvance(ctx context.Context, ns int64) (Clock, error) {
	return c.clock(ctx, &wire.ClockAdvance{ByNS: ns})
}

func (c *Client) clock(ctx context.Context, req wire.Request) (Clock, error) {
	a, err := c.do(ctx, req, transfer{})
	if err != nil {
		return Clock{}, err
	}
	v, ok := a.value.(*wire.ClockValue)
	if !ok {
		return Clock{}, badAnswer(req.Op(), a.value)
	}
	return Clock(*v), nil
}

// Renew makes a restored guest differ from others of the same snapshot, or brings the
// random device of a guest to the start of a stream.
func (c *Client) Renew(ctx context.Context, r *Renew) error {
	_, err := c.do(ctx, r, transfer{})
	return err
}

// HasMachineID reports whether a guest has a machine id, or may have one that could not be looked for.
func (c *Client) HasMachineID(ctx context.Context) bool {
	return slices.ContainsFunc(wire.MachineIDs[:], func(path string) bool {
		var failed *OpError
		_, err := c.Stat(ctx, path, false)
		return err == nil || !errors.As(err, &failed) || failed.Errno != uint32(unix.ENOENT)
	})
}

// Network sets the guest's network interfaces and host names. It waits for
// interfaces that the guest has not noticed yet.
func (c *Client) Network(ctx context.Context, r *Network) error {
	_, err := c.do(ctx, r, transfer{})
	return err
}

// MaxDiskSerial is what the serial number of a disk holds, in bytes.
const MaxDiskSerial = wire.MaxSerial

// AwaitDisk waits until the guest's kernel has the disk with that serial number
// and programs find it under /dev/disk/by-id; with gone, until it has no such disk.
func (c *Client) AwaitDisk(ctx context.Context, serial, bus string, gone bool) error {
	_, err := c.do(ctx, &wire.AwaitDisk{Serial: serial, Bus: bus, Gone: gone}, transfer{})
	return err
}

// Sleep returns after d of the guest's time.
func (c *Client) Sleep(ctx context.Context, d time.Duration) error {
	_, err := c.do(ctx, &wire.Sleep{NS: uint64(max(d, 0))}, transfer{})
	return err
}

// Batch does the operations one after the other in one round trip and returns
// a result for each; a failing one does not stop the next. The error is about
// the batch as a whole.
func (c *Client) Batch(ctx context.Context, ops []Op) ([]Result, error) {
	if len(ops) > wire.MaxBatch {
		return nil, fmt.Errorf("batch of %d operations: at most %d are possible", len(ops), wire.MaxBatch)
	}
	if len(ops) == 0 {
		return nil, nil
	}
	req := &wire.Batch{Ops: make([]wire.Request, len(ops))}
	var bulk []io.Reader
	t := transfer{limit: maxBatchBytes, ends: true}
	inline := 0
	small := func(p []byte) wire.Bulk {
		if len(p) <= batchInline && inline+len(p) <= batchInlineSum {
			inline += len(p)
			return wire.Bulk{Inline: p}
		}
		bulk = append(bulk, bytes.NewReader(p))
		return wire.Bulk{Length: int64(len(p))}
	}
	for i, o := range ops {
		req.Ops[i] = o.request()
		switch r := req.Ops[i].(type) {
		case *wire.Run:
			r.Stdin = small(o.(RunOp).Stdin)
		case *wire.WriteFile:
			r.Data = small(o.(WriteFileOp).Data)
		}
	}
	if bulk != nil {
		t.from = io.MultiReader(bulk...)
	}
	a, err := c.do(ctx, req, t)
	if err != nil {
		return nil, cutShort(a, err)
	}
	v, ok := a.value.(wire.BatchValue)
	if !ok || len(v) != len(ops) {
		return nil, badAnswer("batch", a.value)
	}
	out := make([]Result, len(v))
	for i := range v {
		item, err := a.item(&v[i])
		if err != nil {
			return nil, fmt.Errorf("batch: %w", err)
		}
		if out[i], err = batchResult(ops[i], req.Ops[i], &v[i], item); err != nil {
			return nil, fmt.Errorf("batch: %w", err)
		}
	}
	return out, nil
}

func batchResult(op Op, req wire.Request, r *wire.Result, a *answer) (out Result, err error) {
	f, isFile := op.(FileCall)
	switch {
	case r.Err != nil && isFile:
		out.Err = f.named(opError(req, r.Err))
		return out, nil
	case r.Err != nil:
		out.Err = opError(req, r.Err)
		return out, nil
	case isFile:
		var failed *OpError
		if out.Data, err = f.result(a); errors.As(err, &failed) {
			out.Err, err = failed, nil
		}
		return out, err
	}
	switch req.(type) {
	case *wire.Run:
		out.Run, err = runResult(a)
	case *wire.ReadFile:
		out.Data, err = fileData(a)
	case *wire.Stat:
		out.Stat, err = fileInfo(a)
	case *wire.ListDir:
		out.Entries, err = dirEntries(a)
	case *wire.Syscall:
		out.Syscall, err = syscallResult("syscall", a, nil)
	}
	return out, err
}

const (
	// What of a batch's bulk data rides in the request itself: pieces up to
	// batchInline, together up to batchInlineSum.
	batchInline    = 4 << 10
	batchInlineSum = 1 << 20
	// maxBatchBytes is the most that the results of a batch may bring in.
	maxBatchBytes = 1 << 30
)

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func join(a, b []byte) []byte {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	return append(a, b...)
}

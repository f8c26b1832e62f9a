package blockdev

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"provium/internal/blockdev/crash"
	"provium/internal/jsonerror"
)

// A saved recording begins with recordMagic and the place of its end part; then
// come the chunks of what the disk had, as Image.Dump gives them, and the data of
// the writes. The end part is the CRC-32C of all between, its own, and JSON of
// savedRecording.
const (
	recordMagic = "PVRECRD1"
	recordHead  = 16 // bytes
	maxEndPart  = 1 << 30
)

type savedRecording struct {
	Dump    Dump     `json:"dump"`
	Map     []byte   `json:"map"`
	Data    int64    `json:"data"` // bytes
	Entries []saved  `json:"entries"`
	Labels  []string `json:"labels"` // of the marks, in order
}

// saved is an entry: kind, first sector, number of sectors, 1 for FUA, and where
// its data begin, -1 for zeroes.
type saved [5]int64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Save writes a recording that has ended to a file.
func (r *Recording) Save(path string) (err error) {
	if _, err := r.Ended(); err != nil {
		return err
	}
	r.mu.Lock()
	ended, log, at, written := r.ended, r.log, r.at, r.written
	r.mu.Unlock()
	if ended == "" {
		return errors.New("the recording goes on")
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("recording save: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			_ = os.Remove(path)
			err = fmt.Errorf("recording save: %w", err)
		}
	}()
	sum := crc32.New(castagnoli)
	out := &sparseWriter{f: f, at: recordHead}
	both := io.MultiWriter(out, sum)
	base := &Image{size: r.size, medium: r.base, cache: &layer{size: r.size}}
	dump, err := base.Dump(func(p []byte) error {
		_, err := both.Write(p)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(both, io.NewSectionReader(r.data, r.dataAt, written), make([]byte, 1<<20)); err != nil {
		return err
	}
	s := savedRecording{Dump: *dump, Map: dump.Map, Data: written, Entries: make([]saved, len(log))}
	for i, op := range log {
		s.Entries[i] = saved{int64(op.Kind), op.First, op.Count, 0, at[i]}
		if op.FUA {
			s.Entries[i][3] = 1
		}
		if op.Kind == crash.Mark {
			s.Labels = append(s.Labels, op.Label)
		}
	}
	text, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(nil, sum.Sum32())
	end = binary.LittleEndian.AppendUint32(end, crc32.Checksum(text, castagnoli))
	if _, err := f.WriteAt(append(end, text...), out.at); err != nil {
		return err
	}
	_, err = f.WriteAt(binary.LittleEndian.AppendUint64([]byte(recordMagic), uint64(out.at)), 0)
	return err
}

// sparseWriter leaves holes where there are zeroes.
type sparseWriter struct {
	f  *os.File
	at int64
}

func (w *sparseWriter) Write(p []byte) (int, error) {
	const block = 4096
	for off := 0; off < len(p); off += block {
		part := p[off:min(off+block, len(p))]
		if !isZero(part) {
			if _, err := w.f.WriteAt(part, w.at+int64(off)); err != nil {
				return off, err
			}
		}
	}
	w.at += int64(len(p))
	return len(p), nil
}

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// errNoRecordingFile is a file of another kind.
var errNoRecordingFile = errors.New("is not a saved recording")

// LoadRecording returns a recording that was saved. It has ended.
func LoadRecording(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("recording `%s`: %w", path, errors.Unwrap(err))
	}
	r, err := readRecording(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("recording `%s`: %w", path, err)
	}
	return r, nil
}

func readRecording(f *os.File) (*Recording, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var head [recordHead]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:8]) != recordMagic || !info.Mode().IsRegular() {
		return nil, errNoRecordingFile
	}
	at := binary.LittleEndian.Uint64(head[8:])
	if size := uint64(info.Size()); at < recordHead || at+8 > size || at > size || size-at > maxEndPart {
		return nil, fmt.Errorf("is damaged: its end part is at %d of %d", at, size)
	}
	end := make([]byte, uint64(info.Size())-at)
	if _, err := f.ReadAt(end, int64(at)); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if crc32.Checksum(end[8:], castagnoli) != le.Uint32(end[4:]) {
		return nil, errors.New("is damaged: its end part has another checksum")
	}
	s, log, err := decodeRecording(end[8:], int64(at))
	if err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, bufio.NewReaderSize(io.NewSectionReader(f, recordHead, int64(at)-recordHead),
		1<<20)); err != nil {
		return nil, err
	}
	if sum.Sum32() != le.Uint32(end) {
		return nil, errors.New("is damaged: its contents have another checksum")
	}
	base, err := LoadImage(&s.Dump, f, recordHead, nil)
	if err != nil {
		return nil, err
	}
	r := &Recording{size: s.Dump.Size, base: base.medium, data: f, log: log, written: s.Data,
		ended:  "it was loaded from a file",
		dataAt: recordHead + int64(s.Dump.Medium)*ChunkSize}
	r.refs.Store(1)
	for _, e := range s.Entries {
		r.at = append(r.at, e[4])
	}
	return r, base.cache.close()
}

// decodeRecording reads the JSON of an end part that is at a place.
func decodeRecording(text []byte, at int64) (*savedRecording, []crash.Op, error) {
	var s savedRecording
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, nil, jsonerror.Plain(err)
	}
	if err := s.check(at); err != nil {
		return nil, nil, err
	}
	var log []crash.Op
	labels := s.Labels
	for _, e := range s.Entries {
		op := crash.Op{Kind: crash.Kind(e[0])}
		switch op.Kind {
		case crash.Write:
			op.First, op.Count, op.FUA = e[1], e[2], e[3] != 0
		case crash.Mark:
			op.Label, labels = labels[0], labels[1:]
		}
		log = append(log, op)
	}
	return &s, log, nil
}

// check verifies what comes from a file whose end part is at a place.
func (s *savedRecording) check(at int64) error {
	s.Dump.Map = s.Map
	if err := s.Dump.check(); err != nil {
		return err
	}
	if s.Dump.Pending != 0 {
		return errors.New("it has un-flushed writes apart")
	}
	if s.Data < 0 || recordHead+int64(s.Dump.Medium)*ChunkSize != at-s.Data {
		return fmt.Errorf("%d chunks and %d bytes before %d", s.Dump.Medium, s.Data, at)
	}
	if len(s.Entries) > maxRecorded {
		return fmt.Errorf("%d entries", len(s.Entries))
	}
	marks, sectors := 0, s.Dump.Size/SectorSize
	for i, e := range s.Entries {
		kind, first, count, data := e[0], e[1], e[2], e[4]
		bad := false
		switch kind {
		case int64(crash.Write):
			bad = first < 0 || count < 1 || count > sectors || first > sectors-count || e[3] < 0 || e[3] > 1 ||
				data < -1 || data >= 0 && (count > s.Data/SectorSize || data > s.Data-count*SectorSize)
		case int64(crash.Flush):
		case int64(crash.Mark):
			marks++
		default:
			bad = true
		}
		if bad {
			return fmt.Errorf("entry %d: %v", i+1, e)
		}
	}
	if marks != len(s.Labels) {
		return fmt.Errorf("%d marks and %d labels", marks, len(s.Labels))
	}
	return nil
}

package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// turnFile is the file of which a maker of an entry locks the byte that its key stands for.
const turnFile = "turns"

// turnPoll is how often a turn that is waited for is looked at.
const turnPoll = 25 * time.Millisecond

// Turn lets one of those who are about to make the same entry make it, and the others wait
// for that one. It is not safe for concurrent use. It must be closed.
type Turn struct {
	cache  *Cache
	key    string
	limit  time.Duration
	file   *os.File // open while the byte is ours
	waited bool
}

// Turn returns the turn to make the entry of a key. Nobody waits for longer than limit.
func (c *Cache) Turn(key string, limit time.Duration) *Turn {
	return &Turn{cache: c, key: key, limit: limit}
}

// Wait is called by who has not found the entry. It reports whether it is worth another
// look. If not, the caller is to make the entry, and others wait for that until Close.
//
// Who has waited once does not wait again: an entry that its maker did not keep, since
// nobody may have it, is made by all the others at the same time.
func (t *Turn) Wait(ctx context.Context) bool {
	if t.waited || t.file != nil || os.MkdirAll(t.cache.Dir, 0o700) != nil {
		return false
	}
	f, err := os.OpenFile(filepath.Join(t.cache.Dir, turnFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return false // then it is made twice
	}
	timer := time.NewTicker(turnPoll)
	defer timer.Stop()
	for end := time.Now().Add(t.limit); ; t.waited = true {
		switch err := lockByte(f, place(t.key)); {
		case err == nil && !t.waited && !t.cache.Has(t.key):
			t.file = f
			return false
		case err == nil:
			t.waited = true
			f.Close()
			return true
		case err != unix.EAGAIN && err != unix.EACCES || time.Now().After(end):
			f.Close()
			return false
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			f.Close()
			return false
		}
	}
}

// Close ends the turn.
func (t *Turn) Close() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// place returns the offset of the byte that a key stands for.
func place(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 8)
}

// lockByte locks a byte of a file for this open file alone.
func lockByte(f *os.File, at int64) error {
	for {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != unix.EINTR {
			return err
		}
	}
}

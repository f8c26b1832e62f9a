package process

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"provium/internal/wire"
)

// account is a user of the guest, read from its files: there is no name
// service to ask in a static binary, and a test guest rarely has one.
type account struct {
	name   string
	home   string
	uid    uint32
	gid    uint32
	groups []uint32
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}

// lookUpAccount finds a user by name or number in the files below a root directory,
// "" for the agent's. A number without an entry is an account too, with a group of
// the same number.
func lookUpAccount(root, user string) (*account, error) {
	number, numErr := strconv.ParseUint(user, 10, 32)
	var found *account
	err := eachLine(root+"/etc/passwd", 7, func(f []string) bool {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil || f[0] != user && (numErr != nil || uid != number) {
			return true
		}
		found = &account{name: f[0], home: f[5], uid: uint32(uid), gid: uint32(gid)}
		return false
	})
	switch {
	case err != nil && numErr != nil:
		return nil, fmt.Errorf("user %q: %w", user, err)
	case found == nil && numErr != nil:
		return nil, &wire.Error{Text: fmt.Sprintf("user %q is not in the guest's /etc/passwd", user)}
	case found == nil:
		found = &account{name: user, home: "/", uid: uint32(number), gid: uint32(number)}
	}
	found.groups = []uint32{found.gid}
	// Without the file there are no further groups.
	_ = eachLine(root+"/etc/group", 4, func(f []string) bool {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || uint32(gid) == found.gid {
			return true
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if member == found.name {
				found.groups = append(found.groups, uint32(gid))
				break
			}
		}
		return true
	})
	return found, nil
}

// eachLine calls fn with the fields of each line that has n of them, until it
// returns false.
func eachLine(path string, n int, fn func([]string) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if fields := strings.Split(s.Text(), ":"); len(fields) == n && !fn(fields) {
			return nil
		}
	}
	return s.Err()
}

// Package localvmm stands in for QEMU where no kernel is to boot (--vmm local):
// its machines are goroutines of this process that serve the monitor, the
// consoles, the agent's port and the NICs as QEMU does, without CPUs.
//
// A machine has a Guest. The one of this package answers what the host itself
// asks of an agent and refuses the operations of tests; package fakemachine has a
// scripted one for unit tests. The package knows nothing of labs.
//
// Start reading at Starter.Launch, which is what package qemu calls.
package localvmm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"provium/internal/proc"
)

// Starter implements qemu.Starter with machines of this process. It is safe for
// concurrent use.
type Starter struct {
	// Programs starts the programs beside QEMU; nil has none of them.
	Programs interface{ Start(cmd *exec.Cmd) error }
	// NewGuest returns the guest of a new machine, before anything of it runs.
	// Nil makes guests which refuse the operations of tests.
	NewGuest func(m *Machine) Guest
}

// Start starts a program beside QEMU.
func (s *Starter) Start(cmd *exec.Cmd) error {
	if s.Programs == nil {
		return errors.New("no programs are started here")
	}
	return s.Programs.Start(cmd)
}

// Serve starts nothing: the machines share no directories.
func (s *Starter) Serve(*exec.Cmd) (proc.Process, error) {
	return nil, errors.New("no programs are started here")
}

// firstPID is above the largest process id of Linux, so that nobody takes the
// number of a machine for that of a process.
const firstPID = 1 << 22

var lastPID atomic.Int64

// Launch makes a machine from QEMU's command line and the files that QEMU would
// inherit.
func (s *Starter) Launch(cmd *exec.Cmd, _ ...proc.File) (proc.Process, error) {
	m := &Machine{pid: firstPID + int(lastPID.Add(1)), stderr: cmd.Stderr, killed: make(chan struct{}),
		changed: make(chan struct{}), status: statusRunning}
	opts, err := parseArgs(cmd.Args[1:])
	if err != nil {
		return nil, err
	}
	m.opts, m.held = opts, opts.held
	if err := m.inherit(cmd.ExtraFiles); err != nil {
		m.closeFiles()
		return nil, err
	}
	if opts.incoming {
		m.status = statusIncoming
	}
	if s.NewGuest != nil {
		m.guest = s.NewGuest(m)
	} else {
		m.guest = &refusingGuest{}
	}
	m.work.Go(m.run)
	return m, nil
}

// options are what a machine needs of QEMU's command line.
type options struct {
	name     string
	memory   int64
	cmdline  string
	agent    string         // path of the agent's socket
	fds      map[string]int // by name of the chardev; "ram" is the memory
	shared   bool           // the memory is mapped shared
	nics     map[string]string
	held     bool // the machine stands still where the guest ends
	incoming bool // waits for the state of a saved machine
}

// parseArgs reads a command line that package qemu has made.
func parseArgs(args []string) (*options, error) {
	o := &options{fds: map[string]int{}, nics: map[string]string{}}
	for i := 0; i < len(args); i++ {
		if args[i] == "-S" {
			o.incoming = true
			continue
		}
		if i+1 == len(args) {
			break
		}
		option, value := args[i], args[i+1]
		var fields map[string]string
		switch option {
		case "-name", "-object", "-chardev", "-netdev":
			var err error
			if fields, err = optionFields(value); err != nil {
				return nil, err
			}
		}
		switch option {
		case "-name":
			o.name = fields["guest"]
		case "-action":
			o.held = strings.Contains(value, "reboot=shutdown")
		case "-append":
			o.cmdline = value
		case "-object":
			if fields["id"] != "ram" {
				break
			}
			var err error
			if o.memory, err = strconv.ParseInt(fields["size"], 10, 64); err != nil {
				return nil, fmt.Errorf("memory size: %w", err)
			}
			o.shared = fields["share"] == "true"
			if o.fds["ram"], err = strconv.Atoi(strings.TrimPrefix(fields["mem-path"], "/proc/self/fd/")); err != nil {
				return nil, fmt.Errorf("memory file: %w", err)
			}
		case "-chardev":
			if fields["path"] != "" {
				o.agent = fields["path"]
			} else if n, err := strconv.Atoi(fields["fd"]); err == nil {
				o.fds[fields["id"]] = n
			}
		case "-netdev":
			o.nics[fields["id"]] = fields["addr.path"]
		default:
			continue
		}
		i++
	}
	if o.memory == 0 || o.agent == "" {
		return nil, errors.New("no memory or no agent port on the command line")
	}
	return o, nil
}

// optionFields splits an option list, in which a doubled comma is a comma, or reads the
// JSON form of one, in which numbers and booleans are as they stand there. Names of
// nested fields are joined with dots.
func optionFields(list string) (map[string]string, error) {
	fields := map[string]string{}
	if strings.HasPrefix(list, "{") {
		var values map[string]any
		d := json.NewDecoder(strings.NewReader(list))
		d.UseNumber()
		if err := d.Decode(&values); err != nil {
			return nil, fmt.Errorf("option %s: %w", list, err)
		}
		addFields(fields, "", values)
		return fields, nil
	}
	const comma = "\x00"
	for _, f := range strings.Split(strings.ReplaceAll(list, ",,", comma), ",") {
		key, value, _ := strings.Cut(f, "=")
		fields[key] = strings.ReplaceAll(value, comma, ",")
	}
	return fields, nil
}

func addFields(fields map[string]string, prefix string, values map[string]any) {
	for key, v := range values {
		if nested, ok := v.(map[string]any); ok {
			addFields(fields, prefix+key+".", nested)
			continue
		}
		fields[prefix+key] = fmt.Sprint(v)
	}
}

// files are a machine's own copies of what it inherited. It is safe for
// concurrent use.
type files struct {
	mu   sync.Mutex
	byFD map[int]*os.File // by number in the machine
}

// inherit copies the descriptors, as a fork does.
func (m *Machine) inherit(passed []*os.File) error {
	m.files.byFD = map[int]*os.File{}
	for i, f := range passed {
		copied, err := copyFile(f)
		if err != nil {
			return err
		}
		m.files.byFD[3+i] = copied
	}
	return nil
}

func copyFile(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("copy of %s: %w", f.Name(), err)
	}
	copied := -1
	controlErr := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(controlErr, err); err != nil {
		return nil, fmt.Errorf("copy of %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(copied), f.Name()), nil
}

// take returns the file of that number, which is the caller's from then on.
func (m *Machine) take(fd int) *os.File {
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	f := m.files.byFD[fd]
	delete(m.files.byFD, fd)
	return f
}

func (m *Machine) closeFiles() {
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	for _, f := range m.files.byFD {
		f.Close()
	}
	m.files.byFD = nil
}

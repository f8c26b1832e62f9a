package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"provium/internal/blockdev"
)

// diskServer is the contents of a disk with the socket through which machines use
// them.
type diskServer struct {
	data     *blockdev.Disk
	listener net.Listener
	socket   string
	cancel   context.CancelFunc
	served   sync.WaitGroup // the listener and its connections
}

// serveDisk begins to serve on a socket at path; data stays the caller's. warn is
// told of trouble with a client.
func serveDisk(data *blockdev.Disk, path string, warn func(error)) (*diskServer, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("disk socket: %w", err)
	}
	s := &diskServer{data: data, listener: l, socket: path}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		s.accept(ctx, warn)
	}()
	return s, nil
}

func (s *diskServer) accept(ctx context.Context, warn func(error)) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.served.Add(1)
		go func() {
			defer s.served.Done()
			if err := s.data.Serve(ctx, conn); err != nil {
				warn(err)
			}
		}()
	}
}

// close ends all connections and returns when nothing is left.
func (s *diskServer) close() {
	s.listener.Close()
	s.cancel()
	s.served.Wait()
}

// drive is a disk of a machine that is about to be restored.
type drive struct {
	saved  *plannedDisk
	data   *blockdev.Disk
	server *diskServer
	teller *diskTeller
}

// diskTeller passes trouble on to the VM that has the disk.
type diskTeller struct {
	mu sync.Mutex
	to func(error)
}

func (t *diskTeller) warn(err error) {
	t.mu.Lock()
	to := t.to
	t.mu.Unlock()
	if to != nil {
		to(err)
	}
}

func (t *diskTeller) set(to func(error)) {
	t.mu.Lock()
	t.to = to
	t.mu.Unlock()
}

// openDrives makes private copies of saved disks, with sockets in dir. They must
// be closed, or given to a VM.
func (h *Host) openDrives(saved []plannedDisk, dir string) (drives []*drive, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeDrives(drives))
			drives = nil
		}
	}()
	for i := range saved {
		p := &saved[i]
		d := &drive{saved: p, teller: &diskTeller{}}
		d.data, err = blockdev.Open(blockdev.Config{From: p.image, ReadOnly: p.spec.ReadOnly, TempDir: h.TempDir, OnError: d.teller.warn})
		if err != nil {
			return drives, fmt.Errorf("disk `%s`: %w", p.spec.ID, err)
		}
		drives = append(drives, d)
		d.server, err = serveDisk(d.data, fmt.Sprintf("%s/drive%d", dir, h.nextSocket()), d.teller.warn)
		if err != nil {
			return drives, fmt.Errorf("disk `%s`: %w", p.spec.ID, err)
		}
	}
	return drives, nil
}

func closeDrives(drives []*drive) error {
	var errs []error
	for _, d := range drives {
		if d.server != nil {
			d.server.close()
		}
		errs = append(errs, d.data.Close())
	}
	return errors.Join(errs...)
}

// armDrives sets the faults of the saved disks.
func armDrives(drives []*drive) {
	for _, d := range drives {
		d.data.Arm(d.saved.state)
	}
}

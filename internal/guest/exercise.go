package guest

import (
	"context"
	"errors"
	"time"

	"provium/internal/wire"
)

// exerciseLimit is how long a guest may take to be exercised.
const exerciseLimit = time.Minute

// Exercise runs in the guest what most tests ask for, a command of the shell and a system call, so that an
// emulator has translated the code for that, and the guest has read the files.
func (c *Client) Exercise(ctx context.Context, command string) error {
	limited, cancel := context.WithTimeout(ctx, exerciseLimit)
	defer cancel()
	_, err := c.Run(limited, RunRequest{Shell: command, NoStdin: true})
	_, callErr := c.Syscall(limited, &Syscall{Nr: wire.CallGetpid, Portable: true})
	return errors.Join(err, callErr)
}

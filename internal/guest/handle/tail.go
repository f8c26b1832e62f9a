package handle

import (
	"context"
	"strconv"

	"provium/internal/guest"
	"provium/internal/stream"
)

// openStream opens a stream that the agent serves. op is the name of the call in
// errors.
func (a *Actor) openStream(ctx context.Context, op, kind, detail string, site stream.Site,
	open func(*guest.Client) (*guest.Stream, error)) (s *stream.Stream, err error) {
	err = a.do(ctx, op, func(c *guest.Client, epoch *Epoch) error {
		source, err := open(c)
		if err == nil {
			cfg := stream.Config{Kind: kind, Detail: detail, Noun: "stream", Site: site,
				Source: agentSource{source, a.vm, op}}
			s = a.vm.Opened().addStream(cfg, epoch)
		}
		return rename(err, op)
	})
	return s, err
}

// agentSource is a stream of the agent as a source.
type agentSource struct {
	s  *guest.Stream
	vm VM
	op string
}

func (a agentSource) Next(ctx context.Context) ([]byte, error) {
	p, err := a.s.Next(ctx)
	return p, Named(a.vm, a.op, "", rename(err, a.op))
}

// VM returns the machine whose agent serves the stream.
func (a agentSource) VM() VM { return a.vm }

func (a agentSource) Ended() bool { return a.s.Ended() }
func (a agentSource) Close(int)   { a.s.Close() }

// TailFile opens a stream of what is added to a file behind start, or with fromEnd
// behind its end plus start. The file is the one that the actor finds under the path,
// with its credentials.
func (a *Actor) TailFile(ctx context.Context, path string, start int64, fromEnd bool, site stream.Site) (
	*stream.Stream, error) {
	const op = "tail_file"
	s, err := a.openStream(ctx, op, op, strconv.Quote(path), site, func(c *guest.Client) (*guest.Stream, error) {
		return c.TailFile(ctx, path, start, fromEnd, a.executor())
	})
	return s, Named(a.vm, op, path, err)
}

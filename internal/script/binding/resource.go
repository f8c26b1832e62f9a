package binding

import (
	"context"
	"fmt"

	"provium/internal/guest/handle"
	"provium/internal/lua"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// Kind is a kind of resource. The end of a scope closes its resources in the order of their
// kinds.
type Kind int

// Kinds of resources.
const (
	StreamResource Kind = iota
	ProcessResource
	CallResource // system calls that nobody has awaited
	FileResource
	WorkerResource
	PortResource // ports of bridges, and servers
	Kinds        // their number
)

// Resource is what a scope has opened beside VMs and labs.
type Resource interface {
	fmt.Stringer
	// Close is silent about a guest that is gone.
	Close(ctx context.Context) error
}

// streamResource is a stream as a Resource: its Close cannot fail.
type streamResource struct{ *stream.Stream }

// Close implements Resource.
func (s streamResource) Close(context.Context) error {
	s.Stream.Close()
	return nil
}

// VM returns the VM whose agent serves the stream, and nil if none does.
func (s streamResource) VM() handle.VM {
	if source, ok := s.Source().(interface{ VM() handle.VM }); ok {
		return source.VM()
	}
	return nil
}

// OpenStream opens a stream and returns its handle. vm is the VM that it concerns, or nil.
func (x *Env) OpenStream(a value.Args, vm handle.VM, open func(ctx context.Context, site stream.Site) (*stream.Stream,
	error)) ([]lua.Value, error) {
	site := x.Site(a.Call)
	var s *stream.Stream
	err := x.Op(a, vm, func(ctx context.Context) (err error) {
		s, err = open(ctx, site)
		return err
	})
	if err != nil {
		return nil, err
	}
	x.Own(StreamResource, streamResource{s})
	return []lua.Value{x.State.NewUserdata(x.Types.Stream, s)}, nil
}

// CloseStream closes a stream that OpenStream has opened.
func (x *Env) CloseStream(a value.Args, s *stream.Stream) error {
	x.Disown(StreamResource, streamResource{s})
	return x.Op(a, nil, func(context.Context) error { s.Close(); return nil })
}

package preparation

import (
	"context"
	"maps"
	"slices"

	"provium/internal/image"
	"provium/internal/userland"
)

// Userlands are the root file systems that were made for a run, by profile: all of its guests have them as they were
// when it began. A nil one has none. It is safe for concurrent use.
type Userlands struct {
	made  map[string]*userland.Userland
	late  []string // profiles of those that were still to be made
	stop  context.CancelFunc
	ended chan struct{} // closed when more is final
	more  map[string]*userland.Userland
}

// KernelFinder finds or makes what a profile boots from, or its kernel alone.
type KernelFinder interface {
	Resolver
	FindKernel(context.Context, image.Spec) error
}

// BeginImages is Images, but leaves the host's programs, which most files do not need, to be looked at while files run.
// The caller must close what it returns.
func BeginImages(ctx context.Context, images KernelFinder, specs []image.Spec) (*Userlands, error) {
	var now, late []image.Spec
	for _, spec := range specs {
		if spec.Userland.Kind == userland.Host {
			late = append(late, spec)
		} else {
			now = append(now, spec)
		}
	}
	made, err := Images(ctx, images, now)
	if err == nil {
		_, err = Images(ctx, kernels{images}, late)
	}
	if err != nil {
		return nil, err
	}
	u := &Userlands{made: made, ended: make(chan struct{})}
	for _, spec := range late {
		u.late = append(u.late, spec.Profile)
	}
	ctx, u.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(u.ended)
		more, _ := Images(ctx, images, late) // the boot says what is wrong
		u.more = maps.Clone(made)
		maps.Copy(u.more, more)
	}()
	return u, nil
}

// kernels is a Resolver that finds no more than kernels.
type kernels struct{ images KernelFinder }

func (k kernels) Resolve(ctx context.Context, spec image.Spec) (*image.Image, error) {
	return nil, k.images.FindKernel(ctx, spec)
}

// For returns the userlands by profile. It waits for those of the profiles; others may be missing, and are made by who
// boots them.
func (u *Userlands) For(ctx context.Context, profiles []string) map[string]*userland.Userland {
	if u == nil {
		return nil
	}
	select {
	case <-u.ended:
		return u.more
	default:
	}
	if !slices.ContainsFunc(profiles, func(p string) bool { return slices.Contains(u.late, p) }) {
		return u.made
	}
	select {
	case <-u.ended:
		return u.more
	case <-ctx.Done():
		return u.made
	}
}

// Close ends what is still being made.
func (u *Userlands) Close() {
	if u != nil {
		u.stop()
		<-u.ended
	}
}

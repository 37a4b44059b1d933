package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"anodenet/cmd/internal/chat"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
)

// talk is the text networks. New settings end the networks that run and begin others,
// with the same history.
type talk struct {
	current atomic.Pointer[chat.Chat]
	wanted  chan wantedTalk
	ended   chan struct{} // closed when Run ends
}

// wantedTalk asks for other settings.
type wantedTalk struct {
	settings config.Info2
	done     chan error // has room
}

func newTalk(c chat.Config) (*talk, error) {
	t := &talk{wanted: make(chan wantedTalk), ended: make(chan struct{})}
	first, err := chat.New(c)
	t.current.Store(first)
	return t, err
}

// Run runs the networks until ctx ends.
func (t *talk) Run(ctx context.Context) error {
	defer close(t.ended)
	return t.current.Load().RunHistory(ctx, t.runNetworks)
}

func (t *talk) runNetworks(ctx context.Context) error {
	for {
		w, err := t.runOne(ctx)
		if w == nil {
			return err
		}
		w.done <- t.renew(w.settings)
	}
}

// runOne runs the current networks until others are wanted, or, with nil, until ctx ends.
// They have ended when it returns.
func (t *talk) runOne(ctx context.Context) (*wantedTalk, error) {
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- t.current.Load().RunNetworks(running) }()
	var w *wantedTalk
	select {
	case <-ctx.Done():
	case asked := <-t.wanted:
		w = &asked
	}
	stop()
	return w, <-ended
}

// renew makes the networks for other settings, or again those of the old ones if that fails.
func (t *talk) renew(settings config.Info2) error {
	old := t.current.Load()
	next, err := old.With(settings)
	if err != nil {
		var again error
		if next, again = old.With(old.Settings()); again != nil {
			return fmt.Errorf("%w; texts are off until the next reload: %w", err, again)
		}
	}
	t.current.Store(next)
	return err
}

// Set takes other settings, and returns when they are in force.
func (t *talk) Set(ctx context.Context, settings config.Info2) error {
	w := wantedTalk{settings, make(chan error, 1)}
	select {
	case t.wanted <- w:
	case <-t.ended:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-w.done // Run always answers what it took
}

// PeersChanged tells the chat that the node's peers are others.
func (t *talk) PeersChanged() { t.current.Load().PeersChanged() }

// Status describes the networks.
func (t *talk) Status(ctx context.Context) (control.Info2Status, error) {
	return t.current.Load().Status(ctx)
}

// Hosts lists the hosts that are known.
func (t *talk) Hosts(ctx context.Context) (control.Info2Hosts, error) {
	return t.current.Load().Hosts(ctx)
}

// Say says a text.
func (t *talk) Say(ctx context.Context, r control.SayRequest) (control.Said, error) {
	return t.current.Load().Say(ctx, r)
}

// Connect dials an address.
func (t *talk) Connect(ctx context.Context, addr netip.Addr) (control.Connecting, error) {
	return t.current.Load().Connect(ctx, addr)
}

// Log returns texts. Who follows also gets those that come under other settings.
func (t *talk) Log(ctx context.Context, last int, follow bool) ([]control.Entry, <-chan control.Entry, func(), error) {
	return t.current.Load().Log(ctx, last, follow)
}

//go:build darwin || windows

package platform

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
)

// nameStore is where a system keeps what its resolver must know, in files or a registry.
type nameStore interface {
	apply(s NameSettings) error
	revert() error
}

// storedNames writes into a store. Nothing has to be watched: the resolver reads it again itself.
type storedNames struct {
	log     *slog.Logger
	manager string
	store   nameStore
	refuses func(server netip.AddrPort) string // why such a server cannot be used; "": it can

	mu     sync.Mutex
	report NameReport
}

// Apply implements Names.
func (n *storedNames) Apply(_ context.Context, s NameSettings) error {
	if err := s.check(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.report = NameReport{Manager: n.manager}
	if n.report.Why = n.refuses(s.Server); n.report.Why != "" {
		n.report.Try = "names.port = 53 in the configuration, and no other DNS server on this machine"
		return nil
	}
	if err := n.store.apply(s); err != nil {
		n.report.Why = err.Error()
		n.log.Warn("names: the system's resolver cannot be told", "manager", n.manager, "err", err)
		return err
	}
	n.report.Applied = true
	return nil
}

// Revert implements Names.
func (n *storedNames) Revert(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.report = NameReport{}
	return n.store.revert()
}

// Describe implements Names.
func (n *storedNames) Describe() NameReport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.report == (NameReport{}) {
		return NameReport{Manager: n.manager, Why: "nothing was asked of it yet"}
	}
	return n.report
}

// Run implements Names.
func (n *storedNames) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

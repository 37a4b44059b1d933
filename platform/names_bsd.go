//go:build freebsd || openbsd

package platform

import (
	"context"
	"log/slog"
)

// toldNames is of a system whose resolver people set up: local_unbound of FreeBSD, unbound of
// OpenBSD. OpenBSD's unwind sends all names to one list of servers, and cannot do it.
type toldNames struct{}

// NewNames returns the one of this system.
func NewNames(*slog.Logger) Names { return toldNames{} }

// Apply implements Names: nothing is done.
func (toldNames) Apply(_ context.Context, s NameSettings) error { return s.check() }

// Revert implements Names: nothing was done.
func (toldNames) Revert(context.Context) error { return nil }

// Describe implements Names.
func (toldNames) Describe() NameReport {
	return NameReport{
		Manager: ManagerNone, Why: "this system's resolver is not changed by itself",
		Try: "anode dns instructions " + PageUnbound, Instructions: PageUnbound,
	}
}

// Run implements Names: there is nothing to watch.
func (toldNames) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// cleanupNames returns nothing: nothing was done.
func cleanupNames() ([]string, error) { return nil, nil }

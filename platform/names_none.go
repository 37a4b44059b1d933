package platform

import (
	"context"
	"log/slog"
)

// NewNames returns what tells no resolver anything.
func NewNames(*slog.Logger) Names { return noNames{} }

type noNames struct{}

func (noNames) Apply(context.Context, NameSettings) error { return nil }
func (noNames) Revert(context.Context) error              { return nil }
func (noNames) Run(ctx context.Context) error             { <-ctx.Done(); return nil }
func (noNames) Describe() NameReport {
	return NameReport{Manager: "none", Why: "no resolver of this system can be told by the daemon", Try: "anode dns instructions", Instructions: "dnsmasq"}
}

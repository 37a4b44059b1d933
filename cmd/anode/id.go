package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"anodenet/anode"
	zones "anodenet/anode/zone"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/daemon"
	"anodenet/overlay"
)

// idAnswer is the JSON of id.
type idAnswer struct {
	Schema  int           `json:"schema"`
	Address anode.Address `json:"address"`
	ID      anode.ID      `json:"id"`
	ULA     anode.ULA     `json:"ula"`
	Zone    anode.Zone    `json:"zone"`
	Alias   string        `json:"alias"` // IPv4; empty: no daemon uses one
}

func (a *app) idCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "id",
		Short:   "Show your own address; with --state DIR, make one if there is none",
		GroupID: groupPeople,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	reach := cmd.Flags().Bool("reach", false, "with the endpoints at which others see this machine, for \"peers add\" there")
	zone := cmd.Flags().String("zone", "", "zone of a new identity: an IPv4 address or hex digits, `ZONE` (default 0)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *reach {
			return a.reach(cmd, *asJSON)
		}
		var z anode.Zone
		if cmd.Flags().Changed("zone") {
			var err error
			if z, err = zones.ParseName(*zone); err != nil {
				return zoneUsage(cmd, "--zone", err)
			}
		}
		self, err := a.makeSelf(cmd.Context(), z)
		if err != nil {
			return err
		}
		if *zone != "" && self.Zone() != z {
			return &failure{exitFailed, "the identity exists, in zone " + zones.Label(self.Zone()), "another --state DIR; or anode zone join " + zones.Label(z)}
		}
		alias := a.ownAlias(cmd.Context(), self)
		if *asJSON {
			return a.json(idAnswer{schema, self, self.ID(), self.ULA(), self.Zone(), alias})
		}
		facts := [][2]string{
			{"address", self.CheckForm()},
			{"ula", self.ULA().String()},
			{"id", self.ID().String()},
			{"zone", self.Zone().String()},
		}
		if alias != "" {
			facts = append(facts, [2]string{"ipv4", alias})
		}
		a.pairs(facts...)
		return nil
	}
	return cmd
}

// ownAlias returns the IPv4 alias of this node; "" if its daemon does not run, or uses none.
func (a *app) ownAlias(ctx context.Context, self anode.Address) string {
	if a.stateGiven && !a.socketGiven { // the daemon may be another one
		return ""
	}
	client := control.NewClient(a.socket)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil || status.Address != self {
		return ""
	}
	return usedAlias(status)
}

// usedAlias returns the IPv4 alias of a node; "" if it uses none.
func usedAlias(s overlay.Status) string {
	if refusesIP4(s) {
		return ""
	}
	return s.LAN.Alias
}

// self returns this node's address: that of the state directory which a flag names, else
// the daemon's, else that of the usual state directory.
func (a *app) self(ctx context.Context) (anode.Address, error) {
	if a.state == daemon.NoState {
		return anode.Address{}, &failure{exitFailed, "--state none keeps no address", "anode id, which asks the daemon; or --state DIR"}
	}
	if !a.stateGiven {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(ctx)
		if err == nil {
			return status.Address, nil
		}
		if a.socketGiven || !errors.Is(err, control.ErrNoDaemon) {
			return anode.Address{}, err
		}
	}
	var id *anode.Identity
	var err error
	if failed := asKeeper(a.state, func() { id, err = daemon.LoadIdentity(a.state) }); failed != nil {
		return anode.Address{}, failed
	}
	switch {
	case errors.Is(err, daemon.ErrNoIdentity) && a.stateGiven:
		return anode.Address{}, fmt.Errorf("%w; try: anode id --state %s, which makes one", err, a.state)
	case errors.Is(err, daemon.ErrNoIdentity):
		return anode.Address{}, fmt.Errorf("%w; try: anode up, which makes one; or anode id --state DIR", err)
	case err != nil:
		return anode.Address{}, err
	}
	return id.Address(), nil
}

// makeSelf does the same, and makes an identity if a flag names a state directory that
// has none.
func (a *app) makeSelf(ctx context.Context, zone anode.Zone) (anode.Address, error) {
	self, err := a.self(ctx)
	if !a.stateGiven || !errors.Is(err, daemon.ErrNoIdentity) {
		return self, err
	}
	id, made, err := daemon.Identity(a.state, zone)
	if err != nil {
		return anode.Address{}, err
	}
	if made {
		a.sayMade(a.state)
	}
	return id.Address(), nil
}

// sayMade tells people of a new identity in a state directory.
func (a *app) sayMade(state string) {
	wrapped(a.err, a.columnsOf(), "", "", "made a new identity in "+state+": back it up, it is this machine's address")
}

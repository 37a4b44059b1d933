package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/names"
)

// whoisAnswer is the JSON of whois and ip.
type whoisAnswer struct {
	Schema int `json:"schema"`
	control.Resolved
	Zone anode.Zone `json:"zone"`
}

func whoisOf(r control.Resolved) whoisAnswer { return whoisAnswer{schema, r, r.Address.Zone()} }

func (a *app) whoisCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "whois PEER",
		Short:             "Show which peer has an IPv6 address, a short ID or a name",
		GroupID:           groupPeople,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.identify(cmd, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.json(whoisOf(r))
		}
		a.pairs(
			[2]string{"name", cmp.Or(r.Name, "-")},
			[2]string{"address", r.Address.String()},
			[2]string{"ula", r.ULA.String()},
			[2]string{"id", r.ID.String()},
			[2]string{"zone", r.Address.Zone().String()},
			[2]string{"known", yesNo(r.Known)},
		)
		return nil
	}
	return cmd
}

// identify returns the peer that a text means. All forms of a whole address follow from it
// by arithmetic, so one needs no daemon and no state; they only add a name.
func (a *app) identify(cmd *cobra.Command, text string) (control.Resolved, error) {
	address, malformed := names.Whole(text)
	b, err := a.open(cmd.Context())
	switch {
	case err == nil:
		defer b.close()
		return a.find(cmd.Context(), b, text)
	case errors.Is(malformed, names.ErrMalformed):
		return control.Resolved{}, malformed
	case malformed == nil:
		return control.Resolve(names.Peer{Address: address}, false), nil
	}
	return control.Resolved{}, err
}

package main

import (
	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
)

// whoisAnswer is the JSON of whois.
type whoisAnswer struct {
	Schema int `json:"schema"`
	control.Resolved
}

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
		b, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer b.close()
		r, err := a.find(cmd.Context(), b, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.json(whoisAnswer{schema, r})
		}
		a.pairs(
			[2]string{"name", r.Name},
			[2]string{"address", r.Address.String()},
			[2]string{"ula", r.ULA.String()},
			[2]string{"id", r.ID.String()},
			[2]string{"zone", r.Address.Zone().String()},
		)
		return nil
	}
	return cmd
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
)

func (a *app) ipCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "ip [PEER]",
		Short:             "Print the IPv6 address of a peer, or your own",
		GroupID:           groupPeople,
		Args:              want(0, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.selfOr(cmd, args)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return a.json(whoisOf(r))
		}
		fmt.Fprintln(a.out, r.ULA)
		return nil
	}
	return cmd
}

// selfOr returns the peer that an argument means, or this node without one.
func (a *app) selfOr(cmd *cobra.Command, args []string) (control.Resolved, error) {
	if len(args) > 0 {
		return a.identify(cmd, args[0])
	}
	self, err := a.self(cmd.Context())
	if err != nil {
		return control.Resolved{}, err
	}
	return control.ResolveSelf(self), nil
}

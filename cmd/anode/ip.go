package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) ipCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "ip [PEER]",
		Short:             "Print the IPv6 address of a peer, or your own",
		GroupID:           groupPeople,
		Args:              want(0, 1),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				self, err := a.self(cmd.Context())
				if err != nil {
					return err
				}
				fmt.Fprintln(a.out, self.ULA())
				return nil
			}
			b, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			r, err := a.find(cmd.Context(), b, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, r.ULA)
			return nil
		},
	}
}

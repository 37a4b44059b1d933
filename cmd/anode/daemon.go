package main

import (
	"github.com/spf13/cobra"

	"anodenet/cmd/internal/daemon"
)

func (a *app) daemonCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:     "daemon",
		Short:   "Run as a service manager wants it: log lines, sd_notify, SIGHUP reloads",
		GroupID: groupLife,
		Args:    want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, stop, err := flags.options(a, cmd)
			if err != nil {
				return err
			}
			defer stop()
			return daemon.Run(cmd.Context(), options)
		},
	}
	flags.add(cmd)
	return cmd
}

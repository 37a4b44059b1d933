package main

import (
	"errors"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/daemon"
)

func (a *app) daemonCommand() *cobra.Command {
	var flags runFlags
	var cpuProfile string
	cmd := &cobra.Command{
		Use:     "daemon",
		Short:   "Run under a service manager: log lines, sd_notify, SIGHUP reloads",
		GroupID: groupLife,
		Args:    want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			options := flags.options(a, cmd)
			hangup, stop := hangups()
			defer stop()
			options.Hangup = hangup
			defer collectOften()()
			if cpuProfile != "" {
				written, err := profileCPU(cpuProfile)
				if err != nil {
					return err
				}
				return errors.Join(daemon.Run(cmd.Context(), options), written())
			}
			return daemon.Run(cmd.Context(), options)
		},
	}
	flags.add(cmd)
	// For scripts/bench --profile, not for users.
	cmd.Flags().StringVar(&cpuProfile, "cpuprofile", "", "write a CPU profile to a `file`")
	cmd.Flags().Lookup("cpuprofile").Hidden = true
	return cmd
}

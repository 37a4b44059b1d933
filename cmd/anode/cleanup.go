package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"anodenet/platform"
)

func (a *app) cleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cleanup",
		Short:   "Remove what a killed daemon left in the system",
		GroupID: groupLife,
		Args:    want(0, 0),
		Long: "Remove what a killed daemon left in the system.\n\n" +
			"Nearly everything of a daemon goes with its process. On Linux without nf_tables,\n" +
			"one policy rule stays behind (ip -6 rule, protocol 97). On macOS and Windows,\n" +
			"the system's resolver keeps what it was told of names. The next start of a daemon\n" +
			"removes all that too. What belongs to a running daemon stays.",
		RunE: func(*cobra.Command, []string) error {
			removed, err := platform.Cleanup()
			for _, what := range removed {
				fmt.Fprintln(a.out, "removed", what)
			}
			if err != nil {
				return fmt.Errorf("cleanup: %w", err)
			}
			if len(removed) == 0 {
				fmt.Fprintln(a.out, "nothing to remove")
			}
			return nil
		},
	}
}

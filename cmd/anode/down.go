package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
)

// How long down waits for the daemon to end, and how often it looks.
const (
	downWait = 10 * time.Second
	downLook = 20 * time.Millisecond
)

func (a *app) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop the daemon, and wait until it has ended",
		GroupID: groupLife,
		Args:    want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := control.NewClient(a.socket)
			defer client.Close()
			if err := client.Stop(cmd.Context()); err != nil {
				return err
			}
			if err := a.waitGone(cmd.Context(), client); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "stopped")
			return nil
		},
	}
}

// waitGone returns when nothing listens any more.
func (a *app) waitGone(ctx context.Context, client *control.Client) error {
	ctx, cancel := context.WithTimeout(ctx, downWait)
	defer cancel()
	look := time.NewTicker(downLook)
	defer look.Stop()
	for {
		client.Close() // a new connection each time
		if _, err := client.Status(ctx); errors.Is(err, control.ErrNoDaemon) {
			return nil
		}
		select {
		case <-ctx.Done():
			return &failure{exitFailed, "the daemon did not stop in time", "kill it by its process ID, and report this"}
		case <-look.C:
		}
	}
}

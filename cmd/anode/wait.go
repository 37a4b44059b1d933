package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// waitLook is how often wait looks at the status.
const waitLook = 100 * time.Millisecond

func (a *app) waitCommand() *cobra.Command {
	var direct bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait PEER",
		Short: "Wait until a peer can be reached; for scripts",
		Long: "Wait until a peer can be reached: there is a session and a path, and it has added this\n" +
			"machine. Prints nothing then. At the timeout it exits with 5 and says what is wrong.",
		GroupID:           groupPeople,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	secondsVar(cmd.Flags(), &timeout, "timeout", "", 30*time.Second, "give up after this `time`, in seconds or as 2m")
	cmd.Flags().BoolVar(&direct, "direct", false, "wait for a path without a relay")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if timeout <= 0 {
			return usage(cmd, "--timeout %v: want more than 0, such as 30s", timeout)
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		peer, err := a.findPeer(cmd.Context(), clientBook{client}, args[0])
		if err != nil {
			return err
		}
		w := waiter{client: client, peer: peer, direct: direct}
		return a.wait(cmd.Context(), &w, timeout)
	}
	return cmd
}

// wait runs a waiter, and explains what is wrong if the time is over.
func (a *app) wait(ctx context.Context, w *waiter, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := w.run(limited)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() == nil && err == nil:
		return nil
	case limited.Err() == nil && explain(err).exit != exitUnreachable:
		return err
	case w.reached: // but not directly
		return &failure{exitUnreachable, fmt.Sprintf("%s has no direct path after %v", labelOf(w.peer.Name, w.peer.ID), timeout), "anode why PEER"}
	}
	return a.unreached(ctx, w.client, w.peer, fmt.Sprintf("%s was not reached in %v", labelOf(w.peer.Name, w.peer.ID), timeout))
}

// waiter waits for one peer.
type waiter struct {
	client  *control.Client
	peer    control.Resolved
	direct  bool
	reached bool // perhaps not directly
}

// run returns when the peer is reached, ctx ends, or waiting longer is of no use. A session
// may be left of a path that works no longer, so a ping has to be answered too. It also
// keeps the node trying.
func (w *waiter) run(ctx context.Context) error {
	ping := control.PingRequest{Address: w.peer.Address, Size: leastPing, TimeoutMS: 1000}
	look := time.NewTicker(waitLook)
	defer look.Stop()
	for ctx.Err() == nil {
		_, err := w.client.Ping(ctx, ping)
		answered := err == nil
		if !answered && explain(err).exit != exitUnreachable && ctx.Err() == nil {
			return err
		}
		if done, err := w.look(ctx, answered); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
	return nil
}

// look reports whether the peer is reached.
func (w *waiter) look(ctx context.Context, answered bool) (done bool, err error) {
	status, err := w.client.Status(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		return false, err
	}
	w.reached = false
	for _, p := range status.Peers {
		switch {
		case p.Address != w.peer.Address:
			continue
		case p.Blocked:
			return false, overlay.ErrBlocked
		}
		w.reached = answered && p.State == overlay.StateUp && p.Path.Kind != overlay.PathNone && p.Reason == overlay.NoReason
		return w.reached && (!w.direct || isDirect(p.Path)), nil
	}
	return false, nil
}

package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
)

func (a *app) ncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nc PEER PORT",
		Short: "Connect the standard input and output to a TCP port of a peer",
		Long: "Connect the standard input and output to a TCP port of a peer, with and without an adapter.\n" +
			"The end of the input ends that direction alone. ssh without an adapter:\n\n" +
			"  ssh -o ProxyCommand=\"anode nc %h %p\" USER@PEER\n\n" +
			"PEER may have the suffix .anode.internal, by which ~/.ssh/config can tell peers from other\n" +
			"hosts:\n\n" +
			"  Host *.anode.internal\n" +
			"    ProxyCommand anode nc %h %p",
		GroupID:           groupPeople,
		Args:              want(2, 2),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := portOfPeer(cmd, args[1])
			if err != nil {
				return err
			}
			client := control.NewClient(a.socket)
			defer client.Close()
			peer, err := a.peerOf(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			s, err := client.Open(cmd.Context(), peer.Address, port)
			switch {
			case err != nil && explain(err).exit == exitUnreachable:
				return a.unreached(cmd.Context(), client, peer, labelOf(peer.Name, peer.ID)+" does not answer")
			case err != nil:
				return err
			}
			defer s.Close()
			return a.copyBoth(cmd.Context(), s, cmd.InOrStdin())
		},
	}
}

// copyBoth copies the input to a stream, and the stream to the output, until both have ended.
func (a *app) copyBoth(ctx context.Context, s *control.Stream, in io.Reader) error {
	sent := make(chan error, 1)
	go func() { // a read of the standard input cannot be ended: it may outlive this
		_, err := io.Copy(s, in)
		if err == nil {
			err = s.CloseWrite()
		}
		sent <- err
	}()
	if _, err := io.Copy(a.out, s); err != nil {
		return err
	}
	if c, ok := a.out.(io.Closer); ok && !a.terminal {
		_ = c.Close() // who reads it sees the end; ssh leaves then
	}
	if isTerminal(in) {
		return nil // nobody should have to type to get out
	}
	select {
	case err := <-sent:
		if errors.Is(err, control.ErrNoDaemon) {
			return &failure{exitFailed, "the peer ended the connection before all of the input was sent", ""}
		}
		if err != nil {
			return err
		}
		return s.Finish()
	case <-ctx.Done():
		return ctx.Err()
	}
}

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

func (a *app) ncCommand() *cobra.Command {
	var udp bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "nc PEER PORT",
		Short: "Connect the standard input and output to a port of a peer",
		Long: "Connect the standard input and output to a TCP port of a peer, with and without an adapter.\n" +
			"The end of the input ends that direction alone. ssh without an adapter:\n\n" +
			"  ssh -o ProxyCommand=\"anode nc %h %p\" USER@PEER\n\n" +
			"PEER may have the suffix .anode.internal, by which ~/.ssh/config can tell peers from other\n" +
			"hosts:\n\n" +
			"  Host *.anode.internal\n" +
			"    ProxyCommand anode nc %h %p\n\n" +
			"With --udp each read of the input, such as a line that is typed, becomes a datagram of at most\n" +
			"16 KiB, and what comes back is printed. After the end of the input it ends when nothing has\n" +
			"come back for the time of --wait. An error says if the peer could not be reached.",
		GroupID:           groupPeople,
		Args:              want(2, 2),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := portOfPeer(cmd, args[1])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("wait") && !udp {
				return usage(cmd, "--wait needs --udp")
			}
			client := control.NewClient(a.socket)
			defer client.Close()
			peer, err := a.peerOf(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			if udp {
				d, err := client.OpenDatagrams(cmd.Context(), peer.Address, port)
				if err != nil {
					return err
				}
				defer d.Close()
				err = a.exchange(cmd.Context(), d, cmd.InOrStdin(), wait)
				if errors.Is(err, errNothingCame) {
					return a.lost(cmd.Context(), client, peer)
				}
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
	cmd.Flags().BoolVarP(&udp, "udp", "u", false, "a UDP port")
	secondsVar(cmd.Flags(), &wait, "wait", "w", 2*time.Second, "with --udp: end when nothing has come back for so many seconds after the end of the input; 0: never")
	return cmd
}

// lost returns why a peer that answered no datagram cannot have got any; nil: it may have.
func (a *app) lost(ctx context.Context, client *control.Client, peer control.Resolved) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	for _, p := range status.Peers {
		if p.Address == peer.Address && (p.Path.Kind == overlay.PathNone || p.Reason != "") {
			return a.unreached(ctx, client, peer, labelOf(peer.Name, peer.ID)+" does not answer")
		}
	}
	return nil
}

// errNothingCame is how an exchange ends in which nothing came back.
var errNothingCame = errors.New("nothing came back")

// socket exchanges datagrams with a port; *control.Datagrams is one.
type socket interface {
	Send([]byte) error
	Receive() ([]byte, error)
}

// ncDatagram is the most bytes of the input that become one datagram.
const ncDatagram = 16 << 10

// exchange sends the input as datagrams, and prints what comes back, until the input has ended
// and nothing comes back for as long as wait; 0: until ctx ends. If nothing has come back at all, it
// returns errNothingCame.
func (a *app) exchange(ctx context.Context, s socket, in io.Reader, wait time.Duration) error {
	sent := make(chan error, 1)
	go func() { sent <- sendAll(s, in) }() // it may outlive this, as in copyBoth
	came, failed := make(chan []byte), make(chan error, 1)
	go func() {
		for {
			b, err := s.Receive()
			if err != nil {
				failed <- err
				return
			}
			select {
			case came <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	quiet := time.NewTimer(0)
	quiet.Stop()
	end := errNothingCame
	for ended := false; ; {
		select {
		case b := <-came:
			end = nil
			if _, err := a.out.Write(b); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case err := <-sent:
			if err != nil {
				return err
			}
			ended = true
		case <-quiet.C:
			return end
		case <-ctx.Done():
			return nil // as people end it
		}
		if ended && wait > 0 {
			quiet.Reset(wait)
		}
	}
}

// sendAll sends what each read returns as a datagram.
func sendAll(s socket, in io.Reader) error {
	b := make([]byte, ncDatagram)
	for {
		n, err := in.Read(b)
		if n > 0 {
			if err := s.Send(b[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
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

package main

import (
	"context"
	"math"
	"net"
	"slices"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/files"
	"anodenet/overlay"
)

func (a *app) sendCommand() *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "send FILE... PEER",
		Short: "Send files and directories to a peer that runs anode recv",
		Long: "Send files and directories to a peer that runs \"anode recv\".\n\n" +
			"It waits for the receiver, and connects again when the connection breaks. If either side\n" +
			"ends before everything is there, the same command goes on where it ended: only what is\n" +
			"missing is sent. Every piece is checked.\n\n" +
			"Symbolic links in a directory are sent as links if they stay inside it, others are\n" +
			"skipped, and so are devices and sockets. Files that change meanwhile are not sent; the\n" +
			"exit code is 1 then.",
		GroupID:           groupPeople,
		Args:              want(2, math.MaxInt),
		ValidArgsFunction: a.completeSend,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		last := len(args) - 1
		peer, err := a.findPeer(cmd.Context(), clientBook{client}, args[last])
		if err != nil {
			return err
		}
		status, err := client.Status(cmd.Context())
		if err == nil {
			err = maySend(status, peer)
		}
		if err != nil {
			return err
		}
		return a.send(cmd.Context(), newLines(client), peer, args[:last], f)
	}
	return cmd
}

// completeSend completes files, and after the first one peers too.
func (a *app) completeSend(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list, _ := a.completePeer(len(args))(cmd, args, typed)
	return list, cobra.ShellCompDirectiveDefault
}

// maySend returns why nothing can be sent to a peer.
func maySend(status overlay.Status, peer control.Resolved) error {
	added := slices.ContainsFunc(status.Peers, func(p overlay.PeerStatus) bool { return p.Address == peer.Address && p.Allowed })
	if !added {
		return &failure{exitUnknownPeer, labelOf(peer.Name, peer.ID) + " is not a peer that you added", "anode peers add ADDRESS"}
	}
	return nil
}

// send sends files to a peer.
func (a *app) send(ctx context.Context, l lines, to control.Resolved, names []string, f transferFlags) error {
	src, err := files.Open(ctx, names)
	if err != nil {
		return err
	}
	defer src.Close()
	peer := files.Peer{Key: to.Address.String(), Name: labelOf(to.Name, to.ID)}
	report := a.newTransferReport(f, "sent")
	for _, skipped := range src.Skipped {
		report.event(files.Event{Type: files.Skipped, Peer: peer, Path: skipped.Path, Err: skipped.Err})
	}
	for _, failed := range src.Failed {
		report.event(files.Event{Type: files.Failed, Peer: peer, Path: failed.Path, Err: failed.Err})
	}
	if src.Files == 0 && len(src.Failed) > 0 {
		return &failure{exitFailed, "no file can be read", ""}
	}
	o, err := files.Send(ctx, src, files.SendConfig{
		Dial:     func(ctx context.Context) (net.Conn, error) { return l.dial(ctx, to) },
		Patience: f.patience,
		Tell: func(e files.Event) {
			e.Peer = peer
			report.event(e)
		},
	})
	if err != nil {
		return transferFailure(err, peer.Name)
	}
	report.end(peer, o)
	return incomplete(o)
}

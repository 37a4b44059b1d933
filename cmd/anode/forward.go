package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
)

func (a *app) forwardCommand() *cobra.Command {
	var f proxy.Forwarding
	cmd := &cobra.Command{
		Use:   "forward [LOCAL PEER:PORT]",
		Short: "Lead a port of this machine to a port of a peer, until Ctrl-C",
		Long: "Lead a port of this machine to a port of a peer, until Ctrl-C. Programs need no adapter for\n" +
			"that: they connect to LOCAL, which is PORT (of 127.0.0.1; 0: any that is free), IP:PORT or\n" +
			"unix:/PATH.\n\n" +
			"Every user of this machine can connect to a port, and uses the network as this node then. A\n" +
			"unix socket is for root, the daemon's user and the group anode.\n\n" +
			"Without arguments it lists what is forwarded. local.forward in the configuration forwards a\n" +
			"port for good.",
		GroupID:           groupPeople,
		Args:              want(0, 2),
		ValidArgsFunction: a.completeTarget,
	}
	cmd.Flags().BoolVarP(&f.UDP, "udp", "u", false, "a UDP port")
	cmd.Flags().BoolVar(&f.Anywhere, "anywhere", false, "LOCAL may be an address that other machines reach; they use the network as this node then")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return a.listDoors(cmd.Context(), proxy.Forward, *asJSON, "No port is forwarded.")
		}
		if len(args) == 1 {
			return usage(cmd, "missing argument: %s", cmd.UseLine())
		}
		var peer string
		var err error
		if f.At, err = proxy.ParsePlace(args[0]); err != nil || f.UDP && f.At.Unix != "" {
			return usage(cmd, "LOCAL: want PORT, IP:PORT or unix:/PATH, not %q", args[0])
		}
		if peer, f.Port, err = proxy.ParseTarget(args[1]); err != nil {
			return usage(cmd, "%v", err)
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		found, err := a.peerOf(cmd.Context(), client, peer)
		if err != nil {
			return err
		}
		f.Peer = found.Address.String()
		r := control.KeepRequest{Kind: proxy.Forward, Spec: f.String(), Anywhere: f.Anywhere}
		return a.keepDoor(cmd, client, r, *asJSON, func(s proxy.Status) string {
			return fmt.Sprintf("forwarding %s to %s port %d of %s", s.Listen, transportWord(f.UDP), f.Port, labelOf(found.Name, found.ID))
		})
	}
	return cmd
}

package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
)

func (a *app) exposeCommand() *cobra.Command {
	var e proxy.Exposure
	var only []string
	cmd := &cobra.Command{
		Use:   "expose [PORT]",
		Short: "Let peers reach a service of this machine, until Ctrl-C",
		Long: "Let peers reach a service of this machine at a port of this node, until Ctrl-C. Without an\n" +
			"adapter they reach nothing else of it. The service sees connections from this machine, not\n" +
			"from the peer.\n\n" +
			"Peers that you added may use it, or with --only some of them; others never can, not even\n" +
			"with policy.open.\n\n" +
			"Without arguments it lists what is exposed. local.expose in the configuration exposes a\n" +
			"port for good.",
		GroupID:           groupPeople,
		Args:              want(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&e.UDP, "udp", "u", false, "a UDP port")
	cmd.Flags().StringVar(&e.To, "to", "", "where the service listens, `HOST:PORT` or a port of 127.0.0.1 (default the same port)")
	cmd.Flags().StringArrayVar(&only, "only", nil, "a `PEER` that may use it, and no others; repeatable")
	_ = cmd.RegisterFlagCompletionFunc("only", a.completePeer(0))
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			if e.UDP || e.To != "" || len(only) > 0 {
				return usage(cmd, "missing argument: %s PORT", cmd.CommandPath())
			}
			return a.listDoors(cmd.Context(), proxy.Expose, *asJSON, "No port is exposed: peers reach no service of this machine, except by an adapter.")
		}
		var err error
		if e.Port, err = portOfPeer(cmd, args[0]); err != nil {
			return err
		}
		if e.To == "" {
			e.To = args[0]
		}
		if !strings.Contains(e.To, ":") {
			e.To = net.JoinHostPort("127.0.0.1", e.To)
		}
		if proxy.CheckService(e.To) != nil {
			return usage(cmd, "--to: want HOST:PORT, not %q", e.To)
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		return a.expose(cmd, client, e, only, *asJSON)
	}
	return cmd
}

func (a *app) expose(cmd *cobra.Command, client *control.Client, e proxy.Exposure, only []string, asJSON bool) error {
	who := "all peers that you added"
	var labels []string
	for _, text := range only {
		peer, err := a.peerOf(cmd.Context(), client, text)
		if err != nil {
			return err
		}
		e.Only = append(e.Only, peer.Address.String())
		labels = append(labels, labelOf(peer.Name, peer.ID))
	}
	if len(labels) > 0 {
		who = strings.Join(labels, ", ")
	}
	r := control.KeepRequest{Kind: proxy.Expose, Spec: e.String()}
	return a.keepDoor(cmd, client, r, asJSON, func(proxy.Status) string {
		return fmt.Sprintf("exposing %s port %d to %s; it leads to %s", transportWord(e.UDP), e.Port, who, e.To)
	})
}

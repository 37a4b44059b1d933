package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay/book"
)

// peersAnswer is the JSON of peers list.
type peersAnswer struct {
	Schema int     `json:"schema"`
	Peers  []entry `json:"peers"`
}

func (a *app) peersCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "peers",
		Short:   "Your peers: list, add, remove, rename, block, unblock",
		GroupID: groupPeople,
	})
	cmd.AddCommand(a.peersList(), a.peersAdd(), a.peersRemove(), a.peersRename(), a.peersBlock(true), a.peersBlock(false))
	return cmd
}

func (a *app) peersList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List your peers", Args: want(0, 0)}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer b.close()
		list, err := b.list(cmd.Context())
		switch {
		case err != nil:
			return err
		case *asJSON:
			return a.json(peersAnswer{schema, list})
		case len(list) == 0 && a.terminal:
			fmt.Fprintln(a.out, "None yet. On another machine run \"anode id\", then here \"anode peers add ADDRESS NAME\".")
			return nil
		}
		rows := [][]string{{"NAME", "ID", "ULA", "STATE", "ADDRESS"}}
		for _, e := range list {
			state := string(e.State)
			switch {
			case e.Blocked:
				state = "blocked"
			case state == "":
				state = "-"
			}
			name := e.Name
			if name == "" {
				name = "-"
			}
			rows = append(rows, []string{name, e.ID.String(), e.ULA.String(), state, e.Address.String()})
		}
		a.table(rows)
		return nil
	}
	return cmd
}

func (a *app) peersAdd() *cobra.Command {
	var endpoints []string
	cmd := &cobra.Command{
		Use:   "add ADDRESS [NAME]",
		Short: "Add a peer (it must add you too)",
		Long: "Add a peer (it must add you too), or change the name or the endpoints of one that\n" +
			"was added before.\n\n" +
			"ADDRESS is the whole address, 64 characters, or a DNS name with a TXT record\n" +
			"anode:ADDRESS. DNS can be forged, so a DNS name needs --yes.",
		Args: want(1, 2),
	}
	cmd.Flags().StringArrayVar(&endpoints, "endpoint", nil, "where the peer can be reached, `udp:IP:PORT`; repeatable")
	yes := cmd.Flags().Bool("yes", false, "accept the address that DNS has for a name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request := control.AddRequest{}
		if len(args) == 2 {
			request.Name = args[1]
		}
		for _, text := range endpoints {
			e, err := book.ParseEndpoint(text)
			if err != nil {
				return usage(cmd, "--endpoint: %v", err)
			}
			request.Endpoints = append(request.Endpoints, e)
		}
		var err error
		if request.Address, err = a.whole(cmd.Context(), args[0], *yes); err != nil {
			return err
		}
		b, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer b.close()
		added, err := b.add(cmd.Context(), request)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, addedWords(request.Address, added))
		return nil
	}
	return cmd
}

// addedWords reports what "peers add" did.
func addedWords(address anode.Address, added control.Added) string {
	label := labelOf(added.Name, address.ID())
	switch added.Did {
	case control.DidAdd:
		return "added " + label + ", " + address.ULA().String()
	case control.DidRename:
		return "renamed " + labelOf(added.Was, address.ID()) + ", which was already added, to " + added.Name
	case control.DidChange:
		return "changed " + label + ", which was already added"
	}
	return label + " was already added"
}

func (a *app) peersRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove PEER", Short: "Forget a peer", Args: want(1, 1),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args[0], func(b peerBook, peer control.Resolved) (string, error) {
				return "removed " + labelOf(peer.Name, peer.ID), b.remove(cmd.Context(), peer.Address)
			})
		},
	}
}

func (a *app) peersRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename PEER NAME", Short: "Change the name of a peer (\"\" removes it)", Args: want(2, 2),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args[0], func(b peerBook, peer control.Resolved) (string, error) {
				done := " is now " + args[1]
				if args[1] == "" {
					done = " has no name now"
				}
				return labelOf(peer.Name, peer.ID) + done, b.rename(cmd.Context(), peer.Address, args[1])
			})
		},
	}
}

func (a *app) peersBlock(block bool) *cobra.Command {
	verb, short, done := "block", "Ignore everything from a peer, including pings", "blocked "
	if !block {
		verb, short, done = "unblock", "End a block; the peer is again what it was before, added or not", "unblocked "
	}
	return &cobra.Command{
		Use: verb + " PEER", Short: short, Args: want(1, 1),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args[0], func(b peerBook, peer control.Resolved) (string, error) {
				return done + labelOf(peer.Name, peer.ID), b.block(cmd.Context(), peer.Address, block)
			})
		},
	}
}

// change resolves PEER, changes it in the book, and prints what was done.
func (a *app) change(ctx context.Context, text string, f func(peerBook, control.Resolved) (done string, err error)) error {
	b, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	peer, err := a.find(ctx, b, text)
	if err != nil {
		return err
	}
	done, err := f(b, peer)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, done)
	return nil
}

// completeWait is how long a shell's completion may take.
const completeWait = 300 * time.Millisecond

// completePeer completes the argument at an index with the names of the peers.
func (a *app) completePeer(index int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) != index {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
		defer cancel()
		// A completion runs without the hook that notes this.
		a.stateGiven, a.socketGiven = cmd.Flags().Changed("state"), cmd.Flags().Changed("socket")
		b, err := a.open(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer b.close()
		list, err := b.list(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var words []cobra.Completion
		for _, e := range list {
			if e.Name != "" {
				words = append(words, cobra.CompletionWithDesc(e.Name, e.ID.String()))
			} else {
				words = append(words, e.ID.String())
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

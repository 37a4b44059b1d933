package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
)

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
		a.stateGiven = a.stateGiven || cmd.Flags().Changed("state")
		a.socketGiven = a.socketGiven || cmd.Flags().Changed("socket")
		a.settle(thisLogin())
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

// completePeerThen completes the first argument with the names of the peers, and the second one with words.
func (a *app) completePeerThen(words ...cobra.Completion) cobra.CompletionFunc {
	peer := a.completePeer(0)
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return words, cobra.ShellCompDirectiveNoFileComp
		}
		return peer(cmd, args, begun)
	}
}

// completeHeard completes the address of a peer to add with those that were heard.
func (a *app) completeHeard(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	a.socketGiven = a.socketGiven || cmd.Flags().Changed("socket")
	a.settle(thisLogin())
	client := control.NewClient(a.socket)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	_, heard := split(status.Peers)
	names := namesOf(status.Peers)
	var words []cobra.Completion
	for _, p := range heard {
		words = append(words, cobra.CompletionWithDesc(p.Address.String(), p.ID.String()+", "+route(p.Path, names)))
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeKey completes KEY=VALUE with the keys of the configuration.
func completeKey(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var words []cobra.Completion
	for _, k := range config.Keys() {
		words = append(words, cobra.CompletionWithDesc(k.Name+"=", k.Doc))
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// plainUsage takes the backquotes, which mark the names of values for the help, out of
// what a completion shows.
func plainUsage(cmd *cobra.Command, args []string) {
	if len(args) == 0 || !slices.Contains([]string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, args[0]) {
		return
	}
	plain := func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") }
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(plain)
		c.PersistentFlags().VisitAll(plain)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cmd)
}

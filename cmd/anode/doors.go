package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
)

// doorsAnswer is the JSON of a list of doors.
type doorsAnswer struct {
	Schema int            `json:"schema"`
	Doors  []proxy.Status `json:"doors"`
}

// doorAnswer is the JSON of a door that a command opened.
type doorAnswer struct {
	Schema int `json:"schema"`
	proxy.Status
}

// listDoors prints the doors of a kind.
func (a *app) listDoors(ctx context.Context, kind proxy.Kind, asJSON bool, none string) error {
	client := control.NewClient(a.socket)
	defer client.Close()
	all, err := client.Doors(ctx)
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(all.Doors, func(s proxy.Status) bool { return s.Kind != kind })
	if asJSON {
		return a.json(doorsAnswer{schema, list})
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, none)
		return nil
	}
	rows := [][]string{{"WHAT", "NOW", "ALL", "REFUSED", "BY"}}
	names := a.namesOfBook(ctx, client)
	for _, s := range list {
		rows = append(rows, []string{doorWords(s, names), strconv.FormatUint(s.Open, 10), strconv.FormatUint(s.Total, 10), strconv.FormatUint(s.Refused, 10), s.Owner})
	}
	a.columns(rows)
	return nil
}

// doorsOf returns all doors of a daemon; none of one that is older than this program.
func doorsOf(ctx context.Context, client *control.Client) []proxy.Status {
	d, err := client.Doors(ctx)
	if err != nil || d.Doors == nil {
		return []proxy.Status{}
	}
	return d.Doors
}

// namesOfBook returns the names of peers by their addresses.
func (a *app) namesOfBook(ctx context.Context, client *control.Client) map[string]string {
	names := map[string]string{}
	book, err := client.Book(ctx)
	if err != nil {
		return names // addresses are shown then
	}
	for _, e := range book.Peers {
		if e.Name != "" {
			names[e.Address.String()] = e.Name
		}
	}
	return names
}

// doorWords say what a door is.
func doorWords(s proxy.Status, names map[string]string) string {
	name := func(peer string) string {
		if n := names[peer]; n != "" {
			return n
		}
		return shortPeer(peer)
	}
	switch s.Kind {
	case proxy.SOCKS:
		return "SOCKS5 at " + s.Listen
	case proxy.HTTP:
		return "HTTP CONNECT at " + s.Listen
	case proxy.Forward:
		f, err := proxy.ParseForwarding(s.Spec)
		if err == nil {
			return fmt.Sprintf("%s to %s port %d of %s", s.Listen, transportWord(f.UDP), f.Port, name(f.Peer))
		}
	case proxy.Expose:
		e, err := proxy.ParseExposure(s.Spec)
		if err == nil {
			text := fmt.Sprintf("%s port %d to %s", transportWord(e.UDP), e.Port, e.To)
			for i, peer := range e.Only {
				text += map[bool]string{true: ", only for ", false: ", "}[i == 0] + name(peer)
			}
			return text
		}
	}
	return s.Spec
}

func transportWord(udp bool) string {
	if udp {
		return "UDP"
	}
	return "TCP"
}

// shortPeer cuts an address for people.
func shortPeer(peer string) string {
	if a, err := anode.ParseAddress(peer); err == nil {
		return a.ID().String()
	}
	return peer
}

// doorFacts are what the status says about doors, and about a node without an adapter.
func doorFacts(adapter bool, doors []proxy.Status, names map[string]string) (adapterText string, facts [][2]string) {
	var ways []string
	words := map[proxy.Kind][]string{}
	for _, d := range doors {
		words[d.Kind] = append(words[d.Kind], doorWords(d, names))
	}
	ways = slices.Concat(words[proxy.SOCKS], words[proxy.HTTP])
	if adapter && len(ways) > 0 {
		facts = append(facts, [2]string{"proxies", strings.Join(ways, ", ")})
	}
	adapterText = "none; programs use " + strings.Join(ways, ", ")
	if len(ways) == 0 {
		adapterText = "none; programs use anode nc, anode forward or a proxy (anode up --socks 1080)"
	}
	for _, f := range words[proxy.Forward] {
		facts = append(facts, [2]string{"forward", f})
	}
	for _, e := range words[proxy.Expose] {
		facts = append(facts, [2]string{"exposes", e})
	}
	return adapterText, facts
}

// doorWarnings are about doors through which other machines use the network as this one.
func doorWarnings(doors []proxy.Status) (list []string) {
	for _, d := range doors {
		at, err := proxy.ParsePlace(d.Listen)
		if d.Kind != proxy.Expose && err == nil && !at.Private() {
			list = append(list, fmt.Sprintf("everybody who reaches %s can use the network as this machine (local.anywhere)", d.Listen))
		}
	}
	return list
}

// keepDoor opens a door until Ctrl-C or the daemon's end. say returns the line for people.
func (a *app) keepDoor(cmd *cobra.Command, client *control.Client, r control.KeepRequest, asJSON bool, say func(proxy.Status) string) error {
	err := client.Keep(cmd.Context(), r, func(s proxy.Status) {
		if asJSON {
			_ = a.json(doorAnswer{schema, s}) // a.unwritten reports it
			return
		}
		fmt.Fprintln(a.out, say(s))
	})
	if cmd.Context().Err() != nil {
		return nil
	}
	return err
}

// peerOf returns the peer that an argument means.
func (a *app) peerOf(ctx context.Context, client *control.Client, text string) (control.Resolved, error) {
	return a.findPeer(ctx, clientBook{client}, text)
}

// completeTarget completes PEER: as the second argument.
func (a *app) completeTarget(cmd *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	words, how := a.completePeer(1)(cmd, args, text)
	for i, w := range words {
		name, about, _ := strings.Cut(w, "\t")
		words[i] = cobra.CompletionWithDesc(name+":", about)
	}
	return words, how | cobra.ShellCompDirectiveNoSpace
}

// portOfPeer reads a port of a peer.
func portOfPeer(cmd *cobra.Command, text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, usage(cmd, "PORT: want a number from 1 to 65535, not %q", text)
	}
	return uint16(n), nil
}

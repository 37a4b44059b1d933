package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/names"
	"anodenet/info2"
)

func (a *app) info2Command() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "info2",
		Short: "The network of \"say\" and \"chat\": its state, links and texts",
		Long: "The network of \"anode say\" and \"anode chat\": short texts that reach everybody.\n\n" +
			"On the adapter your neighbours are the peers that you added, and what you say is\n" +
			"encrypted on its way to them; they forward it to their own. The bare network\n" +
			"(anode up --info2-bare) is another one, of strangers, in clear text. \"via\" names\n" +
			"the neighbour that brought a text; nobody can know who wrote it.",
		GroupID: groupPeople,
	})
	cmd.AddCommand(a.info2Status(), a.info2Links(), a.info2Connect(), a.info2Friends(), a.info2Log())
	return cmd
}

func (a *app) info2Status() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show the networks and their links", Args: want(0, 0)}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Info2(cmd.Context())
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(status)
		case how.tsv:
			a.tsv(info2TSV(status))
		default:
			a.printInfo2(status)
		}
		return nil
	}
	return cmd
}

// printInfo2 prints the status for people.
func (a *app) printInfo2(s control.Info2Status) {
	if len(s.Networks) == 0 {
		fmt.Fprintln(a.out, "Info2 is off: it needs an adapter, and info2.enabled = true (the default).")
	}
	for i, n := range s.Networks {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		kind := "clear text"
		if n.Encrypted {
			kind = "encrypted"
		}
		list := [][2]string{{"network", fmt.Sprintf("%s, port %d, %s", n.Network, n.Port, kind)}}
		if n.Failed != "" {
			a.aligned(append(list, [2]string{"failed", n.Failed})...)
			continue
		}
		linked := "nobody"
		if who := linkedNames(n); len(who) > 0 {
			linked = strings.Join(who, ", ")
		}
		c := n.Counters
		a.aligned(append(list,
			[2]string{"linked", linked},
			[2]string{"inbound", inboundWords(n.Inbound)},
			[2]string{"known", knownWords(n.Hosts)},
			[2]string{"texts", fmt.Sprintf("%d said here, %d received, %d sent or forwarded", c["own_messages"], c["messages_new"], c["messages_out"])},
		)...)
	}
	if s.Bridged {
		fmt.Fprintln(a.out, "\nThe networks are bridged: every text of one is sent on the other, in clear text.")
	}
}

// knownWords counts the known hosts; "anode info2 friends" lists them.
func knownWords(h info2.HostCounts) string {
	words := count(h.Friends, "friend")
	if h.Verified > 0 {
		words += fmt.Sprintf(", %s that answered", count(h.Verified, "other host"))
	}
	if h.Hearsay > 0 {
		words += fmt.Sprintf(", %s that never answered", count(h.Hearsay, "other host"))
	}
	return words
}

// count is "1 friend" or "2 friends".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// linkedNames lists the neighbours that a network reaches now.
func linkedNames(n control.Info2Network) (list []string) {
	seen := map[string]bool{}
	add := func(who string, state string) {
		if seen[who] {
			return
		}
		seen[who] = true
		list = append(list, who+state)
	}
	for _, l := range n.Links {
		if l.State == "open" || l.State == "hearing" {
			add(nameOr(l.Name, l.Addr), "")
		}
	}
	for _, p := range n.Neighbours {
		add(nameOr(p.Name, p.Addr), " (dialled for each text)")
	}
	return list
}

// nameOr is a neighbour's name, or its address if it has none.
func nameOr(name string, addr netip.Addr) string {
	return cmp.Or(info2.Clean(name), addr.String())
}

func inboundWords(i info2.Inbound) string {
	switch i {
	case info2.InboundWorks:
		return "works: others reach this machine"
	case info2.InboundNone:
		return "no incoming link in five minutes, perhaps because of a firewall; outgoing links work without"
	case info2.InboundOff:
		return "off"
	}
	return "no incoming link yet"
}

// info2TSV is the status for scripts.
func info2TSV(s control.Info2Status) [][]string {
	rows := [][]string{{"network", "port", "encrypted", "linked", "inbound", "friends", "verified", "hearsay", "failed"}}
	for _, n := range s.Networks {
		rows = append(rows, []string{n.Network, strconv.Itoa(int(n.Port)), strconv.FormatBool(n.Encrypted),
			strconv.Itoa(len(linkedNames(n))), string(n.Inbound), strconv.Itoa(n.Hosts.Friends),
			strconv.Itoa(n.Hosts.Verified), strconv.Itoa(n.Hosts.Hearsay), oneLine(n.Failed)})
	}
	return rows
}

// linksAnswer is the JSON of info2 links.
type linksAnswer struct {
	Schema int         `json:"schema"`
	Links  []info2Link `json:"links"`
}

type info2Link struct {
	Network string `json:"network"`
	info2.LinkStatus
}

func (a *app) info2Links() *cobra.Command {
	cmd := &cobra.Command{Use: "links", Short: "List the connections that texts travel on", Args: want(0, 0)}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Info2(cmd.Context())
		if err != nil {
			return err
		}
		answer := linksAnswer{schema, []info2Link{}}
		for _, n := range status.Networks {
			for _, l := range n.Links {
				answer.Links = append(answer.Links, info2Link{n.Network, l})
			}
		}
		switch {
		case how.json:
			return a.json(answer)
		case how.tsv:
			a.tsv(linksTSV(answer.Links))
		case len(answer.Links) == 0:
			fmt.Fprintln(a.out, "No links. See \"anode info2 status\" and \"anode info2 friends\".")
		default:
			a.columns(a.linkRows(answer.Links))
		}
		return nil
	}
	return cmd
}

// linkRows is the table of links for people, as wide as the terminal allows.
func (a *app) linkRows(links []info2Link) [][]string {
	name := column[info2Link]{"NAME", func(l info2Link) string { return cmp.Or(l.Name, "-") }}
	peer := column[info2Link]{"PEER", func(l info2Link) string { return nameOr(l.Name, l.Addr) }}
	rest := []column[info2Link]{
		{"DIRECTION", func(l info2Link) string { return l.Direction }},
		{"STATE", linkState},
		{"SINCE", func(l info2Link) string { return a.moment(l.Since) }},
	}
	texts := []column[info2Link]{
		{"NEW", func(l info2Link) string { return strconv.FormatUint(l.First, 10) }},
		{"DUPLICATE", func(l info2Link) string { return strconv.FormatUint(l.Duplicates, 10) }},
		{"WAITING", func(l info2Link) string { return strconv.Itoa(l.Queued) }},
	}
	where := []column[info2Link]{
		{"NETWORK", func(l info2Link) string { return l.Network }},
		{"ADDRESS", func(l info2Link) string { return l.Addr.String() }},
	}
	return arrange(a.columnsOf(), links,
		layout[info2Link]{len(name.head), slices.Concat([]column[info2Link]{name}, where, rest, texts)},
		layout[info2Link]{16, slices.Concat([]column[info2Link]{peer}, rest, texts)},
		layout[info2Link]{12, slices.Concat([]column[info2Link]{peer}, rest)})
}

func linkState(l info2Link) string {
	switch {
	case l.Suspect:
		return l.State + ", doubtful"
	case l.Slow:
		return l.State + ", slow"
	}
	return l.State
}

// linksTSV is the table of links for scripts.
func linksTSV(links []info2Link) [][]string {
	rows := [][]string{{"NETWORK", "NAME", "ADDRESS", "DIRECTION", "STATE", "SINCE", "NEW", "DUPLICATE", "WAITING"}}
	for _, l := range links {
		rows = append(rows, []string{l.Network, cmp.Or(l.Name, "-"), l.Addr.String(), l.Direction, linkState(l), rawMoment(l.Since),
			strconv.FormatUint(l.First, 10), strconv.FormatUint(l.Duplicates, 10), strconv.Itoa(l.Queued)})
	}
	return rows
}

// moment is a time in a table for people: how long ago it was, or when it will be.
func (a *app) moment(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case t.After(a.now()):
		return "in " + age(t.Sub(a.now()))
	}
	return age(a.now().Sub(t)) + " ago"
}

// rawMoment is a time in a table for scripts.
func rawMoment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func (a *app) info2Friends() *cobra.Command {
	cmd := &cobra.Command{Use: "friends", Short: "List the known hosts: your peers, and on the bare network others", Args: want(0, 0)}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		answer, err := client.Info2Hosts(cmd.Context())
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(answer)
		case how.tsv:
			a.tsv(hostsTSV(answer.Hosts))
		case len(answer.Hosts) == 0:
			fmt.Fprintln(a.out, "None. \"anode peers add ADDRESS NAME\" makes a friend.")
		default:
			a.columns(a.hostRows(answer.Hosts))
		}
		return nil
	}
	return cmd
}

// hostRows is the table of known hosts for people, as wide as the terminal allows.
func (a *app) hostRows(hosts []control.Info2Host) [][]string {
	name := column[control.Info2Host]{"NAME", func(h control.Info2Host) string { return cmp.Or(h.Name, "-") }}
	peer := column[control.Info2Host]{"PEER", func(h control.Info2Host) string { return nameOr(h.Name, h.Addr) }}
	where := []column[control.Info2Host]{
		{"NETWORK", func(h control.Info2Host) string { return string(h.Network) }},
		{"ADDRESS", func(h control.Info2Host) string { return h.Addr.String() }},
	}
	rest := []column[control.Info2Host]{
		{"STANDING", func(h control.Info2Host) string { return standingWords(h.Standing) }},
		{"ANSWERED", func(h control.Info2Host) string { return a.moment(h.Verified) }},
		{"FAILED", func(h control.Info2Host) string { return strconv.Itoa(h.Failures) }},
		{"NEXT", func(h control.Info2Host) string { return a.moment(h.Next) }},
	}
	return arrange(a.columnsOf(), hosts,
		layout[control.Info2Host]{len(name.head), slices.Concat([]column[control.Info2Host]{name}, where, rest)},
		layout[control.Info2Host]{16, slices.Concat([]column[control.Info2Host]{peer}, rest)})
}

// hostsTSV is the table of known hosts for scripts.
func hostsTSV(hosts []control.Info2Host) [][]string {
	rows := [][]string{{"NETWORK", "NAME", "ADDRESS", "STANDING", "ANSWERED", "FAILED", "NEXT"}}
	for _, h := range hosts {
		rows = append(rows, []string{string(h.Network), cmp.Or(h.Name, "-"), h.Addr.String(), standingWords(h.Standing),
			rawMoment(h.Verified), strconv.Itoa(h.Failures), rawMoment(h.Next)})
	}
	return rows
}

// standingWords puts the standing of a host into words.
func standingWords(standing string) string {
	switch standing {
	case "hearsay":
		return "other, never answered"
	case "verified":
		return "other"
	}
	return standing
}

// connectWait is how long connect waits for a link.
const connectWait = 10 * time.Second

func (a *app) info2Connect() *cobra.Command {
	return &cobra.Command{
		Use:   "connect HOST",
		Short: "Link to a peer now, or on the bare network to an IPv4 host",
		Args:  want(1, 1), ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			client := control.NewClient(a.socket)
			defer client.Close()
			addr, err := a.hostOf(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			connecting, err := client.Connect(cmd.Context(), control.ConnectRequest{Addr: addr})
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), connectWait)
			defer cancel()
			name, err := awaitLink(ctx, client, connecting.Network, addr)
			if errors.Is(err, context.DeadlineExceeded) {
				err = &failure{exitUnreachable, fmt.Sprintf("%s has not answered", args[0]), "anode info2 links; it will be retried"}
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "linked to %s, %s\n", nameOr(name, addr), connecting.Network)
			return nil
		},
	}
}

// hostOf returns the address of HOST: a peer's ULA, or an IPv4 address.
func (a *app) hostOf(ctx context.Context, client *control.Client, host string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Unmap().Is4() {
		return addr.Unmap(), nil
	}
	peer, err := a.findPeer(ctx, clientBook{client}, host)
	if err == nil && peer.Address != (anode.Address{}) {
		return peer.ULA.Addr(), nil
	}
	if explain(err).exit != exitUnknownPeer || !names.Domain(host) {
		return netip.Addr{}, err
	}
	list, lookupErr := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if lookupErr != nil || len(list) == 0 {
		return netip.Addr{}, err
	}
	return list[0].Unmap(), nil
}

// awaitLink waits for a link with an address, and returns its name. Errors:
// context.DeadlineExceeded if none comes.
func awaitLink(ctx context.Context, client *control.Client, network control.Network, addr netip.Addr) (string, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := client.Info2(ctx)
		if err != nil {
			return "", err
		}
		for _, n := range status.Networks {
			for _, l := range n.Links {
				if n.Network == string(network) && l.Addr == addr && l.State == "open" {
					return l.Name, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
		}
	}
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/alias"
	"anodenet/platform"
)

// lanAnswer is the JSON of lan.
type lanAnswer struct {
	Schema int `json:"schema"`
	overlay.LANStatus
	control.LANView
	Peers    []lanPeer         `json:"peers"`
	Counters map[string]uint64 `json:"counters"`
}

// lanPeer is an added peer, as far as it is about the virtual LAN.
type lanPeer struct {
	Address    anode.Address    `json:"address"`
	ID         anode.ID         `json:"id"`
	Name       string           `json:"name"`
	State      overlay.LANState `json:"lan"`
	Groups     []netip.Addr     `json:"groups"`
	Alias      string           `json:"alias"`
	AliasMoved bool             `json:"alias_moved"`
	NoAdapter  bool             `json:"no_adapter"`
	Clash      string           `json:"alias_clash,omitempty"` // who has its alias: a peer's name or short ID, or "self"
}

func (a *app) lanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lan",
		Short: "Show the virtual LAN: who is in it, groups, IPv4 addresses",
		Long: "Show the virtual LAN: who is in it, which groups programs joined, IPv4 addresses.\n\n" +
			"In the virtual LAN, programs find each other by broadcast and multicast, such as games and\n" +
			"mDNS do. Two machines are in it when each has chosen the other one: \"anode peers lan PEER\n" +
			"on\", or lan.peers = \"all\". Nothing of the real LAN is repeated there, nor the other way\n" +
			"round. Each peer that you added has an IPv4 address too, for programs that know only IPv4.",
		GroupID: groupPeople,
		Args:    want(0, 0),
	}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context())
		if err != nil {
			return err
		}
		view, err := client.LAN(cmd.Context())
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(lanAnswer{schema, status.LAN, view, lanPeers(status), lanCounters(status)})
		case how.tsv:
			a.tsv(lanTSV(lanPeers(status)))
		default:
			a.printLAN(status, view)
		}
		return nil
	}
	return cmd
}

// lanPeers are the peers that were added.
func lanPeers(s overlay.Status) []lanPeer {
	list := []lanPeer{}
	for _, p := range s.Peers {
		if p.Allowed {
			list = append(list, lanPeer{p.Address, p.ID, p.Name, p.LAN, append([]netip.Addr{}, p.LANGroups...), p.Alias, p.AliasMoved, p.NoAdapter, clash(s, p)})
		}
	}
	return list
}

// clash names who has the alias that a peer would have elsewhere; "" if the peer has it.
func clash(s overlay.Status, p overlay.PeerStatus) string {
	r, err := netip.ParsePrefix(s.LAN.Range)
	if err != nil || !p.AliasMoved {
		return ""
	}
	natural := alias.Of(r, p.ULA).String()
	if natural == s.LAN.Alias {
		return "self"
	}
	for _, q := range s.Peers {
		if q.Alias == natural {
			return cmp.Or(q.Name, q.ID.String())
		}
	}
	return "another peer"
}

// lanCounters are those about the virtual LAN.
func lanCounters(s overlay.Status) map[string]uint64 {
	c := map[string]uint64{}
	for name, n := range s.Counters {
		if strings.HasPrefix(strings.TrimPrefix(name, "drop_"), "lan_") || strings.HasSuffix(name, "_drop_group") || strings.HasSuffix(name, "_drop_no_alias") {
			c[name] = n
		}
	}
	return c
}

func lanTSV(peers []lanPeer) [][]string {
	rows := [][]string{{"name", "id", "lan", "alias", "alias_clash", "groups"}}
	for _, p := range peers {
		rows = append(rows, []string{p.Name, p.ID.String(), string(p.State), p.Alias, p.Clash, joined(p.Groups, ",")})
	}
	return rows
}

func (a *app) printLAN(s overlay.Status, v control.LANView) {
	a.aligned(lanFacts(s, v)...)
	if peers := lanPeers(s); len(peers) > 0 {
		fmt.Fprintln(a.out)
		a.columns(a.lanRows(peers))
	}
	if rows := counterRows(lanCounters(s)); len(rows) > 1 {
		fmt.Fprintln(a.out)
		a.columns(rows)
	}
	if note := restartNote(s, v); note != "" && v.Adapter { // without one, the facts say so
		fmt.Fprintf(a.out, "\n%s\n", note)
	}
}

// restartNote says that the adapter is not as a virtual LAN wants it; "" if it is, or nobody wants one.
func restartNote(s overlay.Status, v control.LANView) string {
	switch {
	case s.LAN.Chosen == 0 && !v.Games:
		return ""
	case !v.Adapter:
		return "the virtual LAN needs an adapter, and this daemon runs without one (--tun none)"
	case v.LikeLAN || runtime.GOOS != "linux":
		return ""
	}
	return "programs such as Avahi and OpenTTD see the adapter only after a restart of the daemon"
}

// noteRestart prints what restartNote says of the daemon, if one runs.
func (a *app) noteRestart(ctx context.Context) {
	if a.stateGiven && !a.socketGiven { // the daemon may be another one
		return
	}
	client := control.NewClient(a.socket)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return
	}
	if view, err := client.LAN(ctx); err == nil {
		if note := restartNote(status, view); note != "" {
			fmt.Fprintln(a.out, note)
		}
	}
}

// lanFacts are the facts about this node.
func lanFacts(s overlay.Status, v control.LANView) [][2]string {
	who := fmt.Sprintf("the peers that you chose (%d)", s.LAN.Chosen)
	if s.LAN.All {
		who = fmt.Sprintf("all peers that you added (%d)", s.LAN.Chosen)
	}
	facts := [][2]string{{"in it", fmt.Sprintf("%s, %d of them chose this machine too", who, s.LAN.Members)}}
	switch {
	case !v.Adapter:
		facts = append(facts, [2]string{"adapter", "none: the virtual LAN needs one"})
	case v.IP4Refused != "":
		facts = append(facts, [2]string{"IPv4", v.IP4Refused})
	case s.LAN.Alias == "":
		facts = append(facts, [2]string{"IPv4", "off (lan.ip4)"})
	default:
		facts = append(facts, [2]string{"IPv4", s.LAN.Alias + ", in " + s.LAN.Range})
	}
	l := s.LAN.Limits
	return append(facts,
		[2]string{"games", onOff(v.Games) + " (anode games)"},
		[2]string{"groups", cmp.Or(joined(s.LAN.Groups, ", "), "none: no program has joined one on the adapter")},
		[2]string{"limits", fmt.Sprintf("%d packets and %s a second to all, %d and %s from one peer, %d and %s from all",
			l.OutPackets, bytesOf(uint64(l.OutBytes)), l.PeerPackets, bytesOf(uint64(l.PeerBytes)), l.InPackets, bytesOf(uint64(l.InBytes)))})
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (a *app) lanRows(peers []lanPeer) [][]string {
	name := []column[lanPeer]{{"PEER", func(p lanPeer) string { return cmp.Or(p.Name, p.ID.String()) }}}
	rest := []column[lanPeer]{
		{"IPV4", func(p lanPeer) string { return cmp.Or(p.Alias, "-") }},
		{"VIRTUAL LAN", func(p lanPeer) string { return string(p.State) }},
	}
	groups := []column[lanPeer]{{"GROUPS", func(p lanPeer) string { return cmp.Or(joined(p.Groups, " "), "-") }}}
	width := a.columnsOf()
	rows := arrange(width, peers, layout[lanPeer]{16, slices.Concat(name, rest, groups)}, layout[lanPeer]{16, slices.Concat(name, rest)})
	full := [][]string{rows[0]}
	for i, p := range peers {
		full = append(full, rows[i+1])
		for _, note := range lanNotes(p) {
			full = append(full, noteLines(note, width)...)
		}
	}
	return full
}

// lanNotes say what people should know about a peer.
func lanNotes(p lanPeer) (notes []string) {
	label := cmp.Or(p.Name, p.ID.String())
	switch {
	case p.State == overlay.LANOff:
	case p.NoAdapter:
		notes = append(notes, label+" runs without an adapter (--tun none): it cannot take part, and takes no IPv4")
	case p.State == overlay.LANChosen:
		notes = append(notes, label+" has not chosen this node for its virtual LAN, or was not heard yet; on that machine: anode peers lan PEER on")
	}
	if p.Clash != "" {
		notes = append(notes, "its IPv4 address is moved: clash with "+p.Clash)
	}
	return notes
}

func (a *app) peersLAN() *cobra.Command {
	return &cobra.Command{
		Use:   "lan PEER on|off",
		Short: "Put a peer into this machine's virtual LAN, or take it out",
		Long: "Put a peer into this machine's virtual LAN, where programs find each other by broadcast\n" +
			"and multicast, or take it out. The peer must do the same with this machine. \"anode lan\"\n" +
			"shows who has.",
		Args:              want(2, 2),
		ValidArgsFunction: a.completePeerThen(onOff(true), onOff(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			on, err := parseOnOff(cmd, args[1])
			if err != nil {
				return err
			}
			err = a.change(cmd.Context(), args[0], func(b peerBook, peer control.Resolved) (string, error) {
				done := " is in the virtual LAN here, if it chooses this machine too"
				if !on {
					done = " is not in the virtual LAN any more"
				}
				return labelOf(peer.Name, peer.ID) + done, b.lan(cmd.Context(), peer.Address, on)
			})
			if err == nil && on {
				a.noteRestart(cmd.Context())
			}
			return err
		},
	}
}

func parseOnOff(cmd *cobra.Command, word string) (bool, error) {
	if word != "on" && word != "off" {
		return false, usage(cmd, "want on or off, not %q", word)
	}
	return word == "on", nil
}

// gamesAnswer is the JSON of games.
type gamesAnswer struct {
	Schema int `json:"schema"`
	control.LANView
	Adapter   string  `json:"adapter_name"`
	Broadcast gameWay `json:"broadcast"` // where 255.255.255.255 leads
	Multicast gameWay `json:"multicast"` // where IPv4 groups lead
	Members   int     `json:"members"`   // peers in the virtual LAN
}

// gameWay is where packets go that name no interface.
type gameWay struct {
	Interface string `json:"interface"` // empty: nowhere
}

func (a *app) gamesCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "games",
		Short: "Lead the search of games for each other into the virtual LAN",
		Long: "Lead the search of games for each other into the virtual LAN.\n\n" +
			"Many games and programs look for each other by sending to 255.255.255.255 or to an IPv4\n" +
			"multicast group without naming an interface. The system sends that to the real LAN. While\n" +
			"games are on, it goes to the adapter instead, and so to the members of the virtual LAN, and\n" +
			"NOT to the real LAN: printers and players there are not found meanwhile.\n\n" +
			"Two routes are added, and nothing is replaced. \"off\", the end of the daemon, and even\n" +
			"kill -9 leave the routes as they were before. Programs that name an interface or send from an\n" +
			"address of one go where they always do.",
		GroupID: groupPeople,
	})
	cmd.AddCommand(a.gamesSwitch(true), a.gamesSwitch(false), a.gamesStatus())
	return cmd
}

func (a *app) gamesSwitch(on bool) *cobra.Command {
	short := "Lead broadcasts and IPv4 multicast to the adapter"
	if !on {
		short = "Lead them to the real LAN again"
	}
	cmd := &cobra.Command{Use: onOff(on), Short: short, Args: want(0, 0)}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		if _, err := client.SetGames(cmd.Context(), control.GamesRequest{On: on}); err != nil {
			return err
		}
		return a.showGames(cmd, client, *asJSON)
	}
	return cmd
}

func (a *app) gamesStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show where broadcasts and IPv4 multicast go", Args: want(0, 0)}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		return a.showGames(cmd, client, *asJSON)
	}
	return cmd
}

// showGames prints what is, as the kernel decides it.
func (a *app) showGames(cmd *cobra.Command, client *control.Client, asJSON bool) error {
	status, err := client.Status(cmd.Context())
	if err != nil {
		return err
	}
	view, err := client.LAN(cmd.Context())
	if err != nil {
		return err
	}
	g := gamesAnswer{Schema: schema, LANView: view, Broadcast: gameWayTo("255.255.255.255"), Multicast: gameWayTo("239.255.255.250")}
	if status.Tun != nil {
		g.Adapter, g.Members = status.Tun.Name, status.LAN.Members
	}
	if asJSON {
		return a.json(g)
	}
	lines := g.lines()
	if note := restartNote(status, view); note != "" && view.Games {
		lines = append(lines, note)
	}
	for _, line := range lines {
		fmt.Fprintln(a.out, line)
	}
	return nil
}

// gameWayTo asks the kernel.
func gameWayTo(addr string) gameWay {
	if runtime.GOOS != "linux" {
		return gameWay{}
	}
	_, name, err := platform.RouteOf(netip.MustParseAddr(addr))
	if err != nil {
		return gameWay{}
	}
	return gameWay{name}
}

func (g gamesAnswer) lines() []string {
	if !g.Games {
		return []string{
			"games are off: what programs send to 255.255.255.255 or to an IPv4 group, without naming an interface, goes to " + cmp.Or(g.Broadcast.Interface, "nowhere"),
		}
	}
	lines := []string{
		fmt.Sprintf("games are on: two routes lead 255.255.255.255 and 224.0.0.0/4 to %s", g.Adapter),
		"the search of games and other programs goes to the virtual LAN, and not to the real one; \"anode games off\" ends that",
	}
	switch {
	case g.IP4Refused != "":
		lines = append(lines, "but it does not work: "+g.IP4Refused)
	case g.Broadcast.Interface != g.Adapter || g.Multicast.Interface != g.Adapter:
		lines = append(lines, fmt.Sprintf("but another route leads them to %s and %s: try: ip route get 255.255.255.255",
			cmp.Or(g.Broadcast.Interface, "nowhere"), cmp.Or(g.Multicast.Interface, "nowhere")))
	case g.Members == 0:
		lines = append(lines, "no peer is in the virtual LAN yet; for each, on both machines: anode peers lan NAME on")
	}
	return lines
}

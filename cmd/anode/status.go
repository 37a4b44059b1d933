package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay"
	"anodenet/platform"
)

// statusView is what the status shows beside the peers, if it is asked for.
type statusView struct {
	long     bool // the forms and the endpoint of each peer
	counters bool
	waiting  waiting
	bridged  bool // the bridge between the text networks is on
	files    []control.ZoneFile
	hosts    []peerHost
	doors    []proxy.Status
	names    map[string]string // of the peers, by their addresses
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show this node, its peers and the paths to them",
		GroupID: groupLife,
		Args:    want(0, 0),
	}
	how := outputFlags(cmd)
	var view statusView
	cmd.Flags().BoolVarP(&view.long, "long", "l", false, "show the short ID, the ULA and the endpoint of each peer too")
	cmd.Flags().BoolVar(&view.counters, "counters", false, "show what was counted, such as dropped packets")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context())
		if err != nil {
			return err
		}
		files, err := client.ZoneFiles(cmd.Context())
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(statusAnswer{status, files, hostsOf(cmd.Context(), client), doorsOf(cmd.Context(), client), waitingOf(cmd.Context(), client)})
		case how.tsv:
			a.tsv(statusTSV(status))
			return nil
		}
		view.waiting = waitingOf(cmd.Context(), client)
		view.files, view.hosts = files.Files, hostsOf(cmd.Context(), client)
		if view.doors = doorsOf(cmd.Context(), client); len(view.doors) > 0 {
			view.names = a.namesOfBook(cmd.Context(), client)
		}
		if texts, err := client.Info2(cmd.Context()); err == nil {
			view.bridged = texts.Bridged
		}
		a.printStatus(status, view)
		return nil
	}
	return cmd
}

// printStatus prints the status for people.
func (a *app) printStatus(s overlay.Status, v statusView) {
	a.aligned(a.nodeFacts(s, v)...)
	for _, warning := range nodeWarnings(s, v) {
		for i, line := range fold(warning, a.columnsOf()-9) {
			lead := "warning: "
			if i > 0 {
				lead = strings.Repeat(" ", len(lead))
			}
			fmt.Fprintln(a.out, lead+line)
		}
	}
	fmt.Fprintln(a.out)
	added, heard := split(s.Peers)
	if len(added) == 0 {
		fmt.Fprintln(a.out, noPeers)
	} else {
		a.columns(a.peerRows(s, added, v))
	}
	if len(heard) > 0 {
		a.printHeard(heard)
	}
	if v.counters {
		fmt.Fprintln(a.out)
		a.columns(counterRows(s.Counters))
	}
}

// noPeers tells a new user how to go on.
const noPeers = "No peers yet. \"anode invite NAME\" makes a link that lets somebody in;\n\"anode join\" uses a link that you got."

// split separates the peers that people decided about from strangers that were heard.
func split(peers []overlay.PeerStatus) (added, heard []overlay.PeerStatus) {
	for _, p := range peers {
		if p.Allowed || p.Blocked {
			added = append(added, p)
		} else {
			heard = append(heard, p)
		}
	}
	return added, heard
}

// nodeFacts are the facts about this node.
func (a *app) nodeFacts(s overlay.Status, v statusView) [][2]string {
	const label = len("short ID") + 2
	address := s.Address.String()
	if label+len(address) > a.columnsOf() {
		address = address[:22] + "…" + address[len(address)-6:] + " (anode id)"
	}
	adapter, doors := doorFacts(s.Tun != nil, v.doors, v.names)
	if s.Tun != nil {
		adapter = fmt.Sprintf("%s, MTU %d", s.Tun.Name, s.Tun.MTU)
	}
	facts := [][2]string{
		{"address", address},
		{"ULA", s.ULA.String()},
		{"short ID", s.ID.String()},
	}
	if alias := usedAlias(s); alias != "" {
		facts = append(facts, [2]string{"IPv4", alias})
	}
	facts = append(facts, a.zoneFacts(s, v.files)...)
	facts = append(append(facts, [2]string{"adapter", adapter}), doors...)
	facts = append(facts,
		[2]string{"listens", listenWords(s)},
		[2]string{"settings", settingWords(s, v.bridged)},
		[2]string{"runs", age(time.Duration(s.Uptime)*time.Second) + ", version " + s.Version},
		[2]string{"peers", peerCount(s.Peers)})
	if text := v.waiting.words(); text != "" {
		facts = append(facts, [2]string{"requests", text})
	}
	return facts
}

// waiting is how many wait for a decision here, and of how many this machine waits for one.
type waiting struct {
	Requests int `json:"requests"` // that ask to be let in, or were introduced
	Asked    int `json:"asked"`    // that were asked, and let in when they accept
}

// words are for people; empty: nobody waits.
func (w waiting) words() string {
	var list []string
	if w.Requests > 0 {
		list = append(list, strconv.Itoa(w.Requests)+" to decide")
	}
	if w.Asked > 0 {
		list = append(list, strconv.Itoa(w.Asked)+" asked, not answered yet")
	}
	if len(list) == 0 {
		return ""
	}
	return strings.Join(list, "; ") + ": anode peers requests"
}

// waitingOf returns how many wait for a decision.
func waitingOf(ctx context.Context, client *control.Client) (w waiting) {
	list, err := client.Requests(ctx)
	if err != nil {
		return w
	}
	for _, r := range list.Requests {
		if r.State == control.StateAsked {
			w.Asked++
		} else {
			w.Requests++
		}
	}
	return w
}

// refusesIP4 reports whether IPv4 aliases are not used, of which a warning says why.
func refusesIP4(s overlay.Status) bool {
	return s.Tun != nil && slices.ContainsFunc(s.Tun.Problems, func(p overlay.TunProblem) bool { return p.Code == platform.ProblemIP4 })
}

// listenWords say where the node is heard.
func listenWords(s overlay.Status) string {
	text := ""
	for i, e := range s.Listen {
		switch {
		case i > 0:
			text += ", " + e
		case s.Rung != "":
			text = e + " (" + s.Rung + ")"
		default:
			text = e
		}
	}
	if len(s.Transports.Ethernet) > 0 {
		text += ", Ethernet on " + strings.Join(s.Transports.Ethernet, ", ")
	}
	return text
}

// settingWords are the settings that decide who can reach which machine, in one line.
func settingWords(s overlay.Status, bridged bool) string {
	return fmt.Sprintf("open: %s, secret: %s, relay: %s, Info2 bridge: %s", yesNo(s.Open), yesNo(s.Secret), yesNo(s.Relay), yesNo(bridged))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// peerCount says how many peers are connected.
func peerCount(peers []overlay.PeerStatus) string {
	added, heard := split(peers)
	up := 0
	for _, p := range added {
		if p.State == overlay.StateUp {
			up++
		}
	}
	text := fmt.Sprintf("%d of %d up", up, len(added))
	if len(heard) > 0 {
		text += fmt.Sprintf("; %d heard, not added", len(heard))
	}
	return text
}

// nodeWarnings are what people must know about this node.
func nodeWarnings(s overlay.Status, v statusView) []string {
	list := append(settingWarnings(s.Open, v.bridged), doorWarnings(v.doors)...)
	if s.Copies {
		list = append(list, copiesWarning(s))
	}
	for _, f := range s.Transports.Failed {
		list = append(list, transportWarning(f))
	}
	if s.Tun != nil {
		for _, p := range s.Tun.Problems {
			list = append(list, "the adapter: "+p.Text)
		}
	}
	return append(list, zoneWarnings(v.files)...)
}

// settingWarnings are about settings that open this machine or its texts to others.
func settingWarnings(open, bridged bool) (list []string) {
	if open {
		list = append(list, "everybody can reach the ports of this machine, not only the peers that you added (policy.open)")
	}
	if bridged {
		list = append(list, "the Info2 bridge is on: what your peers say becomes clear text that anybody can read (info2.bridge)")
	}
	return list
}

// transportWarning says which transport is not there.
func transportWarning(f overlay.TransportFailure) string {
	if port, ok := strings.CutPrefix(f.What, "tcp:"); ok {
		return fmt.Sprintf("TCP port %s is not listened on: %s (listen.tcp; anode doctor says more)", port, f.Error)
	}
	text, _, _ := strings.Cut(f.Error, "; try: ")
	if name, ok := strings.CutPrefix(f.What, "ethernet:"); ok {
		text = "no Ethernet on " + name + ": " + text
	}
	return text + " (link.ethernet; anode doctor says more)"
}

func copiesWarning(s overlay.Status) string {
	return fmt.Sprintf("another machine has the same address; this one has machine number %d", s.PeerID)
}

// mostPath is the widest cell of the column PATH.
const mostPath = 14

// peerRows is the table of the added and blocked peers: as many columns as fit, names cut
// if need be, and below a peer that is not well the reason.
func (a *app) peerRows(s overlay.Status, peers []overlay.PeerStatus, v statusView) [][]string {
	width := a.columnsOf()
	name, id, essential, traffic, seen, endpoint := a.peerColumns(s)
	type way = layout[overlay.PeerStatus]
	rows := arrange(width, peers,
		way{16, slices.Concat(name, id, essential, traffic, seen, endpoint)},
		way{16, slices.Concat(name, id, essential, traffic, seen)},
		way{12, slices.Concat(name, essential, traffic, seen)},
		way{8, slices.Concat(name, essential, seen)})
	full := [][]string{rows[0]}
	for i, p := range peers {
		full = append(full, rows[i+1])
		full = append(full, peerNotes(p, s, v, width)...)
		full = append(full, a.hostNotes(p, v, width)...)
	}
	return full
}

func (a *app) peerColumns(s overlay.Status) (name, id, essential, traffic, seen, endpoint []column[overlay.PeerStatus]) {
	names := namesOf(s.Peers)
	name = []column[overlay.PeerStatus]{{"PEER", func(p overlay.PeerStatus) string { return cmp.Or(p.Name, p.ID.String()) }}}
	id = []column[overlay.PeerStatus]{{"ID", func(p overlay.PeerStatus) string { return p.ID.String() }}}
	essential = []column[overlay.PeerStatus]{
		{"STATE", func(p overlay.PeerStatus) string { return string(p.State) }},
		{"PATH", func(p overlay.PeerStatus) string { return cut(pathWord(p.Path, names), mostPath) }},
		{"RTT", func(p overlay.PeerStatus) string {
			if p.Path.RTT > 0 {
				return millis(p.Path.RTT) + " ms"
			}
			return "-"
		}},
	}
	traffic = []column[overlay.PeerStatus]{
		{"RECEIVED", func(p overlay.PeerStatus) string { return bytesOf(p.RxBytes) }},
		{"SENT", func(p overlay.PeerStatus) string { return bytesOf(p.TxBytes) }},
	}
	seen = []column[overlay.PeerStatus]{{"SEEN", func(p overlay.PeerStatus) string { return a.ago(p.LastSeen) }}}
	endpoint = []column[overlay.PeerStatus]{{"ENDPOINT", func(p overlay.PeerStatus) string { return cmp.Or(p.Path.Endpoint, "-") }}}
	return
}

// ago is how long ago something was, "3 min ago".
func (a *app) ago(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return shortAge(max(0, a.now().Sub(*at))) + " ago"
}

// peerNotes are the lines below a peer.
func peerNotes(p overlay.PeerStatus, s overlay.Status, v statusView, width int) (notes [][]string) {
	if v.long {
		notes = append(notes, noteLines(strings.TrimSpace(p.ID.String()+" "+p.ULA.String()+" "+p.Path.Endpoint), width)...)
	}
	what, try := reasonWords(p, s.Address)
	if what == "" || p.Blocked { // the state says that it is blocked
		return notes
	}
	notes = append(notes, noteLines(what, width)...)
	if try != "" {
		notes = append(notes, noteLines("try: "+try, width)...)
	}
	return notes
}

// mostHeard is how many strangers are listed.
const mostHeard = 8

// printHeard lists the nodes that were heard and not added, with their whole addresses,
// since nothing less adds a peer.
func (a *app) printHeard(heard []overlay.PeerStatus) {
	whole := a.columnsOf() >= len(heard[0].Address.String())+len("  59 min ago")
	if whole {
		fmt.Fprintln(a.out, "\nHeard, not added (to add one: anode peers add ADDRESS NAME):")
	} else {
		fmt.Fprintln(a.out, "\nHeard, not added (anode whois ID shows the address):")
	}
	rest := 0
	if len(heard) > mostHeard {
		rest = len(heard) - mostHeard
		heard = heard[:mostHeard]
	}
	for _, p := range heard {
		form := p.ID.String()
		if whole {
			form = p.Address.String()
		}
		fmt.Fprintln(a.out, form+"  "+a.ago(p.LastSeen))
	}
	if rest > 0 {
		fmt.Fprintf(a.out, "and %d more; --json shows all\n", rest)
	}
}

// counterRows lists the counters that have counted something.
func counterRows(counters map[string]uint64) [][]string {
	rows := [][]string{{"COUNTER", "VALUE", "MEANING"}}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		if n := counters[name]; n > 0 {
			rows = append(rows, []string{name, strconv.FormatUint(n, 10), counterMeaning(name)})
		}
	}
	return rows
}

// statusTSV is the status for scripts: a line for each peer, raw values.
func statusTSV(s overlay.Status) [][]string {
	rows := [][]string{{"name", "address", "id", "ula", "allowed", "state", "kind", "endpoint", "rtt_ms", "rx_bytes", "tx_bytes", "last_seen", "blocked", "reason", "via", "mtu"}}
	for _, p := range s.Peers {
		rtt, seen, via, mtu := "", "", "", ""
		if p.Path.RTT > 0 {
			rtt = strconv.FormatFloat(p.Path.RTT, 'f', 3, 64)
		}
		if p.LastSeen != nil {
			seen = p.LastSeen.UTC().Format(time.RFC3339)
		}
		if p.Path.Via != nil {
			via = p.Path.Via.String()
		}
		if p.Path.MTU > 0 {
			mtu = strconv.Itoa(p.Path.MTU)
		}
		rows = append(rows, []string{p.Name, p.Address.String(), p.ID.String(), p.ULA.String(), strconv.FormatBool(p.Allowed),
			string(p.State), string(p.Path.Kind), p.Path.Endpoint, rtt,
			strconv.FormatUint(p.RxBytes, 10), strconv.FormatUint(p.TxBytes, 10), seen,
			strconv.FormatBool(p.Blocked), string(p.Reason), via, mtu})
	}
	return rows
}

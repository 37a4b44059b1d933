package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
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
		Short:   "Your peers: list, add, remove, block; who asks to be let in",
		GroupID: groupPeople,
	})
	cmd.AddCommand(a.peersList(), a.peersAdd(), a.peersRemove(), a.peersRename(), a.peersBlock(true), a.peersBlock(false), a.peersLAN(), a.endpointsCommand(),
		a.peersAsk(), a.peersRequests(), a.peersAccept(), a.peersDecline(), a.peersIntroduce(), a.peersSet())
	return cmd
}

func (a *app) peersList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List your peers; with --long, their addresses too", Args: want(0, 0),
		Long: "List your peers; with --long, their addresses too.\n\n" +
			"STATE is the connection. RELATION is what was agreed:\n" +
			"  friend      you let each other in\n" +
			"  mine        the same, and it is another machine of yours\n" +
			"  asked       you asked or accepted it; you are connected when it accepts too\n" +
			"  approved    you let it in; whether it lets you in is not known\n" +
			"  asking      it asks you: anode peers requests\n" +
			"  introduced  a peer told you of it: anode peers requests\n" +
			"  blocked     everything from it is ignored",
	}
	how := outputFlags(cmd)
	long := cmd.Flags().BoolP("long", "l", false, "show the address and the learned endpoints of each peer too")
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
		case how.json:
			return a.json(peersAnswer{schema, list})
		case how.tsv:
			a.tsv(entryTSV(list))
			return nil
		}
		if list, err = withRequests(cmd.Context(), b, list); err != nil {
			return err
		}
		if len(list) == 0 {
			fmt.Fprintln(a.out, noPeers)
			return nil
		}
		a.columns(a.entryRows(list, *long))
		return nil
	}
	return cmd
}

// withRequests adds those who wait for a decision here or there, for people: programs ask for peers
// requests.
func withRequests(ctx context.Context, b peerBook, list []entry) ([]entry, error) {
	c, ok := b.(clientBook)
	if !ok {
		return list, nil
	}
	waiting, err := c.client.Requests(ctx)
	if err != nil && !unknownRequest(err) {
		return nil, err
	}
	add := func(e control.BookEntry, r relation) {
		if !slices.ContainsFunc(list, func(x entry) bool { return x.Address == e.Address }) {
			x := entryOf(e)
			x.relation = r
			list = append(list, x)
		}
	}
	for _, r := range waiting.Requests {
		add(control.BookEntry{Address: r.Address, Name: r.As}, relation{Relation: r.State, Said: r.Name, Refused: r.Refused})
	}
	return list, nil
}

// undecided reports whether somebody waits for a decision about a peer.
func (r relation) undecided() bool {
	return r.Relation == control.StateAsking || r.Relation == control.StateIntroduced
}

// askedNote says what is waited for.
func askedNote(e entry) string {
	return askedUntil(e.Refused) + "; to withdraw your request: anode peers remove " + cmp.Or(e.Name, e.ID.String())
}

// askedUntil says when one that was asked is let in.
func askedUntil(refused bool) string {
	if refused {
		return "it " + takesNoRequests
	}
	return "you are connected when it accepts too"
}

// requestNote says how to decide.
func requestNote(e entry) string {
	text := "to decide: anode peers accept " + e.ID.String() + ", or decline"
	if said := saidWord(e.Said); said != "" {
		text = "says it is " + said + "; " + text
	}
	return text
}

// entryRows is the table of the peers in a book: as many columns as fit, and below each
// peer the endpoints that people gave. If long is set, the address and the endpoints that
// the node learned follow, each on a line of its own, to be copied.
func (a *app) entryRows(list []entry, long bool) [][]string {
	name := []column[entry]{{"NAME", func(e entry) string { return cmp.Or(e.Name, "-") }}}
	id := []column[entry]{{"ID", func(e entry) string { return e.ID.String() }}}
	state := []column[entry]{{"STATE", entryState}}
	relation := []column[entry]{{"RELATION", relationWord}}
	if !slices.ContainsFunc(list, func(e entry) bool { return e.Relation != "" }) {
		relation = nil // no daemon runs
	}
	seen := []column[entry]{{"SEEN", func(e entry) string { return a.ago(e.Seen) }}}
	ula := []column[entry]{{"ULA", func(e entry) string { return e.ULA.String() }}}
	ip4 := []column[entry]{{"IPV4", func(e entry) string { return cmp.Or(e.Alias, "-") }}}
	if !slices.ContainsFunc(list, func(e entry) bool { return e.Alias != "" }) {
		ip4 = nil // none has one, or no daemon runs
	}
	address := []column[entry]{{"ADDRESS", func(e entry) string { return e.Address.String() }}}
	type way = layout[entry]
	width := a.columnsOf()
	rows := arrange(width, list,
		way{16, slices.Concat(name, id, relation, state, seen, ula, ip4, address)},
		way{16, slices.Concat(name, id, relation, state, seen, ula, ip4)},
		way{16, slices.Concat(name, id, relation, state, seen, ip4)},
		way{12, slices.Concat(name, id, relation, state, seen)})
	full := [][]string{rows[0]}
	for i, e := range list {
		full = append(full, rows[i+1])
		if notes := givenNotes(e.Endpoints); len(notes) > 0 {
			full = append(full, noteLines(strings.Join(notes, " "), width)...)
		}
		if e.undecided() {
			full = append(full, noteLines(requestNote(e), width)...)
		}
		if e.Relation == control.StateAsked {
			full = append(full, noteLines(askedNote(e), width)...)
		}
		if e.Left {
			full = append(full, noteLines("it has removed this machine", width)...)
		}
		if e.AliasClash != "" {
			full = append(full, noteLines("IPv4 address moved: clash with "+e.AliasClash, width)...)
		}
		if long {
			full = append(full, []string{"  " + e.Address.CheckForm()})
			full = append(full, relationNotes(e.relation, width)...)
			for _, learned := range e.Learned {
				full = append(full, []string{"  " + learned.String() + " (learned)"})
			}
		}
	}
	return full
}

func entryState(e entry) string {
	if e.Blocked {
		return "blocked"
	}
	return cmp.Or(string(e.State), "-")
}

// relationWord is what was agreed with a peer. A machine of one's own is one only if both say so.
func relationWord(e entry) string {
	switch {
	case e.Blocked:
		return "blocked"
	case e.Mine && e.Relation == control.StateFriend:
		return "mine"
	}
	return cmp.Or(string(e.Relation), "-")
}

// relationNotes are what else is known of it.
func relationNotes(r relation, width int) (notes [][]string) {
	if said := saidWord(r.Said); said != "" {
		notes = append(notes, noteLines("calls itself "+said, width)...)
	}
	if len(r.Via) > 0 {
		notes = append(notes, noteLines("brought by "+info2.Clean(strings.Join(r.Via, ", ")), width)...)
	}
	return notes
}

// joined lists endpoints.
func joined[T fmt.Stringer](list []T, between string) string {
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = e.String()
	}
	return strings.Join(texts, between)
}

// entryTSV is the list for scripts.
func entryTSV(list []entry) [][]string {
	rows := [][]string{{"NAME", "ID", "ULA", "STATE", "ADDRESS", "SEEN", "ENDPOINTS", "LEARNED", "IPV4", "LAN", "RELATION"}}
	for _, e := range list {
		seen := ""
		if e.Seen != nil {
			seen = e.Seen.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{cmp.Or(e.Name, "-"), e.ID.String(), e.ULA.String(), entryState(e), e.Address.String(),
			seen, joined(e.Places(), ","), joined(e.Learned, ","), e.Alias, strconv.FormatBool(e.LAN), string(e.Relation)})
	}
	return rows
}

func (a *app) peersAdd() *cobra.Command {
	var endpoints []string
	cmd := &cobra.Command{
		Use:   "add ADDRESS [NAME]",
		Short: "Add a peer (it must add you too)",
		Long: "Add a peer (it must add you too), or change the name or the endpoints of one that\n" +
			"was added before.\n\n" +
			"ADDRESS is the whole address, 64 characters, perhaps with its check (ADDRESS-CCCC) or\n" +
			"with endpoints (ADDRESS@udp:IP:PORT@tcp:IP:PORT); or a DNS name with a TXT record anode:ADDRESS.\n" +
			"DNS can be forged: compare the address that is shown. Without a terminal, a DNS name\n" +
			"needs --yes.\n\n" + endpointForms,
		Args:              want(1, 2),
		ValidArgsFunction: a.completeHeard,
	}
	cmd.Flags().StringArrayVar(&endpoints, "endpoint", nil, "where the peer can be reached: `udp:HOST:PORT`, tcp:HOST:PORT, http://HOST/PATH or https://HOST/PATH; repeatable")
	lan := cmd.Flags().Bool("lan", false, "put it into this machine's virtual LAN too (see \"anode lan\")")
	yes := cmd.Flags().Bool("yes", false, "accept the address that DNS has for a name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkPetname(strings.Join(args[1:], "")); err != nil {
			return err
		}
		address, given, err := a.wholeWith(cmd, args[0], endpoints, *yes)
		if err != nil {
			return err
		}
		request := control.AddRequest{Address: address, Endpoints: given, LAN: *lan}
		if len(args) == 2 {
			request.Name = args[1]
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
		if c, ok := b.(clientBook); ok && added.Did == control.DidAdd {
			a.noteAsked(cmd.Context(), c, request.Address)
		}
		if *lan {
			a.noteRestart(cmd.Context())
		}
		return nil
	}
	return cmd
}

// parseEndpoints reads endpoints that people gave; what names them in the error.
func parseEndpoints(cmd *cobra.Command, what string, texts []string) (list []book.Place, err error) {
	for _, text := range texts {
		e, err := book.ParsePlace(text)
		if err != nil {
			return nil, usage(cmd, "%s: %v", what, err)
		}
		list = append(list, e)
	}
	return list, nil
}

// confirm asks whether the address that DNS has for a name is the right one, unless yes
// says so already. Where nobody can be asked, it refuses.
func (a *app) confirm(ctx context.Context, in io.Reader, address anode.Address, domain string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(in) || !a.terminal {
		return &failure{exitFailed, fmt.Sprintf("DNS can be forged: it has the address %s for %s", address, domain),
			compareID + "; if it is the same, repeat the command with --yes"}
	}
	return a.askForAddress(ctx, in, address, domain)
}

func (a *app) askForAddress(ctx context.Context, in io.Reader, address anode.Address, domain string) error {
	yes, err := a.yes(ctx, in, fmt.Sprintf("DNS has this address for %s:\n\n  %s\n  short ID %s\n\nDNS can be forged: compare it with what \"anode id\" prints on the other machine.\nIs it the same?",
		domain, address, address.ID()))
	if err == nil && !yes {
		err = &failure{exitFailed, "nothing was added", ""}
	}
	return err
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

// noteAsked says that the other side has to add this machine too, and whether it did.
func (a *app) noteAsked(ctx context.Context, b clientBook, address anode.Address) {
	relations, err := b.relations(ctx)
	switch r, known := relations[address]; {
	case err != nil || !known:
	case r.Relation == control.StateFriend:
		fmt.Fprintln(a.out, "it lets this machine in too")
	default:
		fmt.Fprintln(a.out, "it must add this machine too: it is asked, and \"anode peers list\" shows when it did")
	}
}

func (a *app) peersRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove PEER", Aliases: []string{"rm"}, Short: "Forget a peer, or withdraw a request that it has not answered", Args: want(1, 1),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args[0], func(b peerBook, peer control.Resolved) (string, error) {
				done := "removed " + labelOf(peer.Name, peer.ID)
				if isMine(cmd.Context(), b, peer.Address) {
					done += "\nanother machine of yours keeps it if people set or joined it there too: remove it there as well"
				}
				return done, b.remove(cmd.Context(), peer.Address)
			})
		},
	}
}

// isMine reports whether a peer is another machine of ours, which only a daemon knows.
func isMine(ctx context.Context, b peerBook, address anode.Address) bool {
	daemon, ok := b.(clientBook)
	if !ok {
		return false
	}
	relations, err := daemon.relations(ctx)
	return err == nil && relations[address].Mine
}

func (a *app) peersRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename PEER NAME", Short: "Change the name of a peer (\"\" removes it)", Args: want(2, 2),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPetname(args[1]); err != nil {
				return err
			}
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

// namePeer says which peer there is none of: the error of the book does not.
func namePeer(err error, peer control.Resolved) error {
	f := explain(err)
	if f.exit != exitUnknownPeer {
		return err
	}
	label := labelOf(peer.Name, peer.ID)
	if _, why, found := strings.Cut(f.message, ": it is "); found {
		return &failure{f.exit, label + " is " + why, "anode peers unblock " + cmp.Or(peer.Name, peer.ID.String())}
	}
	return &failure{f.exit, label + " is not a peer of this machine", f.try}
}

// change resolves PEER, changes it in the book, and prints what was done.
func (a *app) change(ctx context.Context, text string, f func(peerBook, control.Resolved) (done string, err error)) error {
	b, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	peer, err := a.findPeer(ctx, b, text)
	if err != nil {
		return err
	}
	done, err := f(b, peer)
	if err != nil {
		return namePeer(err, peer)
	}
	fmt.Fprintln(a.out, done)
	return nil
}

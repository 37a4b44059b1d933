package main

import (
	"cmp"
	"context"
	"fmt"
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

// askedAnswer is the JSON of peers ask.
type askedAnswer struct {
	Schema int `json:"schema"`
	control.Asked
}

// acceptedAnswer is the JSON of peers accept.
type acceptedAnswer struct {
	Schema int `json:"schema"`
	control.Accepted
}

// declinedAnswer is the JSON of peers decline.
type declinedAnswer struct {
	Schema int `json:"schema"`
	control.Request
	Blocked bool `json:"blocked"`
}

// introducedAnswer is the JSON of peers introduce.
type introducedAnswer struct {
	Schema int `json:"schema"`
	control.Introduced
}

// setAnswer is the JSON of peers set.
type setAnswer struct {
	Schema int `json:"schema"`
	control.Resolved
	Mine bool `json:"mine"`
}

// requestsAnswer is the JSON of peers requests.
type requestsAnswer struct {
	Schema int `json:"schema"`
	control.Requests
}

func (a *app) peersAsk() *cobra.Command {
	var r control.AskRequest
	var endpoints []string
	cmd := &cobra.Command{
		Use:   "ask ADDRESS",
		Short: "Ask a peer to add you; it is added here when it does",
		Long: "Ask a peer to add you. It is added here when it does, and not before.\n" +
			"\"anode peers requests\" on the other machine shows the question, and somebody there\n" +
			"decides. If the other machine cannot be reached now, it is asked when it can.\n\n" +
			"ADDRESS is the whole address, as in \"anode peers add\".\n\n" + endpointForms,
		Args:              want(1, 1),
		ValidArgsFunction: a.completeHeard,
	}
	cmd.Flags().StringVar(&r.Name, "name", "", "what the peer is called here, a `name`")
	cmd.Flags().StringVar(&r.Note, "note", "", "a `text` for the other side, such as who you are")
	cmd.Flags().StringArrayVar(&endpoints, "endpoint", nil, "where the peer can be reached: `udp:HOST:PORT`, tcp:HOST:PORT, http://HOST/PATH or https://HOST/PATH; repeatable")
	yes := cmd.Flags().Bool("yes", false, "accept the address that DNS has for a name")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkPetname(r.Name); err != nil {
			return err
		}
		if err := checkNote(cmd, r.Note); err != nil {
			return err
		}
		address, given, err := a.wholeWith(cmd, args[0], endpoints, *yes)
		if err != nil {
			return err
		}
		r.Address, r.Endpoints = address, given
		client := control.NewClient(a.socket)
		defer client.Close()
		asked, err := client.Ask(cmd.Context(), r)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.json(askedAnswer{schema, asked})
		}
		fmt.Fprintln(a.out, askedWords(asked))
		return nil
	}
	return cmd
}

// askedWords says what came of a question.
func askedWords(r control.Asked) string {
	label := labelOf(r.Name, r.Address.ID())
	switch {
	case r.State == control.StateFriend:
		return label + " lets you in"
	case r.Refused:
		return label + " " + takesNoRequests
	case r.Told:
		return "asked " + label + "; somebody there decides"
	}
	return label + " cannot be reached now; it will be asked when it can"
}

func (a *app) peersRequests() *cobra.Command {
	cmd := &cobra.Command{
		Use: "requests", Short: "List who asks, who was introduced, and who was asked", Args: want(0, 0),
		Long: "List who waits for a decision. STATE is what there is to decide:\n" +
			"  asking      it asks to be let in; you are connected when you accept\n" +
			"  introduced  a peer told both of you; you are connected when both accept\n" +
			"  asked       you asked or accepted it; you are connected when it accepts too\n\n" +
			"Names and notes are what these say themselves: anybody can claim any name. The ID cannot be\n" +
			"forged; compare it with what \"anode id\" prints on the other machine.",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		list, err := client.Requests(cmd.Context())
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(requestsAnswer{schema, list})
		case how.tsv:
			a.tsv(requestTSV(list.Requests))
		case len(list.Requests) == 0:
			fmt.Fprintln(a.out, "Nobody asks to be let in.")
		default:
			a.columns(a.requestRows(list.Requests))
			fmt.Fprintln(a.out, "\n"+decideWords(list.Requests))
		}
		return nil
	}
	return cmd
}

// decideWords are the commands that decide.
func decideWords(list []control.Request) string {
	if slices.ContainsFunc(list, func(r control.Request) bool { return r.State != control.StateAsked }) {
		return "To decide: anode peers accept ID, or anode peers decline ID"
	}
	return "Nothing to decide. To withdraw a request: anode peers decline ID"
}

// requestRows is the table of requests. Notes are below.
func (a *app) requestRows(list []control.Request) [][]string {
	type way = column[control.Request]
	state := way{"STATE", func(r control.Request) string { return string(r.State) }}
	said := way{"SAYS", func(r control.Request) string { return cmp.Or(saidWord(r.Name), "-") }}
	id := way{"ID", func(r control.Request) string { return r.Address.ID().String() }}
	since := way{"SINCE", func(r control.Request) string { return a.ago(&r.Since) }}
	via := way{"INTRODUCED BY", func(r control.Request) string { return cmp.Or(info2.Clean(r.Via), "-") }}
	// The ID is the first thing to look at, and is not cut.
	rows := arrange(a.columnsOf(), list, layout[control.Request]{16, []way{id, state, said, since, via}}, layout[control.Request]{16, []way{id, state, since, via}})
	full := [][]string{rows[0]}
	for i, r := range list {
		full = append(full, rows[i+1])
		if note := info2.Clean(r.Note); note != "" {
			full = append(full, noteLines(strconv.Quote(note), a.columnsOf())...)
		}
		if r.State == control.StateAsked {
			full = append(full, noteLines(askedHere(r), a.columnsOf())...)
		}
	}
	return full
}

// askedHere says what is waited for, and what the peer is called here.
func askedHere(r control.Request) string {
	if r.As == "" {
		return askedUntil(r.Refused)
	}
	return r.As + " here: " + askedUntil(r.Refused)
}

func requestTSV(list []control.Request) [][]string {
	rows := [][]string{{"ID", "SAYS", "STATE", "SINCE", "VIA", "NOTE", "ADDRESS", "AS"}}
	for _, r := range list {
		rows = append(rows, []string{r.Address.ID().String(), info2.Clean(r.Name), string(r.State), r.Since.UTC().Format(time.RFC3339), info2.Clean(r.Via), info2.Clean(r.Note), r.Address.String(), r.As})
	}
	return rows
}

// findRequest returns the request that a text means: by its ID, its address, its ULA, the
// beginning of one of these, the name that it gets here, or the name that it says, if no other one says the same.
func findRequest(list []control.Request, text string) (control.Request, error) {
	small := strings.ToLower(strings.TrimSpace(text))
	if small == "" {
		return control.Request{}, &failure{exitUsage, "PEER is empty: want the ID of a request", seeRequests}
	}
	if a, _, err := anode.ParseTXT(small); err == nil && !a.IsZero() {
		small = a.String()
	} else if a, err := anode.ParseAddress(small); err == nil {
		small = a.String()
	}
	var found []control.Request
	for _, r := range list {
		id := r.Address.ID().String()
		if r.As != "" && r.As == small {
			return r, nil
		}
		if strings.HasPrefix(id, small) || strings.HasPrefix(r.Address.String(), small) || r.Address.ULA().String() == small || r.Name == strings.TrimSpace(text) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return control.Request{}, &failure{exitUnknownPeer, fmt.Sprintf("nobody who asks is %q", info2.Clean(text)), seeRequests}
	}
	ids := make([]string, len(found))
	for i, r := range found {
		ids[i] = r.Address.ID().String()
	}
	return control.Request{}, &failure{exitUnknownPeer, fmt.Sprintf("%q may be any of %s", info2.Clean(text), strings.Join(ids, ", ")), "the ID; compare it with \"anode id\" on the other machine"}
}

const seeRequests = "anode peers requests"

// requestLabel is a request for people: the ID first, and the name as what it is.
func requestLabel(r control.Request) string {
	label := r.Address.ID().String()
	switch said := saidWord(r.Name); {
	case r.State == control.StateAsked:
		return labelOf(r.As, r.Address.ID())
	case said != "":
		label += ", who says " + said
	}
	return label
}

// decide finds a request, and does something about it.
func (a *app) decide(ctx context.Context, text string, f func(*control.Client, control.Request) error) error {
	client := control.NewClient(a.socket)
	defer client.Close()
	list, err := client.Requests(ctx)
	if err != nil {
		return err
	}
	r, err := findRequest(list.Requests, text)
	if err != nil {
		return decided(ctx, client, text, err)
	}
	return f(client, r)
}

// decided says that a peer is let in already, if that is why nobody who asks is called so; else it returns err.
func decided(ctx context.Context, client *control.Client, text string, err error) error {
	status, failed := client.Status(ctx)
	if failed != nil || explain(err).try != seeRequests || text == "" { // or several ask who are called so
		return err
	}
	for _, p := range status.Peers {
		if p.Allowed && slices.Contains([]string{p.Name, p.ID.String(), p.Address.String()}, strings.ToLower(text)) {
			return &failure{exitUnknownPeer, label(p) + " is let in already", "anode peers list; to take it back: anode peers remove " + cmp.Or(p.Name, p.ID.String())}
		}
	}
	return err
}

func (a *app) peersAccept() *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use: "accept PEER", Short: "Say yes to a peer that asks, or that was introduced", Args: want(1, 1),
		Long: "Let in a peer that asks. One that a peer introduced is asked in turn, and let in when it\n" +
			"accepts too: until both have, neither can reach the other. Your yes holds for 30 days;\n" +
			"\"anode peers remove\" or \"decline\" takes it back.\n\n" +
			"PEER is the ID that \"anode peers requests\" shows, its beginning, or the name that the\n" +
			"peer says or gets here, if no other one has it. Anybody can claim any name: compare the ID.",
		ValidArgsFunction: a.completeRequest,
	}
	cmd.Flags().StringVar(&as, "as", "", "what the peer is called here, a `name` (default the one that it says)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkPetname(as); err != nil {
			return err
		}
		return a.decide(cmd.Context(), args[0], func(client *control.Client, r control.Request) error {
			if name := cmp.Or(as, saidName(r.Name)); r.State != control.StateAsked || as != "" {
				b, err := client.Book(cmd.Context())
				if err != nil {
					return err
				}
				if free := freeName(name, othersNames(b, r.Address)); free != name {
					return takenError(name, "anode peers accept "+r.Address.ID().String()+" --as "+free)
				}
			}
			accepted, err := client.AcceptPeer(cmd.Context(), control.AcceptRequest{Address: r.Address, As: as})
			if err != nil {
				return err
			}
			if *asJSON {
				return a.json(acceptedAnswer{schema, accepted})
			}
			fmt.Fprintln(a.out, acceptedWords(accepted))
			return nil
		})
	}
	return cmd
}

// othersNames are the names of the peers in a book except one.
func othersNames(b control.Book, except anode.Address) (list []string) {
	for _, e := range b.Peers {
		if e.Address != except {
			list = append(list, e.Name)
		}
	}
	return list
}

func acceptedWords(r control.Accepted) string {
	label := labelOf(r.Name, r.Address.ID())
	switch r.State {
	case control.StateFriend:
		return "accepted " + label + ": you let each other in"
	case control.StateAsked:
		return askedSentence(r.Name, r.Address.ID())
	}
	return "accepted " + label
}

// askedSentence says what is waited for.
func askedSentence(name string, id anode.ID) string {
	return labelOf(name, id) + " is asked; the two of you are connected when " + cmp.Or(name, id.String()) + " accepts too"
}

func (a *app) peersDecline() *cobra.Command {
	cmd := &cobra.Command{
		Use: "decline PEER", Short: "Refuse a request or an introduction, or withdraw yours", Args: want(1, 1),
		Long: "Refuse a peer that asks. It is not told, and may ask again after a week; with --block\n" +
			"everything from it is ignored. If you asked it, or accepted an introduction, and it has\n" +
			"not answered, your request is withdrawn, and it is told.\n\n" +
			"PEER is the ID that \"anode peers requests\" shows, its beginning, or the name that the\n" +
			"peer says or gets here, if no other one has it.",
		ValidArgsFunction: a.completeRequest,
	}
	block := cmd.Flags().Bool("block", false, "ignore everything from it, including pings, until \"anode peers unblock\"")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.decide(cmd.Context(), args[0], func(client *control.Client, r control.Request) error {
			if _, err := client.Decline(cmd.Context(), control.DeclineRequest{Address: r.Address, Block: *block}); err != nil {
				return err
			}
			if *asJSON {
				return a.json(declinedAnswer{schema, r, *block})
			}
			done := "declined "
			if *block {
				done = "declined and blocked "
			}
			fmt.Fprintln(a.out, done+requestLabel(r))
			if r.State == control.StateAsked {
				fmt.Fprintln(a.out, "you had said yes to it; that is taken back")
			}
			return nil
		})
	}
	return cmd
}

// completeRequest completes the ID of a request.
func (a *app) completeRequest(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var words []cobra.Completion
	if len(args) == 0 {
		a.completing(cmd, func(ctx context.Context, client *control.Client) {
			list, err := client.Requests(ctx)
			for _, r := range list.Requests {
				if err == nil {
					words = append(words, cobra.CompletionWithDesc(r.Address.ID().String(), cmp.Or(saidWord(r.Name), "no name")))
				}
			}
		})
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) peersIntroduce() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "introduce PEER PEER", Short: "Make two of your peers known to each other", Args: want(2, 2),
		Long: "Make two of your peers known to each other. Both are told, and each decides: only when both\n" +
			"have accepted can they reach each other. Nobody else learns of it.",
		ValidArgsFunction: a.completeBoth,
	}
	cmd.Flags().StringVar(&note, "note", "", "a `text` for both")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkNote(cmd, note); err != nil {
			return err
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		var both [2]control.Resolved
		for i, text := range args {
			var err error
			if both[i], err = a.peerOf(cmd.Context(), client, text); err != nil {
				return err
			}
		}
		if both[0].Address.X() == both[1].Address.X() {
			return usage(cmd, "both are %s: want two peers", labelOf(both[0].Name, both[0].ID))
		}
		done, err := client.Introduce(cmd.Context(), control.IntroduceRequest{A: both[0].Address, B: both[1].Address, Note: note})
		if err != nil {
			return err
		}
		if *asJSON {
			done.Told, done.Wait = append([]anode.Address{}, done.Told...), append([]anode.Address{}, done.Wait...) // no null
			return a.json(introducedAnswer{schema, done})
		}
		fmt.Fprintln(a.out, introducedWords(both, done))
		return nil
	}
	return cmd
}

// introducedWords says who was told of the other.
func introducedWords(both [2]control.Resolved, done control.Introduced) string {
	var told, later []string
	for _, p := range both {
		name := cmp.Or(p.Name, p.ID.String())
		if slices.Contains(done.Told, p.Address) {
			told = append(told, name)
		} else {
			later = append(later, name)
		}
	}
	switch len(later) {
	case 0:
		return strings.Join(told, " and ") + " are told of each other; each decides"
	case 1:
		return told[0] + " is told of " + later[0] + "; " + later[0] + " cannot be reached now and will be told when it can. Each decides"
	}
	return strings.Join(later, " and ") + " cannot be reached now and will be told of each other when they can; each decides"
}

// completeBoth completes two peers.
func (a *app) completeBoth(cmd *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completePeer(min(len(args), 1))(cmd, args, text)
}

func (a *app) peersSet() *cobra.Command {
	var mine bool
	cmd := &cobra.Command{
		Use: "set PEER --mine", Short: "Say that a peer is another machine of yours (or no longer)", Args: want(1, 1),
		Long: "Say that a peer is another machine of yours; --mine=false takes that back.\n\n" +
			"When both machines say so, your machines let each other in: each is told of the others.\n" +
			"A machine that you remove where you set it is removed by the others too; one that was\n" +
			"removed here stays out. Your other peers stay as they are: \"anode peers introduce\" makes\n" +
			"one known to a machine of yours, which lets it in at once.",
		ValidArgsFunction: a.completePeer(0),
	}
	cmd.Flags().BoolVar(&mine, "mine", false, "whether it is another machine of yours")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("mine") {
			return usage(cmd, "nothing to set: want --mine or --mine=false")
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		peer, err := a.peerOf(cmd.Context(), client, args[0])
		if err != nil {
			return err
		}
		if err := client.SetMine(cmd.Context(), control.MineRequest{Address: peer.Address, Mine: mine}); err != nil {
			return namePeer(err, peer)
		}
		if *asJSON {
			return a.json(setAnswer{schema, peer, mine})
		}
		fmt.Fprintln(a.out, labelOf(peer.Name, peer.ID)+mineWords(mine))
		return nil
	}
	return cmd
}

func mineWords(mine bool) string {
	if mine {
		return " is another machine of yours; on that machine too: anode peers set PEER --mine"
	}
	return " is no longer another machine of yours"
}

// wholeWith reads ADDRESS, perhaps with endpoints behind it, as "peers add" and "peers ask" take it.
func (a *app) wholeWith(cmd *cobra.Command, text string, endpoints []string, yes bool) (address anode.Address, given []book.Place, err error) {
	text, more, followed := strings.Cut(text, "@")
	if given, err = parseEndpoints(cmd, "--endpoint", endpoints); err != nil {
		return address, nil, err
	}
	if followed {
		after, err := book.ParsePlaces(more)
		if err != nil {
			return address, nil, usage(cmd, "%s…@: %v", text[:min(len(text), 8)], err)
		}
		given = append(given, after...)
	}
	address, err = a.whole(cmd.Context(), text, func(address anode.Address, domain string) error {
		return a.confirm(cmd.Context(), cmd.InOrStdin(), address, domain, yes)
	})
	return address, given, err
}

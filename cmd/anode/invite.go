package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"anodenet/anode/invite"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// Bounds and defaults of an invitation.
const (
	maxUses    = 1000
	maxSpan    = 30 * day
	usualSpan  = day
	shownID    = 8 // digits of an invitation's ID in tables; any beginning means it
	maxSaidLen = 40
)

// inviteAnswer is the JSON of invite.
type inviteAnswer struct {
	Schema int `json:"schema"`
	control.Invited
	QR string `json:"qr,omitempty"` // the text of the QR code, with --qr
}

// invitesAnswer is the JSON of invite list.
type invitesAnswer struct {
	Schema int `json:"schema"`
	control.Invitations
}

// revokeAnswer is the JSON of invite revoke.
type revokeAnswer struct {
	Schema int `json:"schema"`
	control.Invitation
}

func (a *app) inviteCommand() *cobra.Command {
	r := control.InviteRequest{}
	lasts := usualSpan
	cmd := &cobra.Command{
		Use:   "invite [NAME]",
		Short: "Let somebody in by a link, or list or revoke such links",
		Long: "Make a link that lets somebody in. On the other machine, anode join asks for it: both\n" +
			"machines have added each other then, and find each other by name.\n\n" +
			"NAME is what the guest is called here; without it, what the guest calls itself.\n\n" +
			"Whoever has the link can use it, so send it to one person alone. By default it works once,\n" +
			"for 24 hours. If somebody else was faster, the guest is told that it was used, and\n" +
			"\"anode invite list\" shows who came. The link has a check: a mistyped one is noticed.\n\n" +
			"The link alone goes to the standard output, explanations go to the standard error.",
		GroupID:           groupPeople,
		Args:              want(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().IntVar(&r.Uses, "uses", 1, fmt.Sprintf("how many guests it lets in, `N` of 1 to %d", maxUses))
	spanVar(cmd.Flags(), &lasts, "for", "the `time` that it works, such as 30m, 24h or 7d; at most 30d")
	cmd.Flags().BoolVar(&r.Mine, "mine", false, "the guest is another machine of yours: it and your others let each other in")
	cmd.Flags().BoolVar(&r.Card, "card", false, "a business card: who has the link can ask to be let in, and no more")
	showQR := cmd.Flags().Bool("qr", false, "show the link as a QR code too")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkInvite(cmd, r, lasts); err != nil {
			return err
		}
		r.Seconds = int64(lasts / time.Second)
		if len(args) == 1 {
			r.Name = args[0]
		}
		if err := checkPetname(r.Name); err != nil {
			return err
		}
		return a.invite(cmd.Context(), r, *showQR, *asJSON)
	}
	cmd.AddCommand(a.inviteList(), a.inviteRevoke())
	return cmd
}

func checkInvite(cmd *cobra.Command, r control.InviteRequest, lasts time.Duration) error {
	switch {
	case r.Uses < 1 || r.Uses > maxUses:
		return usage(cmd, "--uses %d: want 1 to %d", r.Uses, maxUses)
	case lasts < time.Second || lasts > maxSpan:
		return usage(cmd, "--for: want a time of 1s to 30d, such as 30m, 24h or 7d")
	case r.Card && (cmd.Flags().Changed("uses") || r.Mine):
		return usage(cmd, "--card: a business card lets nobody in, so --uses and --mine mean nothing")
	}
	return nil
}

// invite issues an invitation, and prints it.
func (a *app) invite(ctx context.Context, r control.InviteRequest, showQR, asJSON bool) error {
	client := control.NewClient(a.socket)
	defer client.Close()
	issued, err := client.Invite(ctx, r)
	if err != nil {
		return inviteFailure(err, r.Name)
	}
	link, err := invite.Parse(issued.Link)
	if err != nil {
		return fmt.Errorf("the daemon's link: %w", err)
	}
	if asJSON {
		answer := inviteAnswer{Schema: schema, Invited: issued}
		answer.Guests, answer.Late = append([]control.Guest{}, issued.Guests...), append([]control.Guest{}, issued.Late...) // a card has null
		if showQR {
			answer.QR = link.QR()
		}
		return a.json(answer)
	}
	fmt.Fprintln(a.out, issued.Link)
	if a.terminal {
		fmt.Fprintln(a.err) // the link takes several lines
	}
	for _, line := range a.inviteWords(issued, r.Card) {
		fmt.Fprintln(a.err, line)
	}
	a.noteUnusual(ctx, client, r.Name, func(near string) string { return "anode invite " + near })
	if showQR {
		return a.printQR(link)
	}
	return nil
}

// inviteWords explains a new invitation, in lines of usual width.
func (a *app) inviteWords(i control.Invited, card bool) []string {
	first := "A business card: who has it can ask to be let in, and you decide."
	last := "To decide:   anode peers requests"
	if !card {
		uses := "One use"
		if i.Of > 1 {
			uses = strconv.Itoa(i.Of) + " uses"
		}
		first = fmt.Sprintf("%s, until %s. Whoever has the link gets in.", uses, a.dayTime(i.Expires))
		last = "To end it:   anode invite revoke " + i.ID[:min(shownID, len(i.ID))]
	}
	return append([]string{
		first,
		"There:       sudo anode up                  and leave it running",
		"             sudo anode join                in another terminal; paste the link",
		"No anode?    " + installWords(os.Executable()),
		last,
	}, reachWords(i.Reachable)...)
}

// installWords says how Anode gets to another machine.
func installWords(program string, err error) string {
	if err != nil {
		program = "this program"
	}
	return fmt.Sprintf("Copy %s there: it is one file (%s, %s).", program, runtime.GOOS, runtime.GOARCH)
}

// reachWords warns if guests from elsewhere cannot come.
func reachWords(how string) []string {
	text := "nobody can use the link now: this machine cannot be reached from anywhere"
	switch how {
	case "direct", "relay":
		return nil
	case "lan":
		text = "the link works in this LAN only: nobody outside can reach this machine"
	}
	return []string{"warning: " + text, "try: forward a UDP port of the router, or use a relay; anode netcheck tells more"}
}

// dayTime is a time for people, as it is on this machine's clock: "today 14:05", "tomorrow 14:05",
// "Thu 3 Dec 14:05".
func (a *app) dayTime(t time.Time) string {
	now := a.now()
	t = t.In(now.Location())
	clock := t.Format("15:04")
	for days, word := range map[int]string{-1: "yesterday", 0: "today", 1: "tomorrow"} {
		if d := now.AddDate(0, 0, days); d.Year() == t.Year() && d.YearDay() == t.YearDay() {
			return word + " " + clock
		}
	}
	if t.Year() == now.Year() || t.Sub(now).Abs() < 180*day {
		return t.Format("Mon 2 Jan ") + clock
	}
	return t.Format("2 Jan 2006 ") + clock
}

func (a *app) inviteList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the links that are not over, and who came by them", Args: want(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		list, err := client.Invitations(cmd.Context())
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(invitesAnswer{schema, list})
		case how.tsv:
			a.tsv(inviteTSV(list.Invitations))
		case len(list.Invitations) == 0:
			fmt.Fprintln(a.out, "No invitations. Make one: anode invite [NAME]")
		default:
			a.columns(a.inviteRows(list.Invitations))
		}
		return nil
	}
	return cmd
}

// inviteRows is the table of invitations. Who came is below each.
func (a *app) inviteRows(list []control.Invitation) [][]string {
	rows := arrange(a.columnsOf(), list, layout[control.Invitation]{8, []column[control.Invitation]{
		{"NAME", func(i control.Invitation) string { return cmp.Or(i.Name, "-") }},
		{"ID", func(i control.Invitation) string { return i.ID[:min(shownID, len(i.ID))] }},
		{"LEFT", func(i control.Invitation) string { return fmt.Sprintf("%d of %d", i.Uses, i.Of) }},
		{"UNTIL", func(i control.Invitation) string { return a.dayTime(i.Expires) }},
		{"MINE", func(i control.Invitation) string { return mineWord(i.Mine) }},
	}})
	full := [][]string{rows[0]}
	for n, i := range list {
		full = append(full, rows[n+1])
		for _, g := range i.Guests {
			full = append(full, noteLines("used by "+a.guestWords(g), a.columnsOf())...)
		}
		for _, g := range i.Late {
			full = append(full, noteLines("used up; then somebody else came: was the link stolen?", a.columnsOf())...)
			full = append(full, noteLines("it was "+a.guestWords(g), a.columnsOf())...)
		}
	}
	return full
}

func mineWord(mine bool) string {
	if mine {
		return "yes"
	}
	return "-"
}

// guestWords is who came, when, and from where.
func (a *app) guestWords(g control.Guest) string {
	text := g.Address.ID().String()
	if said := saidWord(g.Name); said != "" {
		text += " " + said
	}
	text += " " + a.dayTime(g.At)
	if g.Endpoint != "" {
		text += " from " + info2.Clean(g.Endpoint)
	}
	return text
}

// saidWord is a name that somebody gives itself, in quotes and cut: anybody can claim any name.
func saidWord(name string) string {
	if name = info2.Clean(name); name == "" {
		return ""
	}
	return strconv.Quote(cut(name, maxSaidLen))
}

func inviteTSV(list []control.Invitation) [][]string {
	rows := [][]string{{"ID", "NAME", "USES", "OF", "EXPIRES", "CREATED", "MINE", "GUESTS", "LATE"}}
	for _, i := range list {
		rows = append(rows, []string{i.ID, cmp.Or(i.Name, "-"), strconv.Itoa(i.Uses), strconv.Itoa(i.Of), i.Expires.UTC().Format(time.RFC3339),
			i.Created.UTC().Format(time.RFC3339), strconv.FormatBool(i.Mine), guestIDs(i.Guests), guestIDs(i.Late)})
	}
	return rows
}

func guestIDs(list []control.Guest) string {
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i] = g.Address.ID().String()
	}
	return strings.Join(ids, ",")
}

func (a *app) inviteRevoke() *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "End a link; who came by it stays", Args: want(1, 1),
		Long: "End a link. Guests that it let in before stay peers.\n\n" +
			"ID is that of \"anode invite list\", or its beginning.",
		ValidArgsFunction: a.completeInvite,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id := strings.ToLower(args[0])
		if _, err := strconv.ParseUint(id, 16, 64); err != nil || len(id) > 16 {
			return &failure{exitUsage, fmt.Sprintf("not the ID of an invitation: %q", args[0]), "anode invite list"}
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		gone, err := client.Revoke(cmd.Context(), control.RevokeRequest{ID: id})
		if err != nil {
			return err
		}
		if *asJSON {
			return a.json(revokeAnswer{schema, gone})
		}
		fmt.Fprintln(a.out, revokedWords(gone))
		return nil
	}
	return cmd
}

func revokedWords(i control.Invitation) string {
	text := "revoked " + i.ID[:min(shownID, len(i.ID))]
	if i.Name != "" {
		text += ", for " + i.Name
	}
	if n := len(i.Guests); n > 0 {
		text += "; " + plural(n, "guest that it let in stays", "guests that it let in stay") + ": anode peers list"
	}
	return text
}

// completeInvite completes the ID of an invitation.
func (a *app) completeInvite(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []cobra.Completion
	a.completing(cmd, func(ctx context.Context, client *control.Client) {
		list, err := client.Invitations(ctx)
		for _, i := range list.Invitations {
			if err == nil {
				words = append(words, cobra.CompletionWithDesc(i.ID, cmp.Or(i.Name, "no name")+", until "+a.dayTime(i.Expires)))
			}
		}
	})
	return words, cobra.ShellCompDirectiveNoFileComp
}

const day = 24 * time.Hour

// span is a time that people give in days, hours or minutes.
type span time.Duration

const spanType = "span"

var errSpan = errors.New("not a time")

// spanVar adds a flag for a time such as 30m, 24h, 7d or 1d12h; *p is the default.
func spanVar(flags *pflag.FlagSet, p *time.Duration, name, usage string) {
	flags.Var((*span)(p), name, usage)
}

func (s *span) Type() string { return spanType }

// String returns days if there are several whole ones, else hours or what is smaller.
func (s *span) String() string {
	d := time.Duration(*s)
	switch {
	case d > day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// Set takes a time with a unit. A number alone could be of anything.
func (s *span) Set(text string) error {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 16)
	var d time.Duration
	if err == nil && (rest != "" || !found) {
		d, err = time.ParseDuration(rest)
	}
	if err != nil || d < 0 {
		return fmt.Errorf("%w: %q", errSpan, text)
	}
	*s = span(time.Duration(n)*day + d)
	return nil
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/platform"
)

// namesAnswer is the JSON of dns.
type namesAnswer struct {
	Schema int `json:"schema"`
	control.NamesView
	Programs *finding `json:"programs"` // whether they find peers by name, as in doctor; null: it was not tried
}

func (a *app) dnsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dns",
		Short: "Show how other programs find peers by name",
		Long: "Show how other programs find peers by name.\n\n" +
			"Each peer that has a name here is NAME.anode.internal for all programs of this machine, and\n" +
			"for nobody else: the daemon answers DNS for these names on this machine's ULA, and tells the\n" +
			"system's resolver to ask there, if it can. \"self\" is this machine, ID.id a peer by its short\n" +
			"ID, and labels in front change nothing: git.north.anode.internal is north. All names have an\n" +
			"IPv6 address alone; v4.NAME has the IPv4 address, if there is one.",
		GroupID: groupPeople,
	}
	asJSON := jsonFlag(cmd)
	show := func(cmd *cobra.Command, _ []string) error { return a.showNames(cmd.Context(), *asJSON) }
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownVerb(cmd, args[0])
		}
		return show(cmd, args)
	}
	status := &cobra.Command{Use: "status", Short: "Show the same", Args: want(0, 0)}
	statusJSON := jsonFlag(status)
	status.RunE = func(cmd *cobra.Command, _ []string) error { return a.showNames(cmd.Context(), *statusJSON) }
	cmd.AddCommand(status, a.dnsQuery(), a.dnsInstructions())
	return cmd
}

// names asks the daemon how programs find peers by name.
func (a *app) names(ctx context.Context) (control.NamesView, error) {
	client := control.NewClient(a.socket)
	defer client.Close()
	return client.Names(ctx)
}

func (a *app) showNames(ctx context.Context, asJSON bool) error {
	v, err := a.names(ctx)
	if err != nil {
		return err
	}
	f := a.tryNames(ctx, v)
	if asJSON {
		return a.json(namesAnswer{schema, v, f})
	}
	a.pairs(namesPairs(v, f)...)
	return nil
}

// tryNames looks this machine's own name up as programs do; nil: that says nothing here, or it is known
// that they ask the servers of the network, which are not to hear of our names.
func (a *app) tryNames(ctx context.Context, v control.NamesView) *finding {
	if v.Server == nil || !mayFind(v.Resolver) || newMachineFacts().holder(ctx, a.socket).elsewhere {
		return nil
	}
	f := lookUpSelf(ctx, v.Suffix, *v.Server)
	f.why, f.try = v.Resolver.Why, v.Resolver.Try
	return &judgeNames(f)[0]
}

// mayFind reports whether programs may find peers: a resolver of this machine was told, by the daemon or by hand.
func mayFind(r control.NamesResolver) bool {
	switch {
	case r.Applied:
		return true
	case r.Instructions == platform.PagePlain:
		return false
	case r.Manager == platform.ManagerResolved, r.Manager == platform.ManagerNetworkd:
		return r.Instructions == platform.PageDelegate
	}
	return true
}

// namesPairs is the status for people. tried is what came of a look-up; nil: there was none.
func namesPairs(v control.NamesView, tried *finding) (list [][2]string) {
	add := func(name, value string) { list = append(list, [2]string{name, value}) }
	add("suffix", v.Suffix)
	if v.Off != "" {
		add("server", "off: "+v.Off)
		return list
	}
	switch {
	case v.Server == nil:
		add("server", "none: "+oneLine(v.Problem)+"; it will be retried")
		add("try", v.Try)
	case v.Problem != "":
		add("server", fmt.Sprintf("%s (%s)", v.Server, oneLine(v.Problem)))
	default:
		add("server", v.Server.String())
	}
	add("names", fmt.Sprintf("%s, and self", count(v.Names, "peer")))
	if v.Services > 0 {
		add("services", fmt.Sprintf("%s of this machine, for friends", count(v.Services, "service")))
	}
	finds := tried != nil && tried.Code == codeNames
	add("resolver", resolverWords(v.Resolver, finds))
	if v.Resolver.Error != "" && v.Resolver.Why == "" && !v.Resolver.Applied { // Why says the same for people
		add("error", oneLine(v.Resolver.Error))
	}
	switch {
	case finds:
		add("programs", "find peers by name")
	case !v.Resolver.Applied:
		for line := range strings.SplitSeq(cmp.Or(v.Resolver.Try, "anode dns instructions"), "\n") {
			add("try", line)
		}
	case tried != nil:
		add("programs", strings.TrimPrefix(tried.Says, "programs "))
		add("try", tried.Try)
	}
	search := "no: programs write " + v.Suffix + " behind the name"
	if v.Search {
		search = "yes: programs may leave " + v.Suffix + " out"
	}
	add("search", search)
	for _, d := range v.Domains {
		add("domain", d)
	}
	return list
}

// resolverWords says whether the system's resolver asks for the names. finds is whether programs find one.
func resolverWords(r control.NamesResolver, finds bool) string {
	switch {
	case r.Applied:
		return r.Manager + " asks for these names here"
	case finds:
		return "asks for these names here, as it was set up by hand"
	case r.Why != "":
		return r.Manager + ", not told: " + oneLine(r.Why)
	}
	return r.Manager + ", not told yet"
}

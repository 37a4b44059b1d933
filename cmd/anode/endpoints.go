package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
)

// endpointsAnswer is the JSON of peers endpoints.
type endpointsAnswer struct {
	Schema  int           `json:"schema"`
	Address anode.Address `json:"address"`
	Name    string        `json:"name"`
	control.Endpoints
}

func (a *app) endpointsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoints PEER",
		Short: "List where a peer may be found; add or remove endpoints",
		Long: "List where a peer may be found: the endpoints that people gave, and those that the\n" +
			"node learned. The node learns an endpoint each time that it meets the peer.\n\n" +
			endpointForms,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	how := outputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		peer, list, err := a.changeEndpoints(cmd, args[0], control.EndpointsRequest{})
		switch {
		case err != nil:
			return err
		case how.json:
			return a.json(endpointsAnswer{schema, peer.Address, peer.Name, list})
		case how.tsv:
			a.tsv(endpointRows(list))
		case len(list.Given)+len(list.Hosts)+len(list.Learned) == 0:
			fmt.Fprintf(a.out, "None is known. To add one: anode peers endpoints add %s udp:IP:PORT\n", cmp.Or(peer.Name, peer.ID.String()))
		default:
			a.columns(endpointRows(list))
		}
		return nil
	}
	cmd.AddCommand(a.endpointsVerb("add", "Add endpoints of a peer"), a.endpointsVerb("remove", "Remove endpoints of a peer", "rm"))
	return cmd
}

// endpointForms is how endpoints are written, for the help.
const endpointForms = "An endpoint is udp:IP:PORT, or udp:NAME:PORT with the name of a machine. While the\n" +
	"daemon runs, it looks the name up, and again when the peer cannot be reached. Where\n" +
	"the network lets no UDP through: tcp:IP:PORT, tcp:NAME:PORT, or the URL of a machine\n" +
	"with a web server in front, such as https://home.example.org/path. An IPv6 address\n" +
	"stands in brackets: tcp:[2001:db8::1]:443."

func endpointRows(list control.Endpoints) [][]string {
	rows := [][]string{{"ENDPOINT", "ORIGIN"}}
	for _, e := range list.Given {
		rows = append(rows, []string{e.String(), "given"})
	}
	for _, h := range list.Hosts {
		rows = append(rows, []string{h.Endpoint.String(), strings.Join(slices.Concat([]string{"given"}, hostFault(h)), ", ")})
		for _, ip := range h.Addresses {
			rows = append(rows, []string{h.Endpoint.At(ip).String(), "address of " + h.Endpoint.Name})
		}
	}
	for _, e := range list.Learned {
		rows = append(rows, []string{e.String(), "learned"})
	}
	return rows
}

// hostFault says in a few words what is wrong with a host name; nothing if it is found.
func hostFault(h control.Host) []string {
	switch h.State {
	case control.HostFound, control.HostUnknown:
		return nil
	case control.HostAsking:
		return []string{"not looked up yet"}
	}
	return []string{h.Problem}
}

// givenNotes lists the endpoints that people gave, and what is wrong with host names.
func givenNotes(list control.Endpoints) (notes []string) {
	for _, e := range list.Given {
		notes = append(notes, e.String())
	}
	for _, h := range list.Hosts {
		note := h.Endpoint.String()
		if fault := hostFault(h); fault != nil {
			note += " (" + strings.Join(fault, "") + ")"
		}
		notes = append(notes, note)
	}
	return notes
}

// endpointsVerb is the verb that adds or removes.
func (a *app) endpointsVerb(verb, short string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " PEER ENDPOINT...", Aliases: aliases, Short: short,
		Args:              want(2, 2+maxEndpoints),
		ValidArgsFunction: a.completePeer(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := parseEndpoints(cmd, "endpoint", args[1:])
			if err != nil {
				return err
			}
			request, done := control.EndpointsRequest{Add: list}, "added"
			if verb == "remove" {
				request, done = control.EndpointsRequest{Remove: list}, "removed"
			}
			peer, _, err := a.changeEndpoints(cmd, args[0], request)
			if err == nil {
				fmt.Fprintf(a.out, "%s %s of %s\n", done, joined(list, ", "), labelOf(peer.Name, peer.ID))
			}
			return err
		},
	}
}

// maxEndpoints is more than one command line has any use for.
const maxEndpoints = 32

// changeEndpoints makes a request about the peer that a text means.
func (a *app) changeEndpoints(cmd *cobra.Command, text string, r control.EndpointsRequest) (peer control.Resolved, list control.Endpoints, err error) {
	b, err := a.open(cmd.Context())
	if err != nil {
		return peer, list, err
	}
	defer b.close()
	if peer, err = a.findPeer(cmd.Context(), b, text); err != nil {
		return peer, list, err
	}
	r.Address = peer.Address
	if list, err = b.endpoints(cmd.Context(), r); err != nil {
		return peer, list, namePeer(err, peer)
	}
	return peer, list, nil
}

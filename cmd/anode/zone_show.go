package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/anode/zone"
)

// zoneAnswer is the JSON of zone show.
type zoneAnswer struct {
	Schema      int         `json:"schema"`
	Zone        anode.Zone  `json:"zone"`
	Source      string      `json:"source"` // the URI that the file came from
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Contact     string      `json:"contact"`
	Revision    uint64      `json:"revision"`
	TTL         int64       `json:"ttl_s"`
	Relays      []zoneRelay `json:"relays"`
	Own         *int        `json:"own_relay"` // the index of this machine's; null: none, or it is in another zone
	Problems    []string    `json:"problems"`
}

// zoneRelay is one relay of a zone file.
type zoneRelay struct {
	Index     int             `json:"index"`
	Endpoints []string        `json:"endpoints"`
	Addresses []anode.Address `json:"addresses"`
	Error     string          `json:"error"` // why it cannot be used; empty: it can
}

func (a *app) zoneShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [ZONE]",
		Short: "Fetch the file of a zone, usually one's own, and show it",
		Args:  want(0, 1),
	}
	asJSON := jsonFlag(cmd)
	raw := cmd.Flags().Bool("raw", false, "print the file as it is")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *asJSON && *raw {
			return usage(cmd, "--json, --raw: only one of them can be used")
		}
		z, err := a.zoneArgument(cmd, args)
		if err != nil {
			return err
		}
		c, err := fetchZone(cmd.Context(), z)
		if err != nil {
			return err
		}
		if *raw {
			_, err := a.out.Write(c.File.Bytes())
			return err
		}
		self, err := a.self(cmd.Context())
		if err != nil {
			self = anode.Address{} // a stranger may look, too
		}
		answer := answerZone(z, c, self)
		if *asJSON {
			return a.json(answer)
		}
		a.printZone(answer, c.File, self)
		return nil
	}
	return cmd
}

// answerZone describes a zone file, and which of its relays is that of an address.
func answerZone(z anode.Zone, c zone.Copy, self anode.Address) zoneAnswer {
	f := c.File
	answer := zoneAnswer{Schema: schema, Zone: z, Source: c.Source, Name: f.Name(), Revision: f.Revision(),
		TTL: int64(f.TTL() / time.Second), Relays: []zoneRelay{}, Problems: []string{}}
	answer.Description, _ = f.Get("d")
	answer.Contact, _ = f.Get("c")
	for i := range f.Relays() {
		answer.Relays = append(answer.Relays, relayOf(f, i))
	}
	if n := f.Relays(); n > 0 && !self.IsZero() && self.Zone() == z {
		answer.Own = new(int(self.Sum() % uint32(n)))
	}
	for _, p := range f.Problems() {
		answer.Problems = append(answer.Problems, p.Error())
	}
	return answer
}

func relayOf(f *zone.File, i int) zoneRelay {
	v := zoneRelay{Index: i, Endpoints: []string{}, Addresses: []anode.Address{}}
	r, err := f.Relay(uint32(i))
	if err != nil {
		v.Error = relayProblem(err)
		return v
	}
	v.Addresses = append(v.Addresses, r.Addresses...)
	for _, e := range r.Endpoints() {
		v.Endpoints = append(v.Endpoints, e.String())
	}
	return v
}

// relayProblem says why a relay cannot be used.
func relayProblem(err error) string {
	if errors.Is(err, zone.ErrNoRelay) {
		return "it is missing"
	}
	return err.Error()
}

// printZone prints a zone file for people.
func (a *app) printZone(z zoneAnswer, f *zone.File, self anode.Address) {
	a.aligned(
		[2]string{"zone", fmt.Sprintf("%s (%s)", zone.Label(z.Zone), z.Zone)},
		[2]string{"name", printable(z.Name)},
		[2]string{"about", printable(z.Description)},
		[2]string{"contact", printable(z.Contact)},
		[2]string{"revision", strconv.FormatUint(z.Revision, 10)},
		[2]string{"look again", "after " + age(f.TTL())},
		[2]string{"from", z.Source},
	)
	if len(z.Problems) > 0 {
		fmt.Fprintf(a.out, "warning: the file has mistakes (%d): anode zone check %s\n", len(z.Problems), zone.Label(z.Zone))
	}
	fmt.Fprintln(a.out)
	if len(z.Relays) == 0 {
		fmt.Fprintln(a.out, "The zone has no relay.")
		return
	}
	rows := [][]string{{"RELAY", "ID", "ENDPOINTS", ""}}
	for _, r := range z.Relays {
		rows = append(rows, []string{fmt.Sprintf("zr.%x", r.Index), relayIDs(r), relayEndpoints(r), relayNote(z, r, self)})
	}
	a.columns(rows)
}

func relayIDs(r zoneRelay) string {
	list := make([]string, len(r.Addresses))
	for i, a := range r.Addresses {
		list[i] = a.ID().String()
	}
	return dash(strings.Join(list, ","))
}

func relayEndpoints(r zoneRelay) string {
	if r.Error != "" {
		return "cannot be used: " + printable(r.Error)
	}
	return dash(strings.Join(r.Endpoints, " "))
}

// relayNote says what a relay is to this machine.
func relayNote(z zoneAnswer, r zoneRelay, self anode.Address) string {
	for _, a := range r.Addresses {
		if a == self {
			return "this machine"
		}
	}
	if z.Own != nil && *z.Own == r.Index {
		return "this machine's relay"
	}
	return ""
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable returns a text of somebody else's without what a terminal would take for a
// command.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

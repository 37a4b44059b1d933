package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/daemon"
)

func (a *app) zoneCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "zone",
		Short:   "Zones: machines that find each other through relays of their own",
		GroupID: groupOther,
		Long: "A zone is a group of machines that find each other through relays of their own. Its zone\n" +
			"file, a text on a web server, names the relays. ZONE is the IPv4 address of that web\n" +
			"server, or 8 hex digits.\n\n" +
			"With one machine that has a public address a.b.c.d, all it takes is\n\n" +
			"  there:            anode up --relay --zone a.b.c.d\n" +
			"  everywhere else:  anode up --zone a.b.c.d\n\n" +
			"\"show\" and \"join\" are of use in any zone, the others for zones whose file a person wrote.",
	})
	cmd.AddCommand(a.zoneShowCommand(), a.zoneCheckCommand(), a.zoneInitCommand(), a.zoneServeCommand(), a.zoneJoinCommand())
	return cmd
}

// zoneArgument reads ZONE; without one, it is the zone of this machine.
func (a *app) zoneArgument(cmd *cobra.Command, args []string) (anode.Zone, error) {
	if len(args) == 0 {
		self, err := a.self(cmd.Context())
		if err == nil && self.Zone() == 0 {
			err = &failure{exitUsage, "this machine is in zone 0, the local network, which has no zone file", "anode zone show ZONE; " + joinWords}
		}
		return self.Zone(), err
	}
	z, err := zone.ParseName(args[0])
	if err != nil {
		return 0, zoneUsage(cmd, "ZONE", err)
	}
	if z == 0 {
		return 0, usage(cmd, "%v", zone.ErrLocal)
	}
	return z, nil
}

// joinWords say how a machine gets into a zone, and what that costs.
const joinWords = "or anode zone join ZONE, which gives this machine an address in a zone: its ULA and short ID change, and everybody who added the old address has to add the new one"

// zoneUsage is the error of a zone on the command line that is none.
func zoneUsage(cmd *cobra.Command, what string, err error) error {
	problem, try, ok := strings.Cut(err.Error(), "; try: ")
	if !ok {
		return usage(cmd, "%s: %s", what, problem)
	}
	return &failure{exitUsage, what + ": " + problem, try}
}

// warnZone says who cannot use a zone.
func (a *app) warnZone(z anode.Zone) {
	if text := zone.Caveat(z); text != "" {
		fmt.Fprintf(a.err, "anode: warning: %s\n", text)
	}
}

// fetchZone gets a zone's file from the web.
func fetchZone(ctx context.Context, z anode.Zone) (zone.Copy, error) {
	c, err := zone.Fetch(ctx, zone.NewClient(zone.Named(z)), z, zone.Copy{})
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	return c, unfetched(z, err)
}

// unfetched says why a zone's file cannot be fetched, a line for each reason.
func unfetched(z anode.Zone, err error) error {
	label := zone.Label(z)
	f := &failure{exitUnreachable, fmt.Sprintf("zone %s: no zone file: %v", label, err),
		"on the machine with the zone's address: anode up --relay --zone " + label + ", and TCP port 80 open in its firewall"}
	var places *zone.FetchError
	if !errors.As(err, &places) {
		return f
	}
	if list := places.Reasons(); len(list) > 1 {
		f.message = strings.Join(append([]string{"zone " + label + ": no zone file"}, list...), "\n")
	}
	switch _, usable := zone.IP(z); {
	case !usable:
		f.try = "another ZONE: " + zone.Caveat(z)
	case errors.Is(err, zone.ErrPage), errors.Is(err, zone.ErrPortal):
		f.try = "a browser, to log in to this network"
	case places.NoIPv4():
		f.try = "a network with IPv4 or NAT64"
	}
	return f
}

func (a *app) zoneCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE|ZONE",
		Short: "Report everything that is wrong with a zone file, by lines",
		Args:  want(1, 1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		where, f, err := a.zoneFile(cmd, args[0])
		if err != nil {
			return err
		}
		if err := f.Usable(); err != nil {
			return &failure{exitFailed, printable(where + ": " + err.Error()), "anode zone init -, which prints a good one"}
		}
		if list := f.Problems(); len(list) > 0 {
			lines := make([]string, len(list))
			for i, p := range list {
				lines[i] = printable(zoneProblem(where, p))
			}
			return &failure{exitFailed, strings.Join(lines, "\n"), "anode zone init -, which prints a good one"}
		}
		fmt.Fprintf(a.out, "%s: fine: %q, revision %d, %s\n", where, f.Name(), f.Revision(), number(f.Relays(), "relay"))
		return nil
	}
	return cmd
}

// zoneProblem is a problem with its place, as compilers write it.
func zoneProblem(where string, p *zone.Problem) string {
	if p.Line == 0 {
		return where + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", where, p.Line, p.Text)
}

// zoneFile reads the file that a text names, or fetches that of a zone.
func (a *app) zoneFile(cmd *cobra.Command, text string) (where string, f *zone.File, err error) {
	if text == "" {
		return "", nil, usage(cmd, "FILE is empty")
	}
	f, err = readZone(text)
	if !errors.Is(err, fs.ErrNotExist) || strings.ContainsRune(text, filepath.Separator) {
		return text, f, err
	}
	z, nerr := zone.ParseName(text)
	if nerr != nil || z == 0 {
		return text, nil, err
	}
	c, err := fetchZone(cmd.Context(), z)
	return c.Source, c.File, err
}

// readZone reads a zone file.
func readZone(path string) (*zone.File, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	b, err := io.ReadAll(io.LimitReader(h, zone.MaxSize+1)) // it may be a device
	if err != nil {
		return nil, err
	}
	f, err := zone.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// joinAnswer is the JSON of zone join.
type joinAnswer struct {
	Schema  int           `json:"schema"`
	Address anode.Address `json:"address"`
	ID      anode.ID      `json:"id"`
	ULA     anode.ULA     `json:"ula"`
	Zone    anode.Zone    `json:"zone"`
	Before  string        `json:"before"` // the earlier address; empty: none, or the same
	Kept    string        `json:"kept"`   // the file with the earlier identity; empty: none
}

func (a *app) zoneJoinCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join ZONE",
		Short: "Give this machine its address in a zone; the daemon must not run",
		Long: "Give this machine its address in a zone. An address belongs to one zone: this machine gets\n" +
			"a new one, of the same key, so its ULA and short ID change, and everybody who added the old\n" +
			"address has to add the new one. The peers that this machine added stay.\n\n" +
			"The old identity is kept in a file beside the new one. To go back, join the old zone: a key\n" +
			"has one address in each zone. No daemon may use the state directory meanwhile.",
		Args: want(1, 1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		z, err := zone.ParseName(args[0])
		if err != nil {
			return zoneUsage(cmd, "ZONE", err)
		}
		if a.state == daemon.NoState {
			return &failure{exitUsage, "--state none keeps no address", "--state DIR; or anode up --state none --zone " + args[0]}
		}
		var j daemon.Joined
		if failed := asKeeper(a.state, func() { j, err = daemon.JoinZone(a.state, z) }); failed != nil {
			return failed
		}
		if err != nil {
			return err
		}
		if *asJSON {
			answer := joinAnswer{Schema: schema, Address: j.After, ID: j.After.ID(), ULA: j.After.ULA(), Zone: z, Kept: j.Kept}
			if !j.Before.IsZero() && j.Before != j.After {
				answer.Before = j.Before.String()
			}
			return a.json(answer)
		}
		a.warnZone(z)
		a.tellJoined(j)
		return nil
	}
	return cmd
}

// tellJoined says what a new address means.
func (a *app) tellJoined(j daemon.Joined) {
	label := zone.Label(j.After.Zone())
	switch {
	case j.Before == j.After:
		fmt.Fprintf(a.out, "this machine is in zone %s already\n", label)
		return
	case j.Before.IsZero():
		a.sayMade(a.state)
	}
	fmt.Fprintf(a.out, "this machine is in zone %s now\n", label)
	list := [][2]string{{"address", j.After.CheckForm()}, {"ula", j.After.ULA().String()}, {"id", j.After.ID().String()}}
	if !j.Before.IsZero() {
		list = append(list, [2]string{"before", j.Before.CheckForm()}, [2]string{"kept in", j.Kept})
	}
	a.pairs(list...)
	if !j.Before.IsZero() {
		fmt.Fprintln(a.out, "Everybody who added the old address has to add the new one.")
	}
}

// configured returns the configuration that a daemon would have, the defaults if it has
// errors, which are not the affair of this verb.
func (a *app) configured() config.Config {
	c, err := a.source().Load()
	if err != nil {
		return config.Default()
	}
	return c
}

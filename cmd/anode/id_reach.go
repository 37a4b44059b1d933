package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// reachAnswer is the JSON of id --reach.
type reachAnswer struct {
	idAnswer
	Reach     string   `json:"reach"`     // as "peers add" takes it
	Endpoints []string `json:"endpoints"` // of it, best first
	Mapping   string   `json:"mapping"`   // of the NAT, as in status
	Chance    string   `json:"chance"`    // that others reach it without help: good, fair or poor
}

// maxReach is the most endpoints in one line that people copy.
const maxReach = 4

// reach prints the address with the endpoints at which the outside sees this machine.
func (a *app) reach(cmd *cobra.Command, asJSON bool) error {
	status, err := a.daemonStatus(cmd.Context())
	if err != nil {
		return err
	}
	self, r := status.Address, status.Reach
	list := r.Public[:min(len(r.Public), maxReach)]
	if len(list) == 0 {
		return &failure{exitFailed, "no endpoint is known: nobody outside has said how it sees this machine",
			"name a STUN server in the configuration, stun = [\"udp:HOST:PORT\"]; or forward UDP port " + strconv.Itoa(int(portOf(status.Listen))) + " in the router and give ADDRESS@udp:IP:PORT"}
	}
	text := strings.Join(append([]string{self.CheckForm()}, list...), "@")
	chance, note := reachChance(r)
	if asJSON {
		return a.json(reachAnswer{idAnswer{schema, self, self.ID(), self.ULA(), self.Zone(), usedAlias(status)}, text, list, r.Mapping, chance})
	}
	fmt.Fprintln(a.out, text)
	fmt.Fprintf(a.err, "On the other machine: anode peers add 'THIS LINE' NAME\nThen add the line of that machine here. Both try for two minutes, then less often.\n")
	if note != "" {
		fmt.Fprintf(a.err, "note: %s\n", note)
	}
	return nil
}

// reachChance says whether others will reach this machine at its endpoints without a relay, and why
// not.
func reachChance(r overlay.ReachStatus) (chance, note string) {
	switch {
	case len(r.Mapped) > 0, r.Mapping == "none":
		return "good", ""
	case r.Mapping == "dependent":
		return "poor", "this will probably not work unless the other machine is reached from outside, because the NAT here shows each peer another port; try: forward a UDP port in the router, or add on both machines a third one that both can reach"
	case r.Ports == "random", r.Mapping == "unknown":
		return "fair", "this works only while the NAT here keeps the port; print it again if the other machine is added later"
	}
	return "fair", ""
}

// daemonStatus returns the daemon's status.
func (a *app) daemonStatus(ctx context.Context) (overlay.Status, error) {
	client := control.NewClient(a.socket)
	defer client.Close()
	return client.Status(ctx)
}

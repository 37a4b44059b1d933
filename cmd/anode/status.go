package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show this node, its peers and the ways to them",
		GroupID: groupLife,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context())
		switch {
		case err != nil:
			return err
		case *asJSON:
			return a.json(status)
		case a.terminal:
			a.printStatus(status)
		default:
			a.table(statusTSV(status))
		}
		return nil
	}
	return cmd
}

// printStatus is what people see.
func (a *app) printStatus(s overlay.Status) {
	adapter := "none"
	if s.Tun != nil {
		adapter = fmt.Sprintf("%s, MTU %d", s.Tun.Name, s.Tun.MTU)
	}
	listen := make([]string, len(s.Listen))
	for i, l := range s.Listen {
		listen[i] = spaced(l)
	}
	a.pairs(
		[2]string{"address", s.Address.String()},
		[2]string{"ULA", s.ULA.String()},
		[2]string{"short ID", s.ID.String()},
		[2]string{"zone", s.Zone.String()},
		[2]string{"adapter", adapter},
		[2]string{"listens", strings.Join(listen, ", ") + " (" + s.Rung + ")"},
		[2]string{"runs", age(time.Duration(s.Uptime)*time.Second) + ", version " + s.Version},
	)
	if s.Copies {
		fmt.Fprintf(a.out, "another machine has this address too; this one is number %d of them\n", s.PeerID)
	}
	fmt.Fprintln(a.out)
	if len(s.Peers) == 0 {
		fmt.Fprintln(a.out, "No peers yet. On another machine run \"anode id\", then here \"anode peers add ADDRESS NAME\".")
		return
	}
	rows := [][]string{{"PEER", "ID", "ULA", "STATE", "WAY", "RTT", "RECEIVED", "SENT", "SEEN"}}
	called := map[anode.Address]string{}
	for _, p := range s.Peers {
		called[p.Address] = p.Name
	}
	for _, p := range s.Peers {
		name := p.Name
		switch {
		case name == "" && !p.Allowed && !p.Blocked:
			name = "(not added)"
		case name == "":
			name = "-"
		}
		rtt, seen := "-", "never"
		if p.Path.RTT > 0 {
			rtt = millis(p.Path.RTT) + " ms"
		}
		if p.LastSeen != nil {
			seen = age(max(0, a.now().Sub(*p.LastSeen))) + " ago"
		}
		state := string(p.State)
		if refuses(p) {
			state += ", has not added this node"
		}
		rows = append(rows, []string{name, p.ID.String(), p.ULA.String(), state, tableWay(p.Path, called),
			rtt, bytesOf(p.RxBytes), bytesOf(p.TxBytes), seen})
	}
	a.table(rows)
}

// tableWay is a path in few words; relays are called by their names.
func tableWay(p overlay.PathStatus, called map[anode.Address]string) string {
	if p.Kind == overlay.PathNone || p.Kind == "" {
		return "-"
	}
	way := string(p.Kind)
	if p.Via != nil {
		way += " by " + cmp.Or(called[*p.Via], p.Via.ID().String())
	} else if p.Endpoint != "" {
		way += " " + spaced(p.Endpoint)
	}
	return way
}

// statusTSV is what scripts see: a line for each peer, raw values.
func statusTSV(s overlay.Status) [][]string {
	rows := [][]string{{"name", "address", "id", "ula", "allowed", "state", "kind", "endpoint", "rtt_ms", "rx_bytes", "tx_bytes", "last_seen"}}
	for _, p := range s.Peers {
		rtt, seen := "", ""
		if p.Path.RTT > 0 {
			rtt = strconv.FormatFloat(p.Path.RTT, 'f', 3, 64)
		}
		if p.LastSeen != nil {
			seen = p.LastSeen.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{p.Name, p.Address.String(), p.ID.String(), p.ULA.String(), strconv.FormatBool(p.Allowed),
			string(p.State), string(p.Path.Kind), p.Path.Endpoint, rtt,
			strconv.FormatUint(p.RxBytes, 10), strconv.FormatUint(p.TxBytes, 10), seen})
	}
	return rows
}

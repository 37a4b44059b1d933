package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show this node, its peers and the paths to them",
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

// printStatus prints the status for people.
func (a *app) printStatus(s overlay.Status) {
	adapter := "none"
	if s.Tun != nil {
		adapter = fmt.Sprintf("%s, MTU %d", s.Tun.Name, s.Tun.MTU)
	}
	a.pairs(
		[2]string{"address", s.Address.String()},
		[2]string{"ULA", s.ULA.String()},
		[2]string{"short ID", s.ID.String()},
		[2]string{"zone", s.Zone.String()},
		[2]string{"adapter", adapter},
		[2]string{"listens", strings.Join(s.Listen, ", ") + " (" + s.Rung + ")"},
		[2]string{"runs", age(time.Duration(s.Uptime)*time.Second) + ", version " + s.Version},
	)
	if s.Copies {
		fmt.Fprintf(a.out, "another machine has the same address; this one has machine number %d\n", s.PeerID)
	}
	fmt.Fprintln(a.out)
	if len(s.Peers) == 0 {
		fmt.Fprintln(a.out, "No peers yet. On another machine run \"anode id\", then here \"anode peers add ADDRESS NAME\".")
		return
	}
	rows := [][]string{{"PEER", "ID", "ULA", "STATE", "PATH", "RTT", "RECEIVED", "SENT", "SEEN"}}
	names := namesOf(s.Peers)
	for _, p := range s.Peers {
		name := p.Name
		switch {
		case name == "" && !p.Allowed && !p.Blocked:
			name = "(not added)"
		case name == "":
			name = "-"
		}
		path, rtt, seen := "-", "-", "never"
		if p.Path.Kind != overlay.PathNone && p.Path.Kind != "" {
			path = route(p.Path, names)
		}
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
		rows = append(rows, []string{name, p.ID.String(), p.ULA.String(), state, path,
			rtt, bytesOf(p.RxBytes), bytesOf(p.TxBytes), seen})
	}
	a.table(rows)
}

// statusTSV is the status for scripts: a line for each peer, raw values.
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

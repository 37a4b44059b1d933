package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/link"
)

// verdict is the result of one check.
type verdict string

const (
	fine verdict = "fine"
	slow verdict = "slow" // works, and could be faster or cleaner
	bad  verdict = "bad"
)

// finding is one thing that doctor checked.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Says    string  `json:"says"`
	Try     string  `json:"try,omitempty"`
}

// doctorAnswer is the JSON of doctor.
type doctorAnswer struct {
	Schema   int       `json:"schema"`
	Findings []finding `json:"findings"`
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Report what is wrong or slow, and what to do about it",
		GroupID: groupOther,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context())
		if err != nil {
			for _, f := range examineSystem() { // perhaps why there is no daemon
				if f.Verdict != fine {
					fmt.Fprintf(a.err, "%s: %s\n", f.Check, f.Says)
				}
			}
			return err
		}
		findings := append(examineSystem(), examine(status)...)
		if *asJSON {
			err = a.json(doctorAnswer{schema, findings})
		} else {
			a.printFindings(findings)
		}
		for _, f := range findings {
			if err == nil && f.Verdict == bad {
				err = &failure{exit: exitFailed}
			}
		}
		return err
	}
	return cmd
}

func (a *app) printFindings(list []finding) {
	width := 0
	for _, f := range list {
		width = max(width, len(f.Check))
	}
	for _, f := range list {
		word := string(f.Verdict)
		fmt.Fprintf(a.out, "%s%*s  %-*s  %s\n", a.painted(word), len(fine)-len(word), "", width, f.Check, f.Says)
		if f.Try != "" {
			fmt.Fprintf(a.out, "%*s  try: %s\n", width+6, "", f.Try)
		}
	}
}

// examine judges a daemon's status.
func examine(s overlay.Status) []finding {
	list := []finding{examineAdapter(s), examineRung(s)}
	if f := examineDrops(s); f.Check != "" {
		list = append(list, f)
	}
	if s.Copies {
		list = append(list, finding{"machines", slow, fmt.Sprintf("another machine has the same address; this one has machine number %d", s.PeerID),
			"nothing, if you want that; otherwise give one of them its own identity: anode id --state NEW-DIR"})
	}
	for _, p := range s.Peers {
		name := cmp.Or(p.Name, p.ID.String())
		if refuses(p) {
			list = append(list, finding{"peer " + name, bad, "it has not added this node, and answers nothing but pings",
				"on that machine: anode peers add " + s.Address.String()})
		}
		if p.Allowed && p.State == overlay.StateUnreachable {
			list = append(list, finding{"peer " + name, bad, "it could not be reached",
				"anode ping " + name + "; check there that anode runs and that no firewall drops UDP 8737;" +
					" if it is on another network or has moved: anode peers add ADDRESS --endpoint udp:IP:PORT"})
		}
	}
	return list
}

// refuses reports whether a peer that was added here has not added us.
func refuses(p overlay.PeerStatus) bool { return p.Allowed && p.Admits != nil && !*p.Admits }

func examineAdapter(s overlay.Status) finding {
	if s.Tun == nil {
		return finding{"adapter", slow, "none: programs cannot use the network; only anode ping can", "anode up without --tun none"}
	}
	if taken, err := takesSource(s.ULA); err == nil && taken {
		return finding{"adapter", slow, "IPv6 connections to the internet would have your Anode address as source, and fail",
			"a global IPv6 address on the interface of the default route"}
	}
	return finding{"adapter", fine, fmt.Sprintf("%s, MTU %d", s.Tun.Name, s.Tun.MTU), ""}
}

func examineRung(s overlay.Status) finding {
	switch s.Rung {
	case link.RungGSO:
		return finding{"packets", fine, "many per system call, segmented by the kernel (gso)", ""}
	case link.RungBatch:
		return finding{"packets", slow, "single packets (batch): segmentation does not work on this host, or is switched off",
			"link.rung = \"auto\" in the configuration; another network driver"}
	}
	return finding{"packets", slow, "one per system call (" + s.Rung + ")", "link.rung = \"auto\" in the configuration"}
}

// examineDrops looks for queues that overflowed.
func examineDrops(s overlay.Status) finding {
	for _, name := range []string{"drop_inbox_authentic", "drop_inbox_waiting", "drop_waiting_full", "link_rx_dropped"} {
		if n := s.Counters[name]; n > 0 {
			return finding{"queues", slow, fmt.Sprintf("%d packets dropped because a queue was full (%s)", n, name), "anode status --json shows all counters"}
		}
	}
	return finding{}
}

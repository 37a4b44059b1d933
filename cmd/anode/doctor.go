package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/link"
)

// verdict says how one thing is.
type verdict string

const (
	fine verdict = "fine"
	slow verdict = "slow" // works, and could be faster or cleaner
	bad  verdict = "bad"
)

// finding is one thing that doctor looked at.
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
		Short:   "Look for what is wrong or slower than it could be, and say what to do",
		GroupID: groupOther,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context())
		if err != nil {
			for _, f := range examineSystem() { // why there is no daemon, perhaps
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

// examine judges what a daemon says of itself.
func examine(s overlay.Status) []finding {
	list := []finding{examineAdapter(s), examineRung(s)}
	if f := examineDrops(s); f.Check != "" {
		list = append(list, f)
	}
	if s.Copies {
		list = append(list, finding{"machines", slow, fmt.Sprintf("another machine has this node's address; this one is number %d of them", s.PeerID),
			"nothing if that is wanted; else give one of them an identity of its own: anode id --state NEW-DIR"})
	}
	for _, p := range s.Peers {
		name := cmp.Or(p.Name, p.ID.String())
		if refuses(p) {
			list = append(list, finding{"peer " + name, bad, "it has not added this node: it answers pings and nothing else",
				"there: anode peers add " + s.Address.String()})
		}
		if p.Allowed && p.State == overlay.StateUnreachable {
			list = append(list, finding{"peer " + name, bad, "it could not be reached the last time",
				"anode ping " + name + "; peers add ADDRESS --endpoint udp:IP:PORT if it is on another network"})
		}
	}
	return list
}

// refuses reports whether a peer that was added here has not added us.
func refuses(p overlay.PeerStatus) bool { return p.Allowed && p.Admits != nil && !*p.Admits }

func examineAdapter(s overlay.Status) finding {
	if s.Tun == nil {
		return finding{"adapter", slow, "none: programs cannot use the network, only anode ping can", "anode up without --tun none"}
	}
	if taken, err := takesSource(s.ULA); err == nil && taken {
		return finding{"adapter", slow, "connections to the internet over IPv6 would show your address in this network, and fail",
			"a global IPv6 address on the interface of the default route"}
	}
	return finding{"adapter", fine, fmt.Sprintf("%s, MTU %d", s.Tun.Name, s.Tun.MTU), ""}
}

func examineRung(s overlay.Status) finding {
	switch s.Rung {
	case link.RungGSO:
		return finding{"packets", fine, "many in one system call, cut up by the kernel (gso)", ""}
	case link.RungBatch:
		return finding{"packets", slow, "single ones (batch): trains do not work on this host, or were switched off",
			"link.rung in the configuration; another network driver"}
	}
	return finding{"packets", slow, "one in each system call (" + s.Rung + ")", "link.rung in the configuration"}
}

// examineDrops looks for queues that overflow.
func examineDrops(s overlay.Status) finding {
	for _, name := range []string{"drop_inbox_authentic", "drop_inbox_waiting", "drop_waiting_full", "link_rx_dropped"} {
		if n := s.Counters[name]; n > 0 {
			return finding{"queues", slow, fmt.Sprintf("%s counted %d packets that did not fit", name, n), "anode status --json shows all counters"}
		}
	}
	return finding{}
}

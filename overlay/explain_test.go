package overlay

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/peer"
)

// facts is a status with one peer, reached by a relay, whose attempts failed.
func facts() *Status {
	via := anode.Address{1}
	return &Status{
		Reach:   ReachStatus{Mapping: "independent", Ports: "preserved", Endpoint: "udp:198.51.100.1:8737", Own: []string{"udp:198.51.100.1:8737", "udp:192.168.1.9:8737"}},
		Network: NetworkStatus{IPv4: FamilyStatus{Address: "192.168.1.9", Route: true}},
		Peers: []PeerStatus{{
			Allowed: true, State: StateUp, Path: PathStatus{Kind: PathRelay, Via: &via},
			Attempts: &AttemptsStatus{Takes: true, Kind: "independent", Ports: "preserved", Count: 3, Last: peer.AttemptFailed},
			Ways: []WayStatus{
				{Endpoint: "udp:192.0.2.7:8737", Via: &via, Origin: "relay", State: WayWorks, Used: true, RTT: 40},
				{Endpoint: "udp:203.0.113.5:8737", Origin: "told", State: WayFailed, Silent: true},
			},
		}},
	}
}

// other adds a peer with one way outside.
func (s *Status) other(endpoint string, state WayState, kind PathKind) *PeerStatus {
	s.Peers = append(s.Peers, PeerStatus{Address: anode.Address{1, byte(len(s.Peers))}, Allowed: true, State: StateUp, Path: PathStatus{Kind: kind, Endpoint: endpoint},
		Ways: []WayStatus{{Endpoint: endpoint, Origin: "static", State: state, Silent: state == WayFailed}}})
	return &s.Peers[len(s.Peers)-1]
}

// lost makes the peer one that is not reached.
func (s *Status) lost(r Reason) {
	p := &s.Peers[0]
	p.State, p.Path, p.Reason, p.Ways, p.Attempts = StateUnreachable, PathStatus{Kind: PathNone}, r, nil, nil
}

// direct adds a direct way that answers.
func (s *Status) direct(w WayStatus) {
	w.Endpoint, w.Origin = "udp:203.0.113.5:8738", "told"
	s.Peers[0].Ways = append(s.Peers[0].Ways, w)
}

// Each reason that follows from several facts is named by a set of them, and by none that is
// almost the same.
func TestExplain(t *testing.T) {
	now := time.Now()
	no := false
	covered := map[Reason]bool{}
	for _, c := range []struct {
		name   string
		change func(s *Status)
		want   Reason
		at     string
	}{
		{"both independent", func(*Status) {}, ReasonFirewalled, ""},
		{"direct", func(s *Status) { s.Peers[0].Path.Kind = PathDirect }, NoReason, ""},
		{"no path", func(s *Status) { s.Peers[0].Path.Kind = PathNone }, NoReason, ""},
		{"not added there", func(s *Status) { s.Peers[0].Reason = ReasonNotAddedThere }, ReasonNotAddedThere, ""},
		{"no attempt yet", func(s *Status) { s.Peers[0].Attempts.Count = 0 }, ReasonPunching, ""},
		{"an attempt runs", func(s *Status) { s.Peers[0].Attempts.Last = peer.AttemptRunning }, ReasonPunching, ""},
		{"a way waits for a large packet", func(s *Status) { s.direct(WayStatus{State: WayUnproven}) }, ReasonPunching, "udp:203.0.113.5:8738"},
		{"other versions of IP", func(s *Status) {
			s.Network = NetworkStatus{IPv6: FamilyStatus{Address: "2a0e::1", Public: true, Route: true}}
		}, ReasonFamilyMismatch, ""},
		{"it has both", func(s *Status) {
			s.Network = NetworkStatus{IPv6: FamilyStatus{Address: "2a0e::1", Public: true, Route: true}}
			s.Peers[0].Ways = append(s.Peers[0].Ways, WayStatus{Endpoint: "udp:[2a0e::2]:8737", Origin: "told", State: WayFailed})
		}, ReasonFirewalled, ""},
		{"one outside address", func(s *Status) { s.Peers[0].Ways[1].Endpoint = "udp:198.51.100.1:9000" }, ReasonHairpin, ""},
		{"symmetric here", func(s *Status) { s.Reach.Mapping, s.Reach.Ports = "dependent", "random" }, ReasonHereSymmetric, ""},
		{"random ports here, by one witness", func(s *Status) { s.Reach.Mapping, s.Reach.Ports = "unknown", "random" }, ReasonHereSymmetric, ""},
		{"another port here, by one witness", func(s *Status) {
			s.Reach.Mapping, s.Reach.Ports, s.Reach.Own[0] = "unknown", "unknown", "udp:198.51.100.1:40001"
		}, ReasonHereSymmetric, ""},
		{"the same port here, by one witness", func(s *Status) { s.Reach.Mapping, s.Reach.Ports = "unknown", "unknown" }, ReasonFirewalled, ""},
		{"symmetric there", func(s *Status) { s.Peers[0].Attempts.Kind = "dependent" }, ReasonPeerSymmetric, ""},
		{"symmetric both", func(s *Status) { s.Reach.Mapping, s.Peers[0].Attempts.Kind = "dependent", "dependent" }, ReasonBothSymmetric, ""},
		{"symmetric here, open there", func(s *Status) { s.Reach.Mapping, s.Peers[0].Attempts.Kind = "dependent", "none" }, ReasonFirewalled, ""},
		{"no endpoint", func(s *Status) { s.Peers[0].Ways = s.Peers[0].Ways[:1] }, ReasonNoCandidates, ""},
		{"no endpoint that we may send to", func(s *Status) { s.Peers[0].Ways[1].State = WayNotUsable }, ReasonNoCandidates, ""},
		{"takes no part", func(s *Status) { s.Peers[0].Attempts.Takes = false }, ReasonNoTraversal, ""},
		{"small", func(s *Status) { s.direct(WayStatus{State: WaySmall}) }, ReasonPMTUBlackhole, "udp:203.0.113.5:8738"},
		{"lossy", func(s *Status) { s.direct(WayStatus{State: WayWorks, Loss: 0.3, RTT: 10}) }, ReasonLossy, "udp:203.0.113.5:8738"},
		{"slow", func(s *Status) { s.direct(WayStatus{State: WayWorks, RTT: 400}) }, ReasonRelayBetter, "udp:203.0.113.5:8738"},

		{"nothing outside answers", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone)
			s.other("udp:192.0.2.2:8737", WayFailed, PathNone)
		}, ReasonUDPBlocked, ""},
		{"a portal", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone).Ways[0].TroubleReason = ReasonCaptivePortal
		}, ReasonCaptivePortal, ""},
		{"the proxy wants a password", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.Zones = []ZoneStatus{{Relays: []ZoneRelayStatus{{State: RelaySilent, TroubleReason: ReasonProxyAuth}}}}
		}, ReasonProxyAuth, ""},
		{"the proxy refuses", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone).Ways[0].TroubleReason = ReasonProxyRefused
		}, ReasonProxyRefused, ""},
		{"another proxy refused, and somebody answers", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone).Ways[0].TroubleReason = ReasonProxyRefused
			s.other("udp:192.0.2.2:8737", WayWorks, PathDirect)
		}, ReasonNotAtRelay, "udp:192.0.2.2:8737"},
		{"TCP is refused", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.Peers[0].Ways = []WayStatus{{Endpoint: "tcp:192.0.2.1:8737", State: WayFailed, Silent: true, TroubleReason: ReasonTCPRefused}}
		}, ReasonTCPRefused, "tcp:192.0.2.1:8737"},
		{"by TCP", func(s *Status) {
			s.Peers[0].Path = PathStatus{Kind: PathDirect, Transport: "tcp"}
			s.Transports.UDPSilent = true
		}, ReasonUDPSilent, ""},
		{"by TCP, and UDP works elsewhere", func(s *Status) { s.Peers[0].Path = PathStatus{Kind: PathDirect, Transport: "tcp"} }, NoReason, ""},
		{"by a relay's TCP", func(s *Status) { s.Peers[0].Path.Transport, s.Transports.UDPSilent = "tcp", true }, ReasonUDPSilent, ""},
		{"one outside answers not", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone)
		}, ReasonRelaySilent, "udp:192.0.2.1:8737"},
		{"two ports of one machine answer not", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone)
			s.other("udp:192.0.2.1:8738", WayFailed, PathNone)
		}, ReasonRelaySilent, "udp:192.0.2.1:8737"},
		{"a STUN server answers", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayFailed, PathNone)
			s.other("udp:192.0.2.2:8737", WayFailed, PathNone)
			s.Reach.Seen = []SeenStatus{{From: "udp:192.0.2.3:3478"}}
		}, ReasonNoEndpoint, ""},
		{"nobody else is known", func(s *Status) { s.lost(ReasonNoEndpoint) }, ReasonNoEndpoint, ""},
		{"the relay refuses", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayWorks, PathDirect).Admits = &no
		}, ReasonRelayPolicy, "udp:192.0.2.1:8737"},
		{"the relay does not know it", func(s *Status) {
			s.lost(ReasonNoEndpoint)
			s.other("udp:192.0.2.1:8737", WayWorks, PathDirect)
		}, ReasonNotAtRelay, "udp:192.0.2.1:8737"},
		{"it was heard", func(s *Status) {
			s.lost(ReasonNoAnswer)
			s.Peers[0].LastSeen = &now
			s.other("udp:192.0.2.1:8737", WayWorks, PathDirect)
		}, ReasonPeerAsleep, ""},
		{"its own network says more", func(s *Status) {
			s.lost(ReasonNotRunning)
			s.Peers[0].LastSeen = &now
			s.other("udp:192.0.2.1:8737", WayWorks, PathDirect)
		}, ReasonNotRunning, ""},
	} {
		s := facts()
		c.change(s)
		s.explain()
		got, at := s.Peers[0].Reason, s.Peers[0].ReasonAt
		if got == NoReason {
			got, at = s.Peers[0].PathReason, s.Peers[0].PathReasonAt
		}
		if got != c.want || at != c.at {
			t.Errorf("%s: %q at %q, want %q at %q", c.name, got, at, c.want, c.at)
		}
		covered[got] = true
	}
	for _, r := range peer.PathReasons() {
		if !covered[r] {
			t.Errorf("no facts lead to %q", r)
		}
	}
}

// Every way that is not used has a reason, unless another is as good.
func TestExplainWays(t *testing.T) {
	for want, w := range map[Reason]WayStatus{
		ReasonNoRoute:       {State: WayNotUsable},
		ReasonNoAnswer:      {State: WayFailed, Silent: true},
		ReasonPMTUBlackhole: {State: WaySmall},
		ReasonPunching:      {State: WayUnproven},
		ReasonLossy:         {State: WayWorks, Loss: 0.5},
		ReasonRelayBetter:   {State: WayWorks, RTT: 500},
		NoReason:            {State: WayWorks, RTT: 10},
	} {
		s := facts()
		s.direct(w)
		s.explain()
		if got := s.Peers[0].Ways[2].Reason; got != want {
			t.Errorf("%s: %q, want %q", w.State, got, want)
		}
	}
}

// Every reason is forced by a test: its name occurs in one.
func TestReasonsAreForced(t *testing.T) {
	named := reasonNames(t)
	for _, r := range Reasons() {
		if named[r] == "" {
			t.Errorf("%q has no name in reason.go", r)
		}
		if r.Text() == "" {
			t.Errorf("%q has no words", r)
		}
	}
	if len(named) != len(Reasons()) {
		t.Errorf("%d names, and %d reasons are listed", len(named), len(Reasons()))
	}
	forced := map[string]bool{}
	here, err := filepath.Glob("*_test.go")
	there, err2 := filepath.Glob("../cmd/anode/*_test.go") // with a real kernel, or by the words for people
	if err != nil || err2 != nil || len(here) == 0 || len(there) == 0 {
		t.Fatal(err, err2)
	}
	for _, file := range append(here, there...) {
		if strings.HasSuffix(file, "reasons_test.go") {
			continue // it lists all of them
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				forced[id.Name] = true
			}
			return true
		})
	}
	for r, name := range named {
		if !forced[name] {
			t.Errorf("no test forces %q (%s)", r, name)
		}
	}
}

// reasonNames returns the names of the reasons in this package.
func reasonNames(t *testing.T) map[Reason]string {
	words := constants(t, filepath.Join("peer", "reason.go"), func(x ast.Expr) string {
		lit, ok := x.(*ast.BasicLit)
		if !ok {
			return ""
		}
		return strings.Trim(lit.Value, `"`)
	})
	named := map[Reason]string{}
	for name, of := range constants(t, "reason.go", func(x ast.Expr) string {
		sel, ok := x.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		return sel.Sel.Name
	}) {
		if word := words[of]; word != "" {
			named[Reason(word)] = name
		}
	}
	return named
}

// constants returns what the constants of a file are, in words.
func constants(t *testing.T, file string, value func(ast.Expr) string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for k, name := range v.Names {
				if k < len(v.Values) {
					found[name.Name] = value(v.Values[k])
				}
			}
		}
	}
	if len(found) < 10 {
		t.Fatalf("%s: %d constants", file, len(found))
	}
	return found
}

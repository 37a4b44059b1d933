package main

import (
	"cmp"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/overlay"
)

// Each reason has a sentence that names the peer, and a remedy; what is about an endpoint
// names it.
func TestReasonWords(t *testing.T) {
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	self := id.Address()
	p := overlay.PeerStatus{Address: self, ID: self.ID(), Name: "north"}
	if what, try := reasonWords(p, self); what != "" || try != "" {
		t.Errorf("of a peer with which nothing is wrong: %q, %q", what, try)
	}
	seen := map[string]overlay.Reason{}
	for r, endpoint := range map[overlay.Reason]bool{
		overlay.ReasonBlocked: false, overlay.ReasonNotAddedHere: false, overlay.ReasonNotAddedThere: false,
		overlay.ReasonOtherSecret: false, overlay.ReasonAnotherVersion: false, overlay.ReasonNoSession: false,
		overlay.ReasonNotHeardThere: true, overlay.ReasonNotRunning: true, overlay.ReasonNoMachine: true, overlay.ReasonRejected: true,
		overlay.ReasonNoAnswer: true, overlay.ReasonSendRefused: true, overlay.ReasonNoRoute: true,
		overlay.ReasonNoEndpoint: false, overlay.ReasonTooMuch: false, overlay.ReasonRemoved: false,
	} {
		for _, at := range []string{"", "udp:10.0.0.2:8737"} {
			p.Reason, p.ReasonAt = r, at
			what, try := reasonWords(p, self)
			if !strings.Contains(what, "north (") || try == "" || endpoint && !strings.Contains(what, cmp.Or(at, "its endpoint")) {
				t.Errorf("%s at %q: %q; try: %q", r, at, what, try)
			}
			if r.Text() == "" || strings.ContainsAny(what+try, "\n;") && !strings.Contains(try, "; ") {
				t.Errorf("%s: %q", r, r.Text())
			}
			if other, ok := seen[what]; ok && other != r {
				t.Errorf("%s and %s have the same words", r, other)
			}
			seen[what] = r
		}
	}
}

// Of a connection that does not come about, what happened is said.
func TestReasonWordsOfConnections(t *testing.T) {
	p := overlay.PeerStatus{Address: northAddress, ID: northAddress.ID(), Name: "north", Reason: overlay.ReasonNoAnswer, ReasonAt: "http://192.0.2.1/"}
	if what, try := reasonWords(p, southAddress); !strings.Contains(what, "drops the connection (http://192.0.2.1/)") || !strings.Contains(try, "TCP") {
		t.Errorf("%q, %q", what, try)
	}
	p.Ways = []overlay.WayStatus{{Endpoint: "udp:192.0.2.1:1"}, {Endpoint: "http://192.0.2.1/", Trouble: "this network: it shows its own page; try: open a web browser"}}
	if what, try := reasonWords(p, southAddress); !strings.Contains(what, "at http://192.0.2.1/: this network: it shows its own page") || try != "open a web browser" {
		t.Errorf("%q, %q", what, try)
	}
	p.Ways[1].Trouble = "server: it does not speak the Anode protocol"
	if _, try := reasonWords(p, southAddress); !strings.Contains(try, "check the endpoint") {
		t.Errorf("%q", try)
	}
}

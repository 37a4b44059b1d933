package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/names"
	"anodenet/overlay"
)

// traced runs a tracer in virtual time. rtt has the round trip of each machine; 0 is none.
// back is the path by which the peer's answers come.
func traced(t *testing.T, peer overlay.PeerStatus, rtt map[anode.Address]time.Duration, back overlay.PathStatus) traceAnswer {
	t.Helper()
	s := natStatus()
	s.Peers[2].Name, s.Peers[1] = "hub", peer
	tr := tracer{
		flags:  traceFlags{count: 2, interval: time.Second, wait: 2 * time.Second},
		status: func(context.Context) (overlay.Status, error) { return s, nil },
		ping: func(_ context.Context, r control.PingRequest) (overlay.PingReply, error) {
			d := rtt[r.Address]
			if d == 0 {
				time.Sleep(time.Duration(r.TimeoutMS) * time.Millisecond)
				return overlay.PingReply{}, &control.Error{Code: control.CodeUnreachable, Message: "the peer cannot be reached: it does not answer"}
			}
			time.Sleep(d)
			reply := overlay.PingReply{Address: r.Address, RTT: d, Path: back}
			if back.Via != nil {
				reply.Hops = 1
			}
			return reply, nil
		},
	}
	answer, err := tr.run(t.Context(), control.Resolve(names.Peer{Address: peer.Address, Name: peer.Name}, true))
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestTrace(t *testing.T) {
	relayed := relayedPeer(overlay.ReasonPeerSymmetric)
	direct := relayed
	direct.Path = overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "udp:203.0.113.5:8737", RTT: 20, MTU: 1400}
	none := relayed
	none.Path = overlay.PathStatus{Kind: overlay.PathNone}
	both := map[anode.Address]time.Duration{hubAddress: 16 * time.Millisecond, southAddress: 38 * time.Millisecond}
	for _, c := range []struct {
		name string
		peer overlay.PeerStatus
		rtt  map[anode.Address]time.Duration
		back overlay.PathStatus
		want string
	}{
		{"relayed", relayed, both, relayed.Path, `
0  self   this machine              udp:198.51.100.1:8737
1  relay  hub (314c6a3662ebad08)    udp:192.0.2.7:8737     16.0 ms (16.0 to 16.0)
2  peer   south (395d77976c9f8031)                         38.0 ms (38.0 to 38.0)
`},
		{"direct", direct, both, direct.Path, `
south (395d77976c9f8031): direct udp:203.0.113.5:8737, 38.0 ms (38.0 to 38.0),
  packets of up to 1400 bytes
`},
		{"answers come by the relay", direct, both, relayed.Path, `
south (395d77976c9f8031): direct udp:203.0.113.5:8737, 38.0 ms (38.0 to 38.0),
  packets of up to 1400 bytes
answers come by another way: relay hub
`},
		{"the peer is silent", relayed, map[anode.Address]time.Duration{hubAddress: 16 * time.Millisecond}, relayed.Path, `
0  self   this machine              udp:198.51.100.1:8737
1  relay  hub (314c6a3662ebad08)    udp:192.0.2.7:8737     16.0 ms (16.0 to 16.0)
2  peer   south (395d77976c9f8031)                         no reply
no reply: it does not answer
`},
		{"there is no path", none, nil, none.Path, `
0  self  this machine              udp:198.51.100.1:8737
1  peer  south (395d77976c9f8031)                         no reply
no reply: it does not answer
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := traced(t, c.peer, c.rtt, c.back)
				a, out := onTerminal()
				a.printTrace(answer, map[anode.Address]string{hubAddress: "hub"})
				wantText(t, out.String(), c.want)
				if same := answer.Back != nil && answer.Back.Same; same != (c.name == "relayed" || c.name == "direct") {
					t.Errorf("back: %+v", answer.Back)
				}
			})
		})
	}
}

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"anodenet/overlay"
)

// statusText is a status as people see it at a width.
func statusText(t *testing.T, s overlay.Status, v statusView, width int) string {
	t.Helper()
	t.Setenv("COLUMNS", fmt.Sprint(width))
	a, out := onTerminal()
	a.printStatus(s, v)
	return out.String()
}

func TestStatus(t *testing.T) {
	wantText(t, statusText(t, fixtureStatus(), statusView{}, 80), `
address   aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
ULA       fd00:0:40:5d2d:2c3:b4bc:7790:f928
short ID  02c3b4bc7790f928
adapter   anode0, MTU 1440
listens   udp:[::]:8737 (gso)
settings  open: no, secret: no, relay: yes, Info2 bridge: no
runs      1 h 2 min, version 0.0.0
peers     2 of 3 up; 1 heard, not added

PEER           STATE        PATH            RTT      RECEIVED  SENT    SEEN
north          up           LAN             0.42 ms  999 B     123 MB  1 s ago
south          up           relay 314c6a3…  37.2 ms  2.0 MB    1.0 MB  3 min ago
314c6a3662eb…  unreachable  -               -        0 B       0 B     never
  314c6a3662ebad08 does not answer: its machine is off or has moved, or a
  firewall drops UDP (udp:198.51.100.7:8737)
  try: on that machine: anode status; and allow incoming UDP on its port in the
  firewall

Heard, not added (to add one: anode peers add ADDRESS NAME):
aeaaaaaaaaaaeot3eqysw235of3gbnjkdmomb344fcynnanqfuuj5xrt2sutc74j  26 h ago
`)
	wantText(t, statusText(t, fixtureStatus(), statusView{}, 60), `
address   aeaaaaaaaaaaehyiaw7ql3…aabpiu (anode id)
ULA       fd00:0:40:5d2d:2c3:b4bc:7790:f928
short ID  02c3b4bc7790f928
adapter   anode0, MTU 1440
listens   udp:[::]:8737 (gso)
settings  open: no, secret: no, relay: yes, Info2 bridge: no
runs      1 h 2 min, version 0.0.0
peers     2 of 3 up; 1 heard, not added

PEER         STATE        PATH            RTT      SEEN
north        up           LAN             0.42 ms  1 s ago
south        up           relay 314c6a3…  37.2 ms  3 min ago
314c6a3662…  unreachable  -               -        never
  314c6a3662ebad08 does not answer: its machine is off or
  has moved, or a firewall drops UDP (udp:198.51.100.7:8737)
  try: on that machine: anode status; and allow incoming UDP
  on its port in the firewall

Heard, not added (anode whois ID shows the address):
aa2a510d72b2d432  26 h ago
`)
	wantText(t, statusText(t, fixtureStatus(), statusView{}, 140), `
address   aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
ULA       fd00:0:40:5d2d:2c3:b4bc:7790:f928
short ID  02c3b4bc7790f928
adapter   anode0, MTU 1440
listens   udp:[::]:8737 (gso)
settings  open: no, secret: no, relay: yes, Info2 bridge: no
runs      1 h 2 min, version 0.0.0
peers     2 of 3 up; 1 heard, not added

PEER              ID                STATE        PATH            RTT      RECEIVED  SENT    SEEN       ENDPOINT
north             dd9fcbf1d49c786b  up           LAN             0.42 ms  999 B     123 MB  1 s ago    udp:10.0.0.2:8737
south             395d77976c9f8031  up           relay 314c6a3…  37.2 ms  2.0 MB    1.0 MB  3 min ago  udp:192.0.2.7:8737
314c6a3662ebad08  314c6a3662ebad08  unreachable  -               -        0 B       0 B     never      -
  314c6a3662ebad08 does not answer: its machine is off or has moved, or a firewall drops UDP (udp:198.51.100.7:8737)
  try: on that machine: anode status; and allow incoming UDP on its port in the firewall

Heard, not added (to add one: anode peers add ADDRESS NAME):
aeaaaaaaaaaaeot3eqysw235of3gbnjkdmomb344fcynnanqfuuj5xrt2sutc74j  26 h ago
`)
	wantText(t, statusText(t, fixtureStatus(), statusView{long: true, counters: true}, 80), `
address   aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
ULA       fd00:0:40:5d2d:2c3:b4bc:7790:f928
short ID  02c3b4bc7790f928
adapter   anode0, MTU 1440
listens   udp:[::]:8737 (gso)
settings  open: no, secret: no, relay: yes, Info2 bridge: no
runs      1 h 2 min, version 0.0.0
peers     2 of 3 up; 1 heard, not added

PEER           STATE        PATH            RTT      RECEIVED  SENT    SEEN
north          up           LAN             0.42 ms  999 B     123 MB  1 s ago
  dd9fcbf1d49c786b fd00:0:3b:4ea5:dd9f:cbf1:d49c:786b udp:10.0.0.2:8737
south          up           relay 314c6a3…  37.2 ms  2.0 MB    1.0 MB  3 min ago
  395d77976c9f8031 fd00:0:45:dfd7:395d:7797:6c9f:8031 udp:192.0.2.7:8737
314c6a3662eb…  unreachable  -               -        0 B       0 B     never
  314c6a3662ebad08 fd00:0:45:bc96:314c:6a36:62eb:ad08
  314c6a3662ebad08 does not answer: its machine is off or has moved, or a
  firewall drops UDP (udp:198.51.100.7:8737)
  try: on that machine: anode status; and allow incoming UDP on its port in the
  firewall

Heard, not added (to add one: anode peers add ADDRESS NAME):
aeaaaaaaaaaaeot3eqysw235of3gbnjkdmomb344fcynnanqfuuj5xrt2sutc74j  26 h ago

COUNTER     VALUE  MEANING
rx_packets  7      received from peers, encrypted
`)
}

func TestStatusWithoutPeers(t *testing.T) {
	s := fixtureStatus()
	s.Peers, s.Tun, s.Open, s.Secret, s.Relay, s.Copies, s.PeerID = nil, nil, true, true, false, true, 2
	wantText(t, statusText(t, s, statusView{bridged: true}, 80), `
address   aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
ULA       fd00:0:40:5d2d:2c3:b4bc:7790:f928
short ID  02c3b4bc7790f928
adapter   none; programs use anode nc, anode forward or a proxy (anode up
          --socks 1080)
listens   udp:[::]:8737 (gso)
settings  open: yes, secret: yes, relay: no, Info2 bridge: yes
runs      1 h 2 min, version 0.0.0
peers     0 of 0 up
warning: everybody can reach the ports of this machine, not only the peers that
         you added (policy.open)
warning: the Info2 bridge is on: what your peers say becomes clear text that
         anybody can read (info2.bridge)
warning: another machine has the same address; this one has machine number 2

No peers yet. "anode invite NAME" makes a link that lets somebody in;
"anode join" uses a link that you got.
`)
}

// TestStatusFits: no line is longer than the terminal, whatever the peers are named and
// wherever they are.
func TestStatusFits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	kinds := []overlay.PathKind{overlay.PathNone, overlay.PathLAN, overlay.PathDirect, overlay.PathRelay, overlay.PathEthernet}
	states := []overlay.PeerState{overlay.StateIdle, overlay.StateConnecting, overlay.StateUp, overlay.StateUnreachable, overlay.StateBlocked}
	for width := 60; width <= 220; width += 10 {
		s := fixtureStatus()
		for i := range 40 {
			p := s.Peers[i%4]
			p.Name = strings.Repeat("n", random.IntN(64))
			p.State = states[random.IntN(len(states))]
			p.Blocked = p.State == overlay.StateBlocked
			p.Path = overlay.PathStatus{Kind: kinds[random.IntN(len(kinds))], RTT: random.Float64() * 99999, Endpoint: "udp:[2001:db8:1111:2222:3333:4444:5555:6666]:65535"}
			if p.Path.Kind == overlay.PathRelay {
				p.Path.Via = &s.Peers[random.IntN(4)].Address
			}
			seen := fixtureTime.Add(-time.Duration(random.Int64N(int64(9000 * time.Hour))))
			p.LastSeen, p.RxBytes, p.TxBytes = &seen, random.Uint64()>>random.IntN(64), random.Uint64()>>random.IntN(64)
			s.Peers = append(s.Peers, p)
		}
		for _, v := range []statusView{{}, {long: true, counters: true, bridged: true}} {
			for _, line := range strings.Split(statusText(t, s, v, width), "\n") {
				// A command to be copied is not broken.
				if n := utf8.RuneCountInString(line); n > width && !strings.Contains(line, selfAddress.String()) {
					t.Fatalf("%d columns at width %d: %s", n, width, line)
				}
			}
		}
	}
}

package overlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

var (
	broadcast = netip.MustParseAddr("255.255.255.255")
	mdns4     = netip.MustParseAddr("224.0.0.251")
	mdns6     = netip.MustParseAddr("ff02::fb")
	ssdp4     = netip.MustParseAddr("239.255.255.250")
)

// groupMsg is a UDP packet to a group, as the adapter makes it.
func groupMsg(group netip.Addr, from, to uint16, text string) []byte {
	a := group.As16()
	msg := append([]byte{byte(wire.Group)}, a[:]...)
	if group.Is4() {
		msg = append(msg, 0, 0, 7, 0x80, 0, 64, 17)
	} else {
		msg = append(msg, 0x60, 0, 0, 0, 17, 64)
	}
	msg = binary.BigEndian.AppendUint16(msg, from)
	msg = binary.BigEndian.AppendUint16(msg, to)
	msg = binary.BigEndian.AppendUint16(msg, uint16(8+len(text)))
	return append(append(msg, 0, 0), text...)
}

// shouts sends a packet to a group, as a program would.
func (n *testNode) shouts(group netip.Addr, text string) {
	n.shoutsFrom(group, 7000, text)
}

func (n *testNode) shoutsFrom(group netip.Addr, port uint16, text string) {
	n.dev.out <- outgoing{anode.ULA(group.As16()), [][]byte{groupMsg(group, port, 7000, text)}}
}

// hears counts how often a text came from a node.
func (n *testNode) hears(from *testNode, text string) (times int) {
	for _, d := range n.dev.delivered() {
		if d.from == from.address0().ULA() && d.msg[0] == byte(wire.Group) && strings.HasSuffix(d.msg, text) {
			times++
		}
	}
	return times
}

// wantHears checks how often.
func (n *testNode) wantHears(from *testNode, text string, times int) {
	n.t.Helper()
	if got := n.hears(from, text); got != times {
		n.t.Errorf("%s heard %q from %s %d times, want %d", n.host.Name(), text, from.host.Name(), got, times)
	}
}

func (n *testNode) lanState(of *testNode) LANState { return n.peer(of).LAN }

func (n *testNode) joins(groups ...netip.Addr) {
	n.t.Helper()
	if err := n.SetGroups(n.t.Context(), groups); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) setLAN(of *testNode, on bool) {
	n.t.Helper()
	if _, err := n.SetLAN(n.t.Context(), of.address0(), on); err != nil {
		n.t.Fatal(err)
	}
}

// newLAN makes nodes on one link that have added each other; the first members of them are in a virtual LAN.
func newLAN(t *testing.T, w *vnet.World, count, members int) []*testNode {
	t.Helper()
	var nodes []*testNode
	var hosts []*vnet.Host
	for k := range count {
		n := newTestNode(t, w.Host(fmt.Sprint("n", k)), nil)
		nodes, hosts = append(nodes, n), append(hosts, n.host)
	}
	adds(nodes...)
	for k, n := range nodes {
		for i := range n.cfg.Peers {
			other := i
			if i >= k {
				other++ // adds leaves a node itself out
			}
			n.cfg.Peers[i].LAN = k < members && other < members
		}
	}
	lan(w, "lan", 0, hosts...)
	return nodes
}

func startAll(nodes ...*testNode) {
	for _, n := range nodes {
		n.start()
	}
}

// Four nodes hear each other once by broadcast, and a fifth, which all have added, nothing; it is not even
// told that there is a virtual LAN.
func TestLANOfFour(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		nodes := newLAN(t, w, 5, 4)
		fifth := nodes[4]
		startAll(nodes...)
		defer stopAll(nodes...)
		settle(3 * time.Second)
		for _, n := range nodes[:4] {
			fifth.say(n, "session")
		}
		settle(3 * time.Second)
		for _, a := range nodes[:4] {
			for _, b := range nodes[:4] {
				if s := a.lanState(b); a != b && s != LANMember {
					t.Errorf("%s is %s for %s", b.host.Name(), s, a.host.Name())
				}
			}
			if s := a.lanState(fifth); s != LANOff {
				t.Errorf("the fifth is %s for %s", s, a.host.Name())
			}
		}
		for k, n := range nodes {
			n.shouts(broadcast, fmt.Sprint("hello of ", k))
			settle(10 * time.Millisecond)
		}
		fifth.seals(nodes[0], groupMsg(broadcast, 1, 1, "let me in"))
		fifth.seals(nodes[0], wire.GroupsMsg{Serial: 1, Member: true}.Append([]byte{byte(wire.Groups)}))
		settle(time.Second)
		for k, from := range nodes {
			for i, to := range nodes {
				want := 0
				if k != i && k < 4 && i < 4 {
					want = 1
				}
				to.wantHears(from, fmt.Sprint("hello of ", k), want)
			}
		}
		nodes[0].wantHears(fifth, "let me in", 0)
		if n := nodes[0].counter("drop_lan_outsider"); n != 2 {
			t.Errorf("%d messages of an outsider were dropped, want 2", n)
		}
		s := fifth.status()
		if s.LAN.Chosen+s.LAN.Members != 0 || s.Counters["drop_lan_outsider"] != 0 || s.Counters["drop_lan_groups"] != 0 || s.Counters["drop_lan_nobody"] != 1 {
			t.Errorf("the fifth knows of %+v, and counted %v", s.LAN, s.Counters)
		}
		first := nodes[0].status()
		if first.LAN.Chosen != 3 || first.LAN.Members != 3 || first.Counters["lan_tx_packets"] != 1 || first.Counters["lan_tx_copies"] != 3 || first.Counters["lan_rx_packets"] != 3 {
			t.Errorf("%+v, %v", first.LAN, first.Counters)
		}
	})
}

package info2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestFriendReplies: only asked for, only plausible, only a few per teller.
func TestFriendReplies(t *testing.T) {
	b := newBench(t)
	id := b.join("198.51.100.1")
	b.recv(id, "203.0.113.1\n\n")
	if b.core.fx.counters[FriendUnasked] != 1 || len(b.core.hosts.byAddr) != 0 {
		t.Fatal("took a reply that nobody asked for")
	}
	told := 0
	for i := range 30 {
		l := b.core.links.find(id)
		b.core.links.ask(b.now, l)
		b.pass(time.Second)
		b.recv(id, fmt.Sprintf("%d.0.113.1\n\n", 20+i))
		b.recv(id, fmt.Sprintf("%d.0.113.2\n\n", 20+i))
		told++
	}
	if got := len(b.core.hosts.byAddr); got != hearsayTeller || b.core.fx.counters[FriendFull] != uint64(told-hearsayTeller) {
		t.Errorf("%d hosts of one teller, %v", got, b.core.fx.counters.nonZero())
	}
	// Sixteen of one network, however many tell.
	for i := range 30 {
		b.core.hosts.add(b.now, netip.AddrFrom4([4]byte{99, 0, 0, byte(i)}), netip.AddrFrom4([4]byte{98, byte(i), 0, 1}))
	}
	if got := len(b.core.hosts.byAddr); got != hearsayTeller+hearsayNet {
		t.Errorf("%d hosts, %d of them of one network", got, got-hearsayTeller)
	}
	b.core.links.ask(b.now, b.core.links.find(id))
	b.recv(id, "10.0.0.77\n\n")
	if b.core.fx.counters[FriendForbidden] != 1 {
		t.Error("took a private address from outside")
	}
}

// TestFriendAnswers: only hosts whose handshake we completed, never the asker,
// three different ones per hour.
func TestFriendAnswers(t *testing.T) {
	b := newBench(t)
	for i := range 5 {
		_ = b.core.connect(b.now, netip.AddrFrom4([4]byte{20, byte(i), 0, 1}))
		b.pass(2 * time.Second)
		b.answerDial()
	}
	b.join("20.9.0.1") // linked, but we have not dialled it
	asker := b.join("20.0.0.1")
	answers := make(map[string]int)
	hour := func() {
		for range 30 {
			before := len(b.writes[asker])
			b.recv(asker, friendRequestLine)
			b.pass(10 * time.Second)
			for _, w := range b.writes[asker][before:] {
				answers[w.data]++
			}
		}
	}
	hour()
	if len(answers) != answersMax || answers["20.9.0.1"]+answers["20.0.0.1"] != 0 {
		t.Errorf("answers %v", answers)
	}
	// Private addresses are not told to the outside.
	b = newBench(t)
	_ = b.core.connect(b.now, ip("10.0.0.2"))
	b.act()
	b.answerDial()
	id := b.join("198.51.100.1")
	b.recv(id, friendRequestLine)
	b.pass(time.Second)
	if got := b.data(id); !slices.Equal(got, []string{okLine, "0.0.0.0"}) {
		t.Errorf("answered %q", got)
	}
	// Who knows nobody says so.
	b = newBench(t)
	id = b.join("20.0.0.1")
	b.join("20.0.0.2")
	b.recv(id, "FRIENDREQUEST")
	b.pass(time.Second)
	if got := b.data(id); !slices.Equal(got, []string{okLine, "0.0.0.0"}) {
		t.Errorf("answered %q", got)
	}
}

// TestFormerFriends: an address that was a friend's by mistake is forgotten, and with it
// the dialling; a host that answered stays known while it may be a neighbour.
func TestFormerFriends(t *testing.T) {
	b := newBench(t)
	h := b.core.hosts
	typo, good, other := ip("10.0.1.1"), ip("10.0.1.2"), ip("10.0.1.3")
	h.setFriends([]netip.Addr{typo, good, other})
	h.good(b.now, good)
	h.setFriends([]netip.Addr{other})
	if h.byAddr[typo] != nil || h.byAddr[good] == nil || h.byAddr[good].standing != verified || h.byAddr[other].standing != friend {
		t.Errorf("got %v", h.byAddr)
	}
	h.keep(func(a netip.Addr) bool { return a == other })
	if len(h.byAddr) != 1 || h.byAddr[other] == nil {
		t.Errorf("got %v", h.byAddr)
	}
}

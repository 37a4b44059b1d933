package info2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPerMessage: dial, hello, OK, BACKCONNECT, close makes a neighbour that is
// dialled for every message, one message per connection, for ten minutes; what
// it sends goes to all but itself.
func TestPerMessage(t *testing.T) {
	b := newBench(t)
	id := b.join("10.0.0.2")
	b.recv(id, "BACKCONNECT 192.0.2.99") // a lie about the address changes nothing
	b.eof(id)
	b.pass(time.Minute)
	if len(b.dials) != 0 {
		t.Fatalf("dialled %v without a message", b.dials)
	}
	for i := range 3 {
		b.say(fmt.Sprint("text ", i))
	}
	for i := range 3 {
		b.pass(2 * time.Second)
		id, to := b.answerDial()
		if to != ip("10.0.0.2") {
			t.Fatalf("dialled %v", to)
		}
		b.pass(100 * time.Millisecond)
		b.recv(id, friendRequestLine) // it gets no answer
		b.pass(3 * time.Second)
		if got := b.writes[id]; !got[len(got)-1].last {
			t.Errorf("delivery %d: our half stays open after the message", i)
		}
		got := b.data(id)
		if len(got) != 2 || got[0] != helloLine || !strings.HasPrefix(got[1], "SEND ") || !b.closed[id] {
			t.Errorf("delivery %d: %q, closed %v", i, got, b.closed[id])
		}
	}
	// Its own message does not come back to it, but goes to the others.
	other := b.join("10.0.0.3")
	b.pass(time.Second)
	id = b.join("10.0.0.2")
	b.recv(id, "SEND 7 from me")
	b.eof(id)
	b.pass(5 * time.Second)
	if got := b.data(other); len(got) != 2 || got[1] != "SEND 000007 from me\n\n" {
		t.Errorf("the others got %q", got)
	}
	if len(b.dials) != 0 {
		t.Errorf("dialled %v", b.dials)
	}
	b.pass(neighbourFor)
	if len(b.core.neighbours.list) != 0 {
		t.Error("still a neighbour after ten minutes of silence")
	}
	// We have no other host to dial, and still do not take it for one.
	b.pass(time.Hour)
	b.core.wake(b.now)
	b.act()
	if !b.core.topology.filling || len(b.dials) != 0 {
		t.Errorf("dialled %v to make a link", b.dials)
	}
	if list := b.core.hosts.status(); len(list) != 1 || !list[0].PerMessage || list[0].Verified.IsZero() {
		t.Errorf("hosts %+v", list)
	}
	// It may change its mind, and the user may know better.
	_ = b.core.connect(b.now, ip("10.0.0.2"))
	b.act()
	if len(b.dials) != 1 {
		t.Errorf("connect: dialled %v", b.dials)
	}
}

// TestBackconnectStays: a host that asks to be dialled back and keeps its link is
// dialled once, to learn whether it listens, and asked which host it knows.
func TestBackconnectStays(t *testing.T) {
	b := newBench(t)
	id := b.join("10.0.0.2")
	b.recv(id, "BACKCONNECT 10.0.0.2")
	b.pass(perMessage - time.Second)
	if len(b.dials) != 0 {
		t.Fatalf("dialled %v before it is clear that it stays", b.dials)
	}
	b.pass(2 * time.Second)
	ask, _ := b.answerDial()
	b.pass(time.Second)
	if got := b.data(ask); !slices.Equal(got, []string{helloLine, friendRequestLine}) {
		t.Fatalf("asked %q", got)
	}
	b.recv(ask, "0.0.0.0")
	b.pass(time.Second)
	if !b.closed[ask] || b.closed[id] || len(b.dials) != 0 {
		t.Errorf("closed %v, dials %v", b.closed, b.dials)
	}
}

// TestPerMessageServer: a host that takes one message and closes is dialled for
// every message from then on; it has had our BACKCONNECT by then.
func TestPerMessageServer(t *testing.T) {
	b := newBench(t)
	_ = b.core.connect(b.now, ip("10.0.0.2"))
	b.act()
	id, _ := b.answerDial()
	b.pass(200 * time.Millisecond)
	b.eof(id)
	if got := b.data(id); !slices.Contains(got, "BACKCONNECT 10.0.0.1") || len(b.core.neighbours.list) != 1 {
		t.Fatalf("wrote %q, %d neighbours", got, len(b.core.neighbours.list))
	}
	b.say("hello")
	b.pass(time.Second)
	id, _ = b.answerDial()
	b.pass(time.Second)
	if got := b.data(id); len(got) != 2 || !strings.HasSuffix(got[1], " hello\n\n") {
		t.Errorf("wrote %q", got)
	}
}

// TestLinkedNeighbour: who has a lasting link gets no message twice.
func TestLinkedNeighbour(t *testing.T) {
	b := newBench(t)
	id := b.join("10.0.0.2")
	b.core.hosts.good(b.now, ip("10.0.0.2"))
	b.recv(id, "BACKCONNECT 10.0.0.2")
	b.eof(id)
	id = b.join("10.0.0.2")
	b.pass(perMessage + time.Second)
	b.say("hello")
	b.pass(time.Second)
	if len(b.writes[id]) != 3 || len(b.dials) != 0 { // OK, FRIEND REQUEST, SEND
		t.Errorf("wrote %q, dials %v", b.data(id), b.dials)
	}
}

// TestBusyNeighbour: a delivery that fails is tried once more; the second failure
// in a row ends the neighbour.
func TestBusyNeighbour(t *testing.T) {
	b := newBench(t)
	id := b.join("10.0.0.2")
	b.core.hosts.good(b.now, ip("10.0.0.2"))
	b.recv(id, "BACKCONNECT 10.0.0.2")
	b.eof(id)
	fail := func() {
		t.Helper()
		if len(b.dials) != 1 {
			t.Fatalf("%d dials", len(b.dials))
		}
		b.core.dialed(b.now, b.dials[0].id, netip.Addr{}, errSim)
		b.dials = nil
		b.pass(3 * time.Second)
	}
	b.say("once more")
	b.pass(time.Second)
	fail()
	id, _ = b.answerDial()
	b.pass(3 * time.Second)
	if got := b.data(id); len(got) != 2 || !strings.HasSuffix(got[1], " once more\n\n") {
		t.Errorf("wrote %q", got)
	}
	b.say("in vain")
	b.pass(time.Second)
	fail()
	fail()
	if len(b.core.neighbours.list) != 0 || len(b.dials) != 0 {
		t.Error("still a neighbour")
	}
}

// TestNeighbours: no more than four; a LOGOFF of its own ends one.
func TestNeighbours(t *testing.T) {
	b := newBench(t)
	for i := range 6 {
		id := b.join(fmt.Sprintf("10.0.1.%d", i))
		b.recv(id, "BACKCONNECT/10.0.1.1")
		b.eof(id)
	}
	if len(b.core.neighbours.list) != neighboursMax || b.core.fx.counters[NeighboursFull] != 2 {
		t.Errorf("%d neighbours", len(b.core.neighbours.list))
	}
	id := b.join("10.0.1.0")
	b.recv(id, "LOGOFF 1 10.0.1.1\n\n")
	if len(b.core.neighbours.list) != neighboursMax {
		t.Error("a LOGOFF from another address ended one")
	}
	b.recv(id, "LOGOFF 2 10.0.1.0\n\n")
	if len(b.core.neighbours.list) != neighboursMax-1 || !b.closed[id] {
		t.Error("its own LOGOFF did not")
	}
}

// TestRegisteredFriend: that the network has changed, or that the user has chosen a
// host, is no reason to make a link with one that wants a message a dial. A friend
// that only seemed to want that is tried again.
func TestRegisteredFriend(t *testing.T) {
	for _, registered := range []bool{true, false} {
		b := newBench(t)
		b.core.topology.closed = true
		b.core.hosts.setFriends([]netip.Addr{ip("10.0.0.2")})
		if registered {
			id := b.join("10.0.0.2")
			b.recv(id, "BACKCONNECT 10.0.0.2")
			b.eof(id)
		} else {
			b.core.neighbours.add(b.now, ip("10.0.0.2"), false)
		}
		b.core.wake(b.now)
		b.core.hosts.setFriends([]netip.Addr{ip("10.0.0.2")})
		b.core.pump(b.now)
		b.act()
		if again := len(b.dials) == 1; again == registered {
			t.Fatalf("registered %v: dialled %v", registered, b.dials)
		}
		if !registered {
			continue
		}
		b.say("hello")
		b.pass(time.Second)
		id, _ := b.answerDial()
		b.pass(2 * time.Second)
		if got := b.data(id); len(got) != 2 || !strings.HasSuffix(got[1], " hello\n\n") || !b.closed[id] || len(b.dials) != 0 {
			t.Errorf("wrote %q, closed %v, dials %v", got, b.closed[id], b.dials)
		}
	}
}

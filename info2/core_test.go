package info2

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// bench drives one core by hand and notes what it writes, and when.
type bench struct {
	t    *testing.T
	core *core
	now  time.Time
	// what the core asked for
	writes  map[linkID][]written
	dials   []action
	closed  map[linkID]bool
	heard   []string
	blocked map[linkID]bool // its writes never end
}

type written struct {
	at   time.Duration // since t0
	data string
	last bool // our half ends with it
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: t0, writes: make(map[linkID][]written), closed: make(map[linkID]bool), blocked: make(map[linkID]bool)}
	b.core = newCore(t0, rules{listening: true}, seeded(1, 1))
	return b
}

var here = ip("10.0.0.1")

// act collects the actions; writes end at once, unless blocked.
func (b *bench) act() {
	for actions := b.core.fx.take(); len(actions) > 0; actions = b.core.fx.take() {
		for _, a := range actions {
			switch a.op {
			case opWrite, opWriteLast:
				b.writes[a.id] = append(b.writes[a.id], written{b.now.Sub(t0), string(a.data), a.op == opWriteLast})
				if !b.blocked[a.id] {
					b.core.sent(b.now, a.id)
				}
			case opDial:
				b.dials = append(b.dials, a)
			case opClose:
				b.closed[a.id] = true
			case opDeliver:
				b.heard = append(b.heard, a.message.Text)
			}
		}
	}
}

// pass lets time pass, tick by tick.
func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	b.act()
	end := b.now.Add(d)
	for n := 0; ; n++ {
		at := b.core.next(b.now)
		if at.IsZero() || at.After(end) {
			break
		}
		if n > 1000000 {
			b.t.Fatal("time stands still")
		}
		if at.After(b.now) {
			b.now = at
		}
		b.core.tick(b.now)
		b.act()
	}
	b.now = end
}

func (b *bench) accept(from string) linkID {
	b.t.Helper()
	id, ok := b.core.accepted(b.now, ip(from), here)
	if !ok {
		b.t.Fatalf("%s refused", from)
	}
	b.act()
	return id
}

func (b *bench) recv(id linkID, data string) {
	b.core.received(b.now, id, []byte(data))
	b.act()
}

func (b *bench) eof(id linkID) {
	b.core.eof(b.now, id)
	b.act()
}

// join accepts a connection and takes its hello.
func (b *bench) join(from string) linkID {
	b.t.Helper()
	id := b.accept(from)
	b.recv(id, helloLine)
	return id
}

// answerDial completes the oldest dial, up to the OK.
func (b *bench) answerDial() (linkID, netip.Addr) {
	b.t.Helper()
	if len(b.dials) == 0 {
		b.t.Fatal("no dial")
	}
	d := b.dials[0]
	b.dials = b.dials[1:]
	b.core.dialed(b.now, d.id, here, nil)
	b.act()
	b.recv(d.id, okLine)
	return d.id, d.addr
}

func (b *bench) data(id linkID) (list []string) {
	for _, w := range b.writes[id] {
		list = append(list, w.data)
	}
	return list
}

func (b *bench) say(text string) {
	b.t.Helper()
	if _, err := b.core.say(b.now, text); err != nil {
		b.t.Fatal(err)
	}
	b.act()
}

// TestAfterOK: the OK stands alone, and nothing follows before 300 ms, unless
// the client speaks; then no two messages within 100 ms.
func TestAfterOK(t *testing.T) {
	for _, speaks := range []bool{false, true} {
		b := newBench(t)
		talker := b.join("10.0.0.9")
		b.pass(time.Second)
		id := b.join("10.0.0.2")
		ok := b.now.Sub(t0)
		if got := b.data(id); !slices.Equal(got, []string{okLine}) {
			t.Fatalf("wrote %q", got)
		}
		if speaks {
			b.recv(id, "SEND 5 hello\n\n")
		}
		for i := range 5 {
			b.recv(talker, fmt.Sprintf("SEND %d text\n\n", 10+i))
		}
		b.pass(5 * time.Second)
		w := b.writes[id]
		if len(w) != 6 {
			t.Fatalf("wrote %q", b.data(id))
		}
		if first := w[1].at - ok; !speaks && first < 300*time.Millisecond || speaks && first >= 300*time.Millisecond {
			t.Errorf("speaks %v: %v after the OK", speaks, first)
		}
		for i := 1; i < len(w); i++ {
			if gap := w[i].at - w[i-1].at; gap < 100*time.Millisecond {
				t.Errorf("%q %v after %q", w[i].data, gap, w[i-1].data)
			}
		}
	}
}

// TestClient: hello alone, then after the OK a bare BACKCONNECT, and silence
// enough to end it.
func TestClient(t *testing.T) {
	b := newBench(t)
	if err := b.core.connect(b.now, ip("10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	b.act()
	d := b.dials[0]
	b.core.dialed(b.now, d.id, here, nil)
	b.pass(time.Second)
	if got := b.data(d.id); !slices.Equal(got, []string{helloLine}) {
		t.Fatalf("wrote %q before the OK", got)
	}
	b.recv(d.id, "INFO2/OK") // ends by silence
	b.pass(5 * time.Second)
	want := []string{helloLine, "BACKCONNECT 10.0.0.1", friendRequestLine}
	if got := b.data(d.id); !slices.Equal(got, want) {
		t.Fatalf("wrote %q", got)
	}
	if w := b.writes[d.id]; w[2].at-w[1].at < 300*time.Millisecond {
		t.Errorf("%v after a message without terminator", w[2].at-w[1].at)
	}
}

// TestHandshakes: who gets in and who does not.
// Among friends alone nobody is asked whom he knows, and nothing wakes a servent that
// has nothing to say; an open one looks around.
func TestClosed(t *testing.T) {
	for _, closed := range []bool{true, false} {
		b := newBench(t)
		b.core.topology.closed = closed
		id := b.join("198.51.100.1")
		b.pass(6 * time.Hour)
		asked := slices.ContainsFunc(b.data(id), func(s string) bool { return strings.HasPrefix(s, "FRIEND") })
		if asked == closed {
			t.Errorf("closed %v: asked %v: %q", closed, asked, b.data(id))
		}
		if at := b.core.next(b.now); closed && !at.IsZero() {
			t.Errorf("a closed servent wakes in %v", at.Sub(b.now))
		}
	}
}

func TestHandshakes(t *testing.T) {
	for in, want := range map[string]Counter{
		"SEND 123456 hi\n\n":      BadHandshake,
		"INFO2 CONNECT/0.0\n\n":   BadHandshake,
		"INFO2 OK\n\n":            BadHandshake,
		strings.Repeat("x", 5000): TooLong,
		"":                        HandshakeLate,
	} {
		b := newBench(t)
		id := b.accept("10.0.0.2")
		b.recv(id, in)
		b.pass(time.Minute)
		if !b.closed[id] || b.core.fx.counters[want] != 1 || len(b.writes[id]) != 0 {
			t.Errorf("%.20q: closed %v, %v", in, b.closed[id], b.core.fx.counters.nonZero())
		}
	}
	// As a client, anything but an OK.
	for _, in := range []string{"INFO2 BUSY\n\n", "SSH-2.0-x\r\n", helloLine, ""} {
		b := newBench(t)
		_ = b.core.connect(b.now, ip("10.0.0.2"))
		b.act()
		b.core.dialed(b.now, b.dials[0].id, here, nil)
		b.recv(b.dials[0].id, in)
		b.pass(11 * time.Second)
		if !b.closed[b.dials[0].id] || b.core.fx.counters[DialsFailed] != 1 {
			t.Errorf("%q: %v", in, b.core.fx.counters.nonZero())
		}
		if h := b.core.hosts.byAddr[ip("10.0.0.2")]; h.failures != 1 || h.next.Before(b.now.Add(pauseFirst-time.Minute)) {
			t.Errorf("%q: no pause", in)
		}
	}
}

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

// TestReadBudget: pieces and bytes count, whatever they mean; who sends a byte at a
// time is cut off, and its bytes cost no more than others'.
func TestReadBudget(t *testing.T) {
	for _, c := range []struct {
		name  string
		piece string
		every time.Duration
		cut   bool
	}{
		{"5500 one-byte segments a second", "A", time.Second / 5500, true},
		{"the same of newlines", "\n", time.Second / 5500, true},
		{"full segments", strings.Repeat("\n", 1400), time.Second / 20, true},
		{"somebody who types", "\nA", time.Second / 15, false},
		{"messages at the rate that is allowed, in ten pieces each", "SEND 1 a", time.Second / 20, false},
	} {
		b := newBench(t)
		b.core.topology.closed = true
		id := b.join("10.0.0.2")
		events := 0
		for b.now.Sub(t0) < 30*time.Second && !b.closed[id] {
			b.recv(id, c.piece)
			b.pass(c.every)
			events++
			if events%100 == 0 && !c.cut {
				b.pass(2 * silence) // a message's end
			}
		}
		if b.closed[id] != c.cut || (b.core.fx.counters[FloodersCut] == 1) != c.cut {
			t.Errorf("%s: closed %v after %d pieces: %v", c.name, b.closed[id], events, b.core.fx.counters.nonZero())
		}
		if c.cut && events > 1000 {
			t.Errorf("%s: %d pieces were taken", c.name, events)
		}
		if _, ok := b.core.accepted(b.now, ip("10.0.0.2"), here); ok == c.cut {
			t.Errorf("%s: accepted again: %v", c.name, ok)
		}
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

// TestEarlyEnd: a host that closes our link early rests for a minute, then two;
// one that has kept it for long is not to blame.
func TestEarlyEnd(t *testing.T) {
	b := newBench(t)
	a := ip("10.0.0.2")
	for i, c := range []struct{ stays, rests time.Duration }{
		{settleTime, pauseShort}, {settleTime, 2 * pauseShort}, {young, askAgain}, {settleTime, pauseShort},
	} {
		b.core.topology.filling = true
		b.core.hosts.add(b.now, a, netip.Addr{})
		b.core.pump(b.now)
		b.act()
		id, _ := b.answerDial()
		b.pass(c.stays)
		b.eof(id)
		if rests := b.core.hosts.byAddr[a].next.Sub(b.now); rests != c.rests {
			t.Errorf("%d: rests for %v, want %v", i, rests, c.rests)
		}
		b.pass(c.rests - time.Second)
		if len(b.dials) != 0 {
			t.Errorf("%d: dialled too early", i)
		}
		b.pass(time.Second)
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

// TestHalfClosed: who ends its half having only greeted goes on listening.
func TestHalfClosed(t *testing.T) {
	b := newBench(t)
	id := b.accept("10.0.0.2")
	b.recv(id, helloLine)
	b.eof(id)
	b.pass(time.Second)
	b.say("can you hear me?")
	b.pass(time.Second)
	if got := b.data(id); len(got) != 2 || b.closed[id] {
		t.Errorf("wrote %q, closed %v", got, b.closed[id])
	}
	// One that has sent its message and closed is gone.
	id = b.join("10.0.0.3")
	b.recv(id, "SEND 5 hi")
	b.eof(id)
	if !b.closed[id] || !slices.Contains(b.heard, "hi") {
		t.Error("not closed, or not heard")
	}
}

// TestFairQueue: a neighbour with a thousand waiting messages delays another's,
// and ours, by one message each.
func TestFairQueue(t *testing.T) {
	var o outbox
	text := []byte(strings.Repeat("x", 40))
	for range 1000 {
		o.push(outgoing{from: 7, due: t0, data: text})
	}
	o.push(outgoing{from: 8, due: t0.Add(time.Second), data: []byte("theirs")})
	o.push(outgoing{from: ownMessage, due: t0.Add(time.Second), data: []byte("ours")})
	o.push(outgoing{from: protocol, due: t0.Add(time.Second), data: []byte("protocol")})
	var order []string
	for range 6 {
		m, ok := o.pop(t0.Add(2 * time.Second))
		if !ok {
			t.Fatal("nothing")
		}
		order = append(order, string(m.data[:4]))
	}
	if !slices.Contains(order[:1], "prot") || !slices.Contains(order[:4], "thei") || !slices.Contains(order[:4], "ours") {
		t.Errorf("order %q", order)
	}
}

// TestQueueBound: over 64 KiB, the origin with the most loses until 32 KiB are
// free; others lose nothing.
func TestQueueBound(t *testing.T) {
	var o outbox
	kib := make([]byte, 1024)
	displaced := 0
	for i := range 200 {
		displaced += o.push(outgoing{from: 7, due: t0, data: kib})
		if i < 5 {
			displaced += o.push(outgoing{from: 8, due: t0, data: kib})
		}
		if o.bytes > queueMax {
			t.Fatalf("%d bytes", o.bytes)
		}
	}
	others, sum := 0, 0
	for _, m := range o.list {
		sum += len(m.data)
		if m.from == 8 {
			others++
		}
	}
	if others != 5 || sum != o.bytes || displaced+len(o.list) != 205 || o.bytes < queueLow-1024 {
		t.Errorf("%d of the other's left, %d displaced, %d bytes counted, %d there", others, displaced, o.bytes, sum)
	}
}

// TestDelay has a mean of 150 ms and a maximum of 600.
func TestDelay(t *testing.T) {
	b := newBench(t)
	var sum, most time.Duration
	const n = 100000
	for range n {
		d := b.core.flood.delay()
		sum += d
		most = max(most, d)
		if d < 0 {
			t.Fatal(d)
		}
	}
	if mean := sum / n; mean < 148*time.Millisecond || mean > 152*time.Millisecond || most > delayMax {
		t.Errorf("mean %v, at most %v", mean, most)
	}
}

// TestDialBudget: five at once at first, then one a second, never more than
// four under way; a failure rests for 15 minutes, then 30.
func TestDialBudget(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		b.core.hosts.add(b.now, netip.AddrFrom4([4]byte{20, byte(i), 0, 1}), netip.Addr{})
	}
	b.core.pump(b.now)
	b.act()
	if len(b.dials) != dialsAtOnce {
		t.Fatalf("%d dials at once", len(b.dials))
	}
	tried := make(map[netip.Addr][]time.Duration)
	count := 0
	for range 3 * 3600 {
		for _, d := range b.dials {
			count++
			tried[d.addr] = append(tried[d.addr], b.now.Sub(t0))
			b.core.dialed(b.now, d.id, netip.Addr{}, errSim)
		}
		b.dials = nil
		b.pass(time.Second)
		if limit := int(b.now.Sub(t0).Seconds()) + int(dialBurst); count > limit {
			t.Fatalf("%d dials after %v", count, b.now.Sub(t0))
		}
	}
	for a, at := range tried {
		if len(at) != hearsayTries || at[1]-at[0] < pauseFirst || at[2]-at[1] < 2*pauseFirst {
			t.Errorf("%v dialled at %v", a, at)
		}
	}
	if len(tried) != 20 {
		t.Errorf("%d hosts tried", len(tried))
	}
}

// TestNeverDialled has the addresses that are refused, and who may name private
// ones.
func TestNeverDialled(t *testing.T) {
	b := newBench(t)
	b.core.reach.learn(here)
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		"::", "::1", "ff02::1", "10.0.0.1",
	} {
		if b.core.reach.dialable(ip(a)) {
			t.Errorf("%s would be dialled", a)
		}
		if err := b.core.connect(b.now, ip(a)); err == nil {
			t.Errorf("connect to %s", a)
		}
	}
	for _, c := range []struct {
		teller, addr string
		may          bool
	}{
		{"10.0.0.2", "10.9.0.1", true}, {"198.51.100.1", "10.9.0.1", false}, {"192.168.1.2", "10.9.0.1", false},
		{"10.0.0.2", "198.51.100.1", true}, {"fd00::1", "fd12::1", true}, {"2001:db8::1", "fd12::1", false},
		{"172.16.0.1", "172.31.0.1", true}, {"172.32.0.1", "172.31.0.1", false}, {"100.64.0.1", "100.100.0.1", true},
	} {
		if got := mayTell(ip(c.teller), ip(c.addr)); got != c.may {
			t.Errorf("%s names %s: %v", c.teller, c.addr, got)
		}
	}
	b.core.wake(b.now)
	if !b.core.reach.dialable(here) {
		t.Error("what was our address is never dialled again, though the network has changed")
	}
	b.core.reach.loopback = true
	if !b.core.reach.dialable(ip("127.0.0.1")) {
		t.Error("loopback is not dialled though allowed")
	}
}

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

// TestUnknownKeywords: five close the link.
func TestUnknownKeywords(t *testing.T) {
	b := newBench(t)
	id := b.join("10.0.0.2")
	for i := range unknownMax {
		if b.closed[id] {
			t.Fatalf("closed after %d", i)
		}
		b.recv(id, "HELP ME\n\n")
	}
	if !b.closed[id] || b.core.fx.counters[DroppedUnknown] != unknownMax {
		t.Error("still open")
	}
}

// TestPrune: more than seven links for 20 s lose the least useful, never a friend.
func TestPrune(t *testing.T) {
	b := newBench(t)
	b.core.hosts.setFriends([]netip.Addr{ip("10.0.1.2")})
	var ids []linkID
	for i := range 10 {
		ids = append(ids, b.join(fmt.Sprintf("10.0.1.%d", i)))
	}
	for i, id := range ids {
		if i != 2 && i != 5 { // these two bring nothing
			for n := range 4 {
				b.recv(id, fmt.Sprintf("SEND %d x\n\n", 100+10*i+n))
			}
		}
	}
	for _, id := range ids[7:9] { // and these only what is known
		for n := range 4 {
			b.recv(id, fmt.Sprintf("SEND %d x\n\n", 100+n))
		}
	}
	b.pass(settleTime - time.Second)
	if len(b.closed) != 0 {
		t.Fatalf("closed %v at once", b.closed)
	}
	b.pass(2 * time.Second)
	if len(b.closed) != 3 || !b.closed[ids[5]] || !b.closed[ids[7]] || !b.closed[ids[8]] {
		t.Errorf("closed %v of %v", b.closed, ids)
	}
	if len(b.core.links.settled()) != linksHigh {
		t.Errorf("%d links", len(b.core.links.settled()))
	}
}

// TestNewcomers find a place in a full network; but strangers who keep coming
// cannot take the links that we chose.
func TestNewcomers(t *testing.T) {
	b := newBench(t)
	var ours []linkID
	for i := range 3 {
		_ = b.core.connect(b.now, netip.AddrFrom4([4]byte{20, byte(i), 0, 1}))
		b.pass(2 * time.Second)
		id, _ := b.answerDial()
		ours = append(ours, id)
	}
	var strangers []linkID
	for i := range 40 {
		strangers = append(strangers, b.join(netip.AddrFrom4([4]byte{30, byte(i), 0, 1}).String()))
		// The old ones are of middling use.
		for n, id := range strangers[:min(i, 4)] {
			b.recv(id, fmt.Sprintf("SEND %d x\n\n", 1000*n+i))
			b.recv(id, fmt.Sprintf("SEND %d x\n\n", 1000*n+i))
		}
		b.pass(settleTime + time.Second)
		if i > 4 && b.closed[strangers[i]] {
			t.Fatalf("stranger %d has found no place", i)
		}
	}
	for _, id := range ours {
		if b.closed[id] {
			t.Error("strangers have taken the place of a link that we chose")
		}
	}
	if n := len(b.core.links.settled()); n != linksHigh {
		t.Errorf("%d links", n)
	}
}

// TestLogoff: from the other end it closes the link; of what is known already, or
// about somebody else, not.
func TestLogoff(t *testing.T) {
	b := newBench(t)
	id, other := b.join("10.0.0.2"), b.join("10.0.0.3")
	b.recv(other, "LOGOFF 5 10.0.0.2\n\n")
	if b.closed[id] || !b.core.links.find(id).said.suspect {
		t.Error("relayed: closed, or not suspected")
	}
	b.recv(id, "LOGOFF 5 10.0.0.2\n\n") // it forwards what is forged about it
	if b.closed[id] || b.core.links.find(id).said.suspect {
		t.Error("forwarded by the victim: closed, or suspected though it speaks")
	}
	b.recv(other, "LOGOFF 6 10.0.0.1\n\n")
	if b.core.fx.counters[LogoffForged] != 1 {
		t.Error("about ourselves: not seen")
	}
	b.pass(time.Second)
	for _, w := range b.data(id) {
		if strings.HasPrefix(w, "LOGOFF 000006") {
			t.Error("about ourselves: forwarded")
		}
	}
	b.recv(id, "LOGOFF 7 10.0.0.2\n\n")
	b.pass(time.Second)
	if got := b.data(other); !b.closed[id] || !slices.Contains(got, "LOGOFF 000007 10.0.0.2\n\n") {
		t.Errorf("from itself: closed %v, others got %q", b.closed[id], got)
	}
}

// TestLeaving: the LOGOFF waits for the pause after the last message, and for
// nothing else.
func TestLeaving(t *testing.T) {
	b := newBench(t)
	id, other := b.join("10.0.0.2"), b.accept("10.0.0.3")
	b.pass(time.Second)
	b.recv(id, friendRequestLine)
	for range 5 {
		b.say("lost")
	}
	b.core.logoff(b.now)
	b.pass(leaveTimeout)
	w := b.writes[id]
	last := w[len(w)-1]
	if len(w) != 3 || !strings.HasPrefix(last.data, "LOGOFF ") || !strings.HasSuffix(last.data, " 10.0.0.1\n\n") || last.at-w[1].at < bareGap {
		t.Errorf("wrote %v", w)
	}
	if !b.closed[id] || !b.closed[other] || len(b.writes[other]) != 0 || b.core.fx.counters[DroppedClosed] != 5 {
		t.Errorf("closed %v, %v", b.closed, b.core.fx.counters.nonZero())
	}
	if _, ok := b.core.accepted(b.now, ip("10.0.0.4"), here); ok {
		t.Error("takes a connection on its way out")
	}
}

// TestMemory: ten minutes, and 4096 at most.
func TestMemory(t *testing.T) {
	m := newMemory()
	key := func(i int) memoryKey { return memoryKey{kindSend, midOf(uint32(i))} }
	for i := range 5000 {
		m.add(t0, key(i), "x")
	}
	if known, _ := m.recall(t0, key(903), "x"); known || len(m.texts) != rememberMax {
		t.Errorf("remembers %d", len(m.texts))
	}
	if known, other := m.recall(t0.Add(rememberFor-1), key(904), "y"); !known || !other {
		t.Error("forgot too early, or takes one text for another")
	}
	if known, _ := m.recall(t0, memoryKey{kindLogoff, midOf(4999)}, "x"); known {
		t.Error("a SEND silences a LOGOFF")
	}
	if known, _ := m.recall(t0.Add(rememberFor), key(4999), "x"); known || len(m.texts) != 0 {
		t.Error("remembers for too long")
	}
}

// TestFloodersBanned by address, over many connections; and the table of
// sources keeps its bound, the banned ones last to go.
func TestFloodersBanned(t *testing.T) {
	b := newBench(t)
	var banned bool
	for i := range 200 {
		id, ok := b.core.accepted(b.now, ip("10.0.0.2"), here)
		if !ok {
			banned = b.core.fx.counters[FloodersCut] == 1
			break
		}
		b.recv(id, helloLine+fmt.Sprintf("SEND %d x\n\nSEND %d y\n\nSEND %d z\n\nSEND %d zz\n\nSEND %d zzz\n\n", i, 1000+i, 2000+i, 3000+i, 4000+i))
		b.eof(id)
		b.pass(100 * time.Millisecond)
	}
	if !banned {
		t.Errorf("not banned: %v", b.core.fx.counters.nonZero())
	}
	for i := range 3000 {
		b.core.sources.get(b.now.Add(time.Second), netip.AddrFrom4([4]byte{30, byte(i >> 8), byte(i), 1}))
	}
	if !b.core.sources.get(b.now.Add(2*time.Second), ip("10.0.0.2")).isBanned(b.now) || len(b.core.sources.byAddr) > sourcesMax {
		t.Error("many others made us forget the ban, or the table grew")
	}
	b.pass(banFor)
	if _, ok := b.core.accepted(b.now, ip("10.0.0.2"), here); !ok {
		t.Error("banned for ever")
	}
}

// FuzzCore feeds random events: no panic, no work left for the same moment, no
// bound exceeded.
func FuzzCore(f *testing.F) {
	f.Add(uint64(1), []byte("SEND 1 a\n\nFRIEND REQUEST\n\n10.0.0.3\n\nLOGOFF 2 10.0.0.2\n\nBACKCONNECT 10.0.0.2"))
	f.Add(uint64(2), []byte(helloLine+"SEND 1 a\x00SEND 2 b\n\n"))
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t)
		var ids []linkID
		for range 30 {
			pick := func() linkID {
				if len(ids) == 0 {
					return 99
				}
				return ids[rng.IntN(len(ids))]
			}
			for _, d := range b.dials {
				ids = append(ids, d.id)
			}
			b.dials = nil
			switch rng.IntN(10) {
			case 0:
				if id, ok := b.core.accepted(b.now, netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(20))}), here); ok {
					ids = append(ids, id)
				}
			case 1:
				b.core.dialed(b.now, pick(), here, nil)
			case 2:
				b.core.dialed(b.now, pick(), netip.Addr{}, errSim)
			case 3, 4:
				b.recv(pick(), []string{helloLine, okLine, "BACKCONNECT x"}[rng.IntN(3)])
			case 5:
				i := rng.IntN(len(data) + 1)
				b.recv(pick(), string(data[i:]))
			case 6:
				b.eof(pick())
			case 7:
				b.core.failed(b.now, pick())
			case 8:
				_, _ = b.core.say(b.now, "x")
				_ = b.core.connect(b.now, netip.AddrFrom4([4]byte{10, 0, 1, byte(rng.IntN(20))}))
			case 9:
				b.pass(time.Duration(rng.Int64N(int64(20 * time.Second))))
			}
			b.act()
			checkBounds(t, &simNode{core: b.core})
		}
		b.pass(time.Minute)
		b.core.logoff(b.now)
		b.pass(leaveTimeout)
		if len(b.core.links.list) != 0 {
			t.Fatalf("%d links after the LOGOFF", len(b.core.links.list))
		}
	})
}

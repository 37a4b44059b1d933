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

// TestClosed: among friends alone nobody is asked which hosts it knows, and nothing
// wakes a servent that has nothing to say; an open one looks around.
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

// TestHandshakes: who gets in and who does not.
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

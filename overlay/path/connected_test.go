package path

import (
	"fmt"
	"testing"
	"time"

	"anodenet/overlay/link"
)

// by returns a way of another kind.
func by(k link.Kind, w Way) Way {
	w.Endpoint.Kind = k
	return w
}

// TestPreference: of two ways that work, the better kind is used, whichever came first.
func TestPreference(t *testing.T) {
	order := []Way{
		way("192.0.2.1:1"), by(link.Ethernet, way("192.0.2.1:2")), by(link.TCP, way("192.0.2.1:3")), via("192.0.2.9:1", 9),
		by(link.HTTP, way("192.0.2.1:4")), by(link.TCP, via("192.0.2.9:2", 9)), by(link.HTTP, via("192.0.2.9:3", 9)),
	}
	for k := range order {
		for j := range order[k+1:] {
			good, bad := order[k], order[k+1+j]
			t.Run(fmt.Sprintf("%v before %v", good.Endpoint, bad.Endpoint), func(t *testing.T) {
				n := newNet(t)
				n.alive[good], n.alive[bad] = 20*ms, 10*ms
				n.s.Add(n.now, bad, Static, false)
				n.run(5 * time.Second)
				n.s.Best()
				n.s.Add(n.now, good, Static, false)
				n.run(time.Second)
				if n.state(good) != Confirmed {
					n.run(connectBeside)
				}
				for range 8 {
					n.s.Best()
					n.run(time.Second)
				}
				if n.best() != good {
					t.Errorf("%v is used", n.best())
				}
			})
		}
	}
}

// TestConnectionsWait: how long a connection waits for UDP.
func TestConnectionsWait(t *testing.T) {
	udp, tcp, http, relay := way("192.0.2.1:1"), by(link.TCP, way("192.0.2.1:1")), by(link.HTTP, way("192.0.2.1:2")), via("192.0.2.9:1", 9)
	const never = time.Hour
	for _, c := range []struct {
		name    string
		ways    []Way
		alive   []Way
		blocked bool
		tcp     time.Duration // since the first need
		http    time.Duration
	}{
		{"UDP answers", []Way{udp, tcp, http}, []Way{udp}, false, never, never},
		{"UDP is silent", []Way{udp, tcp, http}, []Way{tcp}, false, connectAfter, never},
		{"UDP and TCP are silent", []Way{udp, tcp, http}, []Way{http}, false, connectAfter, connectAfter + connectHTTP},
		{"it was silent here before", []Way{udp, tcp, http}, []Way{http}, true, 0, connectHTTP},
		{"no UDP is known", []Way{tcp}, nil, false, connectSoon, never},
		{"HTTP alone", []Way{udp, http}, nil, false, never, connectAfter},
		{"a relay answers by UDP", []Way{udp, tcp, http, relay}, []Way{relay}, false, connectBeside, never},
		{"a relay answers by TCP", []Way{udp, tcp, by(link.TCP, relay)}, []Way{by(link.TCP, relay)}, false, connectAfter, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(t)
			n.s.Blocked = func() bool { return c.blocked }
			for _, w := range c.alive {
				n.alive[w] = 20 * ms
			}
			for _, w := range c.ways {
				n.s.Add(n.now, w, Static, false)
			}
			first := map[Way]time.Duration{tcp: never, http: never}
			for began := n.now; n.now.Sub(began) < 6*time.Second; {
				n.run(10 * ms)
				n.s.Best()
				for w, at := range first {
					if n.sent[w] > 0 && at == never {
						first[w] = n.now.Sub(began)
					}
				}
			}
			for w, want := range map[Way]time.Duration{tcp: c.tcp, http: c.http} {
				if d := first[w] - want; d < 0 || d > 20*ms {
					t.Errorf("%v after %v, want %v", w.Endpoint, first[w], want)
				}
			}
		})
	}
}

// TestConnectionsReplaceUDP: UDP that falls silent is replaced at once, asked again, and used when
// it has worked for a while.
func TestConnectionsReplaceUDP(t *testing.T) {
	n := newNet(t)
	udp, tcp := way("192.0.2.1:1"), by(link.TCP, way("192.0.2.1:1"))
	n.confirm(udp, Static, false, 20*ms)
	n.alive[tcp] = 40 * ms
	n.s.Add(n.now, tcp, Static, false)
	n.run(10 * time.Second)
	if n.sent[tcp] != 0 || !n.s.Spare() {
		t.Fatalf("%d requests by TCP while UDP works", n.sent[tcp])
	}
	n.s.Flows(n.now, true)
	delete(n.alive, udp)
	n.s.Check(n.now, udp)
	n.run(3*firstRetry + 60*ms)
	if n.best() != tcp {
		t.Fatalf("%v is used, and UDP is silent", n.best())
	}
	step := func(d time.Duration) {
		for end := n.now.Add(d); n.now < end; {
			n.run(50 * ms)
			n.s.Best()
		}
	}
	step(10 * time.Second)
	asked := n.sent[udp]
	step(time.Minute)
	if k := n.sent[udp] - asked; k < 8 || k > 30 {
		t.Errorf("%d requests by UDP in a minute", k)
	}
	for round := range 4 { // it comes for 3 s, and goes
		n.alive[udp] = 20 * ms
		step(3 * time.Second)
		if n.best() != tcp {
			t.Errorf("round %d: UDP is used after 3 s", round)
		}
		delete(n.alive, udp)
		step(5 * time.Second)
	}
	n.alive[udp] = 20 * ms
	began := n.now
	for n.best() != udp && n.now.Sub(began) < time.Minute {
		step(50 * ms)
	}
	if d := n.now.Sub(began); d < trialFor || d > 14*time.Second {
		t.Errorf("back on UDP after %v", d)
	}
}

// TestTrialNeedsLargePackets: a way by UDP that carries small packets alone is not used in place of
// a connection, and costs little.
func TestTrialNeedsLargePackets(t *testing.T) {
	n := newNet(t)
	udp, tcp := way("192.0.2.1:1"), by(link.TCP, way("192.0.2.1:1"))
	n.confirm(tcp, Heard, false, 20*ms) // the other side opened it
	n.s.Best()
	n.alive[udp] = 20 * ms
	n.s.Add(n.now, udp, Static, false)
	n.run(100 * ms)
	n.s.Judge(func(i *Info) Fitness {
		if i.Endpoint.Kind == link.UDP {
			return Unproven
		}
		return Fit
	})
	for range 60 {
		n.s.Best()
		n.run(time.Second)
	}
	if n.best() != tcp {
		t.Errorf("%v is used", n.best())
	}
	before := n.total
	n.run(10 * time.Minute)
	if k := n.total - before; k > 25 {
		t.Errorf("%d requests in ten minutes", k)
	}
}

// TestConnectionEnds: what follows when a connection ends, or does not come about.
func TestConnectionEnds(t *testing.T) {
	udp, tcp := way("192.0.2.1:1"), by(link.TCP, way("192.0.2.1:1"))
	theirs := tcp
	theirs.Endpoint.Conn = 7

	t.Run("it does not come about", func(t *testing.T) {
		n := newNet(t)
		n.s.Add(n.now, tcp, Static, false)
		n.run(connectSoon + 10*ms)
		n.s.Ended(n.now, tcp.Endpoint)
		if n.state(tcp) != Failed {
			t.Errorf("it is %v", n.state(tcp))
		}
	})
	t.Run("in use", func(t *testing.T) {
		n := newNet(t)
		n.alive[tcp] = 20 * ms
		n.s.Add(n.now, tcp, Static, false)
		n.run(connectAfter)
		n.s.Best()
		sent := n.sent[tcp]
		n.s.Ended(n.now, tcp.Endpoint)
		n.run(10 * ms)
		if n.sent[tcp] != sent+1 || n.best() != tcp {
			t.Errorf("it is not opened again")
		}
		n.s.Ended(n.now, tcp.Endpoint) // that fails
		if n.state(tcp) != Failed {
			t.Errorf("it is %v", n.state(tcp))
		}
	})
	t.Run("not in use", func(t *testing.T) {
		n := newNet(t)
		n.alive[tcp] = 20 * ms
		n.s.Add(n.now, tcp, Static, false)
		n.run(connectAfter)
		n.confirm(udp, Static, false, 10*ms)
		n.s.Best()
		sent := n.sent[tcp]
		n.s.Ended(n.now, tcp.Endpoint)
		n.run(time.Minute)
		if n.sent[tcp] != sent {
			t.Error("it is opened again")
		}
	})
	t.Run("the other side's", func(t *testing.T) {
		n := newNet(t)
		n.confirm(theirs, Heard, false, 20*ms)
		n.s.Ended(n.now, theirs.Endpoint)
		if n.s.find(theirs) != nil {
			t.Error("it is kept")
		}
	})
}

// TestOneConnection: both sides use the connection that the one with the lower address opened.
func TestOneConnection(t *testing.T) {
	ours, theirs := by(link.TCP, way("192.0.2.1:1")), by(link.TCP, way("192.0.2.1:4711"))
	theirs.Endpoint.Conn = 1
	for _, lower := range []bool{false, true} {
		n := newNet(t)
		n.s.Lower = lower
		n.alive[ours], n.alive[theirs] = 20*ms, 20*ms
		n.s.Add(n.now, ours, Static, false)
		n.run(connectAfter)
		n.s.Best()
		n.confirm(theirs, Heard, false, 20*ms)
		if (n.best() == ours) != lower {
			t.Errorf("lower %v: %v is used", lower, n.best().Endpoint)
		}
	}
}

// TestCameByConnection: what came by a connection needs no other one, so nothing waits.
func TestCameByConnection(t *testing.T) {
	for name, first := range map[string]Origin{"new": Heard, "waiting": Static} {
		n := newNet(t)
		tcp := by(link.TCP, way("192.0.2.1:1"))
		n.s.Add(n.now, tcp, first, false)
		n.s.Add(n.now, tcp, Heard, false)
		n.run(10 * ms)
		if n.sent[tcp] != 1 {
			t.Errorf("%s: %d requests", name, n.sent[tcp])
		}
	}
}

// TestDeadConnection: a connection that we opened, and by which nothing comes any more, is ended and
// opened again; one by which something comes, or that the other side opened, is not.
func TestDeadConnection(t *testing.T) {
	ours := by(link.TCP, way("192.0.2.1:1"))
	theirs := ours
	theirs.Endpoint.Conn = 7
	for _, c := range []struct {
		name  string
		way   Way
		heard bool
		dead  int
	}{{"silent", ours, false, 1}, {"answers are lost", ours, true, 0}, {"the other side's", theirs, false, 0}} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(t)
			dead := 0
			n.s.Dead = func(link.Endpoint) { dead++ }
			n.alive[c.way] = 20 * ms
			n.s.Add(n.now, c.way, Static, false)
			n.run(time.Second)
			n.s.Best()
			delete(n.alive, c.way)
			n.s.Check(n.now, c.way)
			for range 75 {
				n.run(100 * ms)
				if c.heard {
					n.s.Heard(n.now, c.way.Endpoint, c.way.Via)
				}
			}
			if dead != c.dead {
				t.Errorf("it was ended %d times", dead)
			}
		})
	}
}

package path

import (
	"testing"
	"time"

	"anodenet/anode"
)

// A new endpoint that answers wins over the old one that is silent, whatever the round
// trips and whoever noticed the move.
func TestMoved(t *testing.T) {
	old, fresh := numbered(1), numbered(2)
	for name, rtt := range map[string][2]time.Duration{
		"quicker": {50 * ms, 10 * ms}, "slower": {10 * ms, 400 * ms}, "far": {600 * ms, 700 * ms},
	} {
		for _, onLink := range []bool{false, true} {
			n := newNet(t)
			n.confirm(old, Told, onLink, rtt[0])
			n.run(time.Minute)
			if n.best() != old {
				t.Fatal("not used")
			}
			delete(n.alive, old)
			n.alive[fresh] = rtt[1]
			n.s.Add(n.now, fresh, Roamed, false)
			n.run(rtt[1] + max(firstRetry, min(2*rtt[0], slowRetry)) + 20*ms)
			if n.best() != fresh {
				t.Errorf("%s: best %v, want the one that answers", name, n.best())
			}
			n.run(time.Minute)
			if n.state(old) == Confirmed {
				t.Errorf("%s: the old one is %v", name, n.state(old))
			}
			// It is back once it answers and is better.
			n.alive[old] = 5 * ms
			n.s.Add(n.now, old, Roamed, onLink)
			n.run(time.Second)
			if n.best() != old && rtt[1] > 10*ms {
				t.Errorf("%s: best %v, want the better one back", name, n.best())
			}
		}
	}
}

// Two confirmed ways, and the peer is heard on the other only: the one in use is asked,
// left if it does not answer, kept and rarely asked if it does.
func TestHeardElsewhere(t *testing.T) {
	for _, alive := range []bool{true, false} {
		n := newNet(t)
		a, b := numbered(1), numbered(2)
		n.confirm(a, Told, false, 10*ms)
		n.confirm(b, Told, false, 60*ms)
		n.run(time.Minute)
		if n.best() != a {
			t.Fatal("the quicker one is not used")
		}
		if !alive {
			delete(n.alive, a)
		}
		before := n.sent[a]
		for range 10 {
			n.s.Heard(n.now, b.Endpoint, anode.Address{})
			n.run(100 * ms)
		}
		if (n.best() == a) != alive {
			t.Errorf("alive %v: best %v", alive, n.best())
		}
		for range 90 {
			n.s.Heard(n.now, b.Endpoint, anode.Address{})
			n.run(100 * ms)
		}
		if got := n.sent[a] - before; got > 6 {
			t.Errorf("alive %v: asked %d times in 10 s", alive, got)
		}
	}
	// What comes from a relay's endpoint is not heard on the direct way, nor the reverse.
	n := newNet(t)
	n.confirm(numbered(1), Told, false, 10*ms)
	heard := n.s.find(numbered(1)).Heard
	n.s.Heard(n.now, numbered(1).Endpoint, anode.Address{1})
	if n.s.find(numbered(1)).Heard != heard {
		t.Error("heard on a way that the packet did not take")
	}
}

// A pair that reaches each other by a relay moves to a direct way as soon as one works.
func TestRelayedToDirect(t *testing.T) {
	for _, o := range []Origin{Told, Stored, Static} {
		n := newNet(t)
		relayed, direct := via("198.51.100.1:1", 1), numbered(1)
		n.confirm(relayed, Relay, false, 10*ms)
		n.s.Add(n.now, direct, o, false)
		n.run(20 * time.Minute)
		if !n.s.Relayed() || n.state(direct) == 99 {
			t.Fatalf("%v: relayed %v", o, n.s.Relayed())
		}
		if got := n.sent[direct]; got < 3*maxTries || got > 12*maxTries {
			t.Errorf("%v: %d requests in 20 min", o, got)
		}
		n.alive[direct] = 50 * ms
		n.s.Suspect(n.now)
		n.run(time.Second)
		if n.best() != direct || n.s.Relayed() {
			t.Errorf("%v: best %v 1 s after the links changed", o, n.best())
		}
		delete(n.alive, direct)
		n.s.Silent(n.now)
		n.run(20 * time.Second)
		if n.best() != relayed {
			t.Errorf("%v: best %v after the direct way died", o, n.best())
		}
		n.alive[direct] = 50 * ms
		n.run(20 * time.Second)
		if n.best() != direct {
			t.Errorf("%v: best %v after the direct way came back", o, n.best())
		}
	}
}

func TestSilent(t *testing.T) {
	n := newNet(t)
	direct, relayed, failed := numbered(1), via("198.51.100.1:1", 1), numbered(2)
	n.s.Add(n.now, failed, Told, false)
	n.confirm(direct, Told, false, 10*ms)
	n.confirm(relayed, Relay, false, 10*ms)
	n.run(20 * time.Second)
	before, named := n.sent[direct], n.sent[failed]
	for range 100 {
		if relay, checked := n.s.Silent(n.now); checked && relay != (anode.Address{}) {
			t.Fatal("the best way is not relayed")
		}
		n.run(10 * ms)
	}
	if got := n.sent[direct] - before; got != 2 {
		t.Errorf("%d requests in 1 s", got)
	}
	if n.sent[failed] != named {
		t.Error("a way was checked that is not in use")
	}
	delete(n.alive, direct)
	n.run(time.Second)
	n.s.Silent(n.now)
	n.run(300 * ms)
	if n.best() != relayed {
		t.Errorf("best %v", n.best())
	}
	n.run(time.Second)
	if relay, checked := n.s.Silent(n.now); !checked || relay != relayed.Via {
		t.Errorf("relay %v, %v", relay, checked)
	}
}

func TestBest(t *testing.T) {
	relayed, twice, far, near := via("192.0.2.9:1", 1), via("192.0.2.8:1", 2), way("192.0.2.1:1"), way("10.0.0.1:1")
	n := newNet(t)
	for _, c := range []struct {
		w      Way
		o      Origin
		rtt    time.Duration
		onLink bool
	}{{twice, Relay, 40 * ms, false}, {relayed, Relay, 20 * ms, false}, {far, Told, 60 * ms, false}, {near, Told, 90 * ms, true}} {
		n.confirm(c.w, c.o, c.onLink, c.rtt)
		if n.best() != c.w {
			t.Errorf("best %v, want the new %v", n.best(), c.w)
		}
	}
	// It stays with what it has unless another is clearly better.
	n.confirm(way("10.0.0.2:1"), Static, true, 80*ms)
	if n.best() != near {
		t.Errorf("left for %v", n.best())
	}
	// What owes an answer comes last, and is back when it has answered.
	n.run(time.Second)
	delete(n.alive, near)
	delete(n.alive, way("10.0.0.2:1"))
	n.s.Suspect(n.now)
	if n.best() != near {
		t.Errorf("left at once for %v", n.best())
	}
	n.run(300 * ms)
	if n.best() != far {
		t.Errorf("best %v, want the only one that answers", n.best())
	}
	n.alive[near] = 90 * ms
	n.run(time.Second)
	if n.best() != near {
		t.Errorf("best %v, want the near one back", n.best())
	}
}

// A direct way that worked once is tried again like one that the peer names, wherever it
// came from, when it is lost and there is a relay.
func TestLostDirectWay(t *testing.T) {
	n := newNet(t)
	relayed, direct := via("198.51.100.1:1", 1), numbered(1)
	n.confirm(relayed, Relay, false, 10*ms)
	n.confirm(direct, Beacon, false, 50*ms)
	delete(n.alive, direct)
	n.s.Silent(n.now)
	n.run(10 * time.Minute)
	if n.best() != relayed {
		t.Fatalf("best %v", n.best())
	}
	n.alive[direct] = 50 * ms
	n.run(lastRest + 10*time.Second)
	if n.best() != direct {
		t.Errorf("best %v", n.best())
	}
}

// A peer that moves again and again does not fill the set.
func TestMovesOften(t *testing.T) {
	n := newNet(t)
	for k := range 20 {
		n.confirm(numbered(k), Roamed, false, 20*ms)
		n.run(time.Second)
		delete(n.alive, numbered(k))
		if got := len(n.s.ways); got > maxConfirmed+places[Stored]+places[Roamed] {
			t.Fatalf("%d ways after %d moves", got, k+1)
		}
	}
}

// Of two ways that owe an answer, the one from which something else came is used.
func TestHeardWhileAsked(t *testing.T) {
	n := newNet(t)
	a, b := numbered(1), numbered(2)
	n.confirm(a, Told, true, 10*ms)
	n.confirm(b, Told, false, 10*ms)
	n.run(10 * time.Second)
	clear(n.alive)
	n.s.Silent(n.now)
	n.run(100 * ms)
	n.s.Heard(n.now, b.Endpoint, anode.Address{})
	n.run(400 * ms)
	if n.best() != b {
		t.Errorf("best %v", n.best())
	}
}

// When the last direct way fails, others that failed long ago are tried at once.
func TestLastDirectWayFails(t *testing.T) {
	n := newNet(t)
	a, b, relayed := numbered(1), numbered(2), via("198.51.100.1:1", 1)
	n.s.Add(n.now, b, Told, false)
	n.confirm(a, Told, false, 10*ms)
	n.confirm(relayed, Relay, false, 10*ms)
	n.run(5 * time.Minute)
	delete(n.alive, a)
	n.alive[b] = 10 * ms
	n.s.Silent(n.now)
	n.run(9 * time.Second)
	if n.best() != b {
		t.Errorf("best %v", n.best())
	}
}

// A way that is silent is not used again because its check begins anew, whoever began it: only once
// something comes from there.
func TestSilentStaysSilent(t *testing.T) {
	all := func(*Info) bool { return false }
	for name, again := range map[string]func(n *net, w Way){
		"links changed": func(n *net, _ Way) { n.s.Moved(n.now, true, all) },
		"an attempt": func(n *net, w Way) {
			n.s.Punch(n.now, []Target{{Way: w, Origin: Told}}, 20, 100*ms)
		},
	} {
		n := newNet(t)
		direct, relayed := way("192.0.2.1:1"), via("192.0.2.9:1", 9)
		n.confirm(direct, Static, false, 10*ms)
		n.confirm(relayed, Relay, false, 30*ms)
		if n.best() != direct {
			t.Fatalf("%s: %v is used", name, n.best())
		}
		delete(n.alive, direct)
		n.s.Check(n.now, direct)
		n.run(4 * firstRetry)
		for k := range 50 {
			if k == 3 {
				again(n, direct)
			}
			if n.best() != relayed {
				t.Fatalf("%s: %v is used, and it is silent", name, n.best())
			}
			n.run(10 * ms)
		}
		n.alive[direct] = 10 * ms
		n.run(3 * time.Second)
		again(n, direct)
		n.run(time.Second)
		if n.best() != direct {
			t.Errorf("%s: %v is used, and the better one works again", name, n.best())
		}
	}
}

package seal

import (
	"bytes"
	"testing"
	"time"

	"anodenet/anode/wire"
)

func TestFirstMessage(t *testing.T) {
	w, a, b := newWorld(t, 1)
	start := w.now
	a.say("hello")
	w.run(time.Second)
	if len(b.got) != 1 || b.gotAt-start != 30*time.Millisecond {
		t.Fatalf("b got %q after %v, want it after three half round trips", b.got, b.gotAt-start)
	}
	b.say("hi")
	w.run(time.Second)
	if len(a.got) != 1 {
		t.Errorf("a got %q", a.got)
	}
	if a.hellos != 1 || b.hellos != 0 {
		t.Errorf("%d and %d HELLOs", a.hellos, b.hellos)
	}
	x, y := a.set.Current(w.now), b.set.Current(w.now)
	if !sameSession(x, y) || !x.Initiator() || y.Initiator() {
		t.Error("the sides do not use one session")
	}
	if a.set.PeerID() != 5 || b.set.PeerID() != 3 || x.PeerID() != 5 || y.PeerID() != 3 {
		t.Error("the peer IDs")
	}
	if a.set.Unanswered(w.now) != 0 {
		t.Error("a HELLO is unanswered")
	}
}

// Until a packet came in on it, the responder does not send on a session.
func TestKeyConfirmation(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.drop = func(p *packet) bool { return p.sealed != nil }
	a.say("hello")
	w.run(5 * time.Second)
	if a.set.Current(w.now) == nil {
		t.Fatal("the initiator has no session")
	}
	if b.set.Current(w.now) != nil || len(b.set.pending) != 1 {
		t.Error("the responder's session is not pending")
	}
	if b.set.greatest != (Stamp{}) {
		t.Error("the stamp of an unconfirmed HELLO was kept")
	}
	w.drop = nil
	a.say("again")
	w.run(time.Second)
	if len(b.got) != 1 || b.set.Current(w.now) == nil || len(b.set.pending) != 0 {
		t.Error("not confirmed by a packet")
	}
	if b.set.greatest == (Stamp{}) {
		t.Error("the stamp was not kept")
	}
}

// An initiator that has nothing to send confirms by keepalives.
func TestConfirmationByKeepalive(t *testing.T) {
	for _, lost := range []int{0, 1, 2} {
		w, a, b := newWorld(t, 1)
		n := 0
		w.drop = func(p *packet) bool {
			if p.sealed != nil && p.from == a {
				if len(p.sealed) != wire.SealedMin {
					t.Errorf("a sealed %d bytes", len(p.sealed))
				}
				n++
				return n <= lost
			}
			return false
		}
		if err := a.set.Want(w.now); err != nil {
			t.Fatal(err)
		}
		a.tick()
		w.run(2 * time.Second)
		if b.set.Current(w.now) == nil {
			t.Errorf("%d lost: not confirmed", lost)
		}
		if n > maxConfirms {
			t.Errorf("%d lost: %d keepalives", lost, n)
		}
	}
}

func TestBothAtOnce(t *testing.T) {
	for seed := range uint64(50) {
		w, a, b := newWorld(t, seed)
		w.delay = func() time.Duration { return time.Duration(1+w.rand.IntN(30)) * time.Millisecond }
		a.say("from a")
		w.run(time.Duration(w.rand.IntN(20)) * time.Millisecond)
		b.say("from b")
		w.run(3 * time.Second)
		if len(a.got) != 1 || len(b.got) != 1 {
			t.Fatalf("seed %d: a got %q, b got %q", seed, a.got, b.got)
		}
		hellos := a.hellos + b.hellos
		w.chat(10*time.Second, 100*time.Millisecond, a, b)
		x, y := a.set.Current(w.now), b.set.Current(w.now)
		if !sameSession(x, y) {
			t.Errorf("seed %d: the sides use different sessions", seed)
		}
		if len(a.set.live) == 2 && x.Initiator() != a.local.lower(a.set.peer) {
			t.Errorf("seed %d: not the session of the lower address", seed)
		}
		if a.hellos+b.hellos != hellos {
			t.Errorf("seed %d: more HELLOs", seed)
		}
	}
}

func TestLostWelcome(t *testing.T) {
	w, a, b := newWorld(t, 1)
	var hellos, welcomes [][]byte
	w.drop = func(p *packet) bool {
		if p.msg == nil {
			return false
		}
		if p.msg.Type == wire.Hello {
			hellos = append(hellos, p.msg.Body)
			return false
		}
		welcomes = append(welcomes, p.msg.Body)
		return len(welcomes) < 4
	}
	start := w.now
	a.say("hello")
	w.run(5 * time.Second)
	if len(b.got) != 1 {
		t.Fatalf("b got %q", b.got)
	}
	if got := b.gotAt - start; got != (250+500+1000)*time.Millisecond+30*time.Millisecond {
		t.Errorf("after %v", got)
	}
	for i := range hellos {
		if !bytes.Equal(hellos[i], hellos[0]) || !bytes.Equal(welcomes[i], welcomes[0]) {
			t.Errorf("attempt %d differs from the first", i)
		}
	}
	if len(b.set.live) != 1 || len(b.set.pending) != 0 {
		t.Error("one HELLO made several sessions")
	}
}

// Either side forgets everything, again and again, at any moment: what the other
// sends gets through again within 2 s.
func TestRestartedPeer(t *testing.T) {
	for _, talks := range []string{"a", "b", "both"} {
		w, a, b := newWorld(t, 7)
		for i := range 100 {
			w.chat(time.Duration(w.rand.IntN(3000))*time.Millisecond+100*time.Millisecond, 50*time.Millisecond, pick(talks, a, b)...)
			dead := a
			if i%2 == 0 {
				dead = b
			}
			dead.restart()
			live := dead.other
			at := w.now
			dead.gotAt, live.gotAt = 0, 0
			w.chat(2*time.Second, 50*time.Millisecond, pick(talks, a, b)...)
			for _, s := range pick(talks, a, b) {
				if s.other.gotAt < at {
					t.Fatalf("%s talks, restart %d of %s: nothing came in 2 s", talks, i, dead.name)
				}
			}
		}
		if a.hellos+b.hellos > 500 {
			t.Errorf("%s talks: %d HELLOs for 100 restarts", talks, a.hellos+b.hellos)
		}
	}
}

func pick(who string, a, b *side) []*side {
	switch who {
	case "a":
		return []*side{a}
	case "b":
		return []*side{b}
	}
	return []*side{a, b}
}

// Which of several sessions is sent on; times in milliseconds.
func TestCurrent(t *testing.T) {
	type s struct {
		ours                    bool
		began, confirmed, heard time.Duration
		instance                byte // 0: the peer does not say
	}
	_, a, _ := newWorld(t, 1) // a has the lower or the higher address
	lower, higher := a.local.lower(a.set.peer), !a.local.lower(a.set.peer)
	for _, c := range []struct {
		name string
		live []s
		want int
	}{
		{"the newest", []s{{ours: lower, began: 0, confirmed: 10}, {ours: lower, began: 100, confirmed: 110}}, 1},
		{"crossed, lower first", []s{{ours: lower, began: 0, confirmed: 10}, {ours: higher, began: 5, confirmed: 20}}, 0},
		{"crossed, lower last", []s{{ours: higher, began: 0, confirmed: 10}, {ours: lower, began: 5, confirmed: 20}}, 1},
		{"after a restart", []s{{ours: lower, began: 0, confirmed: 10}, {ours: higher, began: 11, confirmed: 20}}, 1},
		{"the old one is still used", []s{{ours: lower, began: 0, confirmed: 10, heard: 21}, {ours: higher, began: 11, confirmed: 20}}, 0},
		{"crossed, long ago", []s{{ours: lower, began: 0, confirmed: 10}, {ours: higher, began: 5, confirmed: 5011}}, 1},
		{"crossed, after a restart", []s{{ours: lower, began: 0, confirmed: 10, instance: 1}, {ours: higher, began: 5, confirmed: 20, instance: 2}}, 1},
		{"crossed, without a restart", []s{{ours: lower, began: 0, confirmed: 10, instance: 1}, {ours: higher, began: 5, confirmed: 20, instance: 1}}, 0},
		{"crossed, one does not say", []s{{ours: lower, began: 0, confirmed: 10}, {ours: higher, began: 5, confirmed: 20, instance: 1}}, 0},
		{"three", []s{{ours: lower, began: 0, confirmed: 10}, {ours: higher, began: 5, confirmed: 20}, {ours: higher, began: 100, confirmed: 110}}, 2},
	} {
		set := NewSet(a.local, a.other.local.Identity.Address(), 0)
		for _, l := range c.live {
			x, _ := pair(t)
			x.initiator, x.announced.Instance = l.ours, wire.Instance{l.instance}
			x.born = time.Hour + l.began*time.Millisecond
			x.life = life{state: confirmed, began: x.born, confirmed: time.Hour + l.confirmed*time.Millisecond}
			if l.heard != 0 {
				x.received.Store(int64(time.Hour + l.heard*time.Millisecond))
			}
			set.live = append(set.live, x)
		}
		if got := set.Current(time.Hour + 6*time.Second); got != set.live[c.want] {
			t.Errorf("%s: not session %d", c.name, c.want)
		}
		for i, x := range set.live {
			if i != len(set.live)-1 {
				x.Erase()
			}
		}
		last := set.live[len(set.live)-1]
		if set.Current(last.born+keyLife-1) != last || set.Current(last.born+keyLife) != nil {
			t.Errorf("%s: not 180 s exactly", c.name)
		}
	}
}

// Four sessions at once: the one in use is not the one to go.
func TestCurrentIsNotEvicted(t *testing.T) {
	_, a, _ := newWorld(t, 1)
	set := NewSet(a.local, a.other.local.Identity.Address(), 5)
	for i := range time.Duration(4) {
		x, _ := pair(t)
		x.initiator = a.local.lower(a.set.peer) == (i == 0)
		x.born = time.Hour
		x.life = life{began: time.Hour}
		set.confirm(time.Hour+i, x)
	}
	if len(set.live) != 3 || len(set.ended) != 1 || set.Current(time.Hour+9) != set.live[0] || set.live[0].life.confirmed != time.Hour {
		t.Error("the session in use was ended for a new one")
	}
}

func TestClose(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.chat(time.Second, 100*time.Millisecond, a, b)
	x := a.set.Current(w.now)
	a.set.Close()
	do, next := a.set.Tick(w.now)
	if !x.Ended() || len(do.Ended) == 0 || next != 0 || !a.set.Empty() {
		t.Error("Close left something")
	}
}

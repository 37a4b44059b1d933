package seal

import (
	"testing"
	"time"

	"anodenet/anode/wire"
)

// hello begins a handshake and returns the body of its HELLO.
func hello(t testing.TB, s *side) []byte {
	t.Helper()
	if err := s.set.begin(s.w.now, nil); err != nil {
		t.Fatal(err)
	}
	return s.set.attempt.message(s.set.peerID).Body
}

// answer takes side s through a handshake that the Set of another machine answers.
func answer(t testing.TB, s *side, by *Set) (ours, theirs *Session) {
	t.Helper()
	reply, y, err := by.OnHello(s.w.now, s.local.PeerID, hello(t, s))
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.set.OnWelcome(s.w.now, by.local.PeerID, reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return x, y
}

// machines are a, which talks with b, and c, which has b's key.
func machines(t testing.TB) (w *world, a, b, c *side) {
	w, a, b = newWorld(t, 1)
	c = w.add("c", 2, 6)
	c.other = a
	c.restart()
	return w, a, b, c
}

// A Set is with one machine, whatever becomes of its sessions.
func TestOneMachine(t *testing.T) {
	for _, gone := range []string{"", "closed", "ended", "silent"} {
		w, a, b, c := machines(t)
		a.say("x")
		w.run(time.Second)
		if a.set.PeerID() != 5 {
			t.Fatal("not with b")
		}
		switch gone {
		case "closed":
			a.set.Close()
			a.set.Tick(w.now)
		case "ended":
			w.run(2 * keyLife)
		case "silent":
			w.drop = func(p *packet) bool { return p.to == a }
			w.chat(10*time.Second, 100*time.Millisecond, a)
		}
		for _, id := range []uint8{6, 0} {
			if reply, x, err := a.set.OnHello(w.now, id, hello(t, c)); reply != nil || x != nil || err != ErrMachine {
				t.Errorf("%s: the HELLO of machine %d: %v", gone, id, err)
			}
		}
		reply, _, err := c.set.OnHello(w.now, 3, hello(t, a))
		if err != nil {
			t.Fatal(err)
		}
		if x, err := a.set.OnWelcome(w.now, 6, reply.Body); x != nil || err != ErrMachine {
			t.Errorf("%s: the WELCOME of another machine: %v", gone, err)
		}
		if a.set.PeerID() != 5 || a.set.attempt.message(a.set.peerID).PeerID != 5 {
			t.Errorf("%s: the machine is %d", gone, a.set.PeerID())
		}
		// The wrong machine's did not spoil anything.
		answer(t, a, b.set)
	}
}

// A Set for any machine is the one of the first that proves to have the keys.
func TestAnyMachine(t *testing.T) {
	w, a, b, c := machines(t)
	if _, _, err := a.set.OnHello(w.now, 0, hello(t, b)); err != ErrMachine {
		t.Errorf("the HELLO of machine 0: %v", err)
	}
	// Two HELLOs: neither is proof, since both may be replayed.
	fromB := hello(t, b)
	reply, x, err := a.set.OnHello(w.now, 5, fromB)
	if err != nil || reply.PeerID != 5 || a.set.PeerID() != 0 {
		t.Fatalf("b's HELLO: %v, the machine is %d", err, a.set.PeerID())
	}
	if _, _, err := a.set.OnHello(w.now, 6, hello(t, c)); err != nil || a.set.PeerID() != 0 {
		t.Fatalf("c's HELLO: %v, the machine is %d", err, a.set.PeerID())
	}
	// Our own is answered by c: b's session is none of this Set's any more.
	answer(t, a, c.set)
	if a.set.PeerID() != 6 || len(a.set.live) != 1 || len(a.set.pending) != 1 || !x.Ended() {
		t.Error("not with c alone")
	}
	a.set.Confirm(w.now, x)
	if a.set.PeerID() != 6 || len(a.set.live) != 1 {
		t.Error("an ended session was confirmed")
	}

	// And by the first packet in a session that a HELLO made.
	_, a, b, _ = machines(t)
	_, x, err = a.set.OnHello(w.now, 5, hello(t, b))
	if err != nil {
		t.Fatal(err)
	}
	a.set.Confirm(w.now, x)
	if a.set.PeerID() != 5 || a.set.Current(w.now) != x || a.set.greatest != x.life.stamp {
		t.Error("not with b")
	}
}

// A Set without a peer ID asked, and a machine answered that has a Set already.
func TestAbsorb(t *testing.T) {
	w, a, b, _ := machines(t)
	w.chat(3*time.Second, 100*time.Millisecond, a)
	old, known := a.set.Current(w.now), a.set
	known.begin(w.now, nil)
	greatest := known.greatest

	a.set = NewSet(a.local, address(b), 0)
	fresh := b.set
	_, replayed, err := a.set.OnHello(w.now, 5, hello(t, b))
	if err != nil {
		t.Fatal(err)
	}
	x, y := answer(t, a, fresh)
	fresh.Confirm(w.now, y)
	any := a.set
	if any.PeerID() != known.PeerID() {
		t.Fatalf("machine %d answered", any.PeerID())
	}
	known.Absorb(w.now, any)
	if known.Current(w.now) != x || len(known.live) != 2 || known.live[0] != old || old.Ended() {
		t.Error("the new session is not used, or the old one is gone")
	}
	if len(known.pending) != 1 || known.pending[0] != replayed || known.greatest != greatest {
		t.Error("pending sessions or stamps are lost")
	}
	if !any.Empty() || any.PeerID() != 0 {
		t.Error("something is left")
	}
	if x.Ended() || !sameSession(x, y) {
		t.Error("the session")
	}
	// Our other HELLO to the machine is of no use now.
	for end := w.now + together + time.Second; w.now < end; w.now += watch {
		if do, _ := known.Tick(w.now); do.GaveUp {
			t.Error("gave up, with a session")
		}
	}
	if known.attempt != nil {
		t.Error("still asking")
	}
	// Bounds hold.
	for range 5 {
		a.set = NewSet(a.local, address(b), 0)
		for range maxPending {
			a.set.OnHello(w.now, 5, hello(t, b))
			w.now++
		}
		answer(t, a, NewSet(b.local, address(a), 3))
		known.Absorb(w.now, a.set)
		if len(known.live) > maxLive || len(known.pending) > maxPending {
			t.Fatalf("%d live, %d pending", len(known.live), len(known.pending))
		}
		w.now += time.Second
	}
}

// Which of several Sets a message answers.
func TestAnswers(t *testing.T) {
	w, a, b, _ := machines(t)
	if a.set.Outstanding(0) {
		t.Error("nothing was asked")
	}
	body := hello(t, a)
	h, err := ParseHello(body)
	if err != nil {
		t.Fatal(err)
	}
	welcome, _, err := b.set.OnHello(w.now, 3, body)
	if err != nil {
		t.Fatal(err)
	}
	cookie := h.Challenge([16]byte{1})
	stale := &Message{Type: wire.Stale, Body: Stale{h.Index, a.set.sent}.Append(nil)}
	for _, m := range []*Message{welcome, cookie, stale} {
		if i, ok := Answers(m.Type, m.Body); !ok || i != h.Index || !a.set.Outstanding(i) || a.set.Outstanding(i+1) {
			t.Errorf("%v answers %d, %v", m.Type, i, ok)
		}
		if _, ok := Answers(m.Type, m.Body[:len(m.Body)/2]); ok {
			t.Errorf("half a %v", m.Type)
		}
	}
	if _, ok := Answers(wire.Hello, body); ok {
		t.Error("a HELLO answers nothing")
	}
	if _, err := a.set.OnWelcome(w.now, 5, welcome.Body); err != nil || a.set.Outstanding(h.Index) {
		t.Errorf("answered, and still outstanding: %v", err)
	}
}

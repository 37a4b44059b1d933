package seal

import (
	"bytes"
	"testing"
	"time"

	"anodenet/anode/wire"
)

func TestGiveUp(t *testing.T) {
	w, a, _ := newWorld(t, 1)
	w.drop = func(*packet) bool { return true }
	a.say("hello")
	w.run(10 * time.Second)
	if got := a.set.Unanswered(w.now); got != 10*time.Second {
		t.Errorf("unanswered for %v", got)
	}
	w.run(19 * time.Second)
	if a.gaveUp != 0 {
		t.Error("gave up too early")
	}
	w.run(2 * time.Second)
	if a.gaveUp != 1 || a.next != 0 || !a.set.Empty() || a.set.Unanswered(w.now) != 0 {
		t.Errorf("gave up %d times, next %v", a.gaveUp, a.next)
	}
	if a.hellos != 5+6 { // 0, .25, .75, 1.75, 3.75, 7.75, 11.75 .. 27.75
		t.Errorf("%d HELLOs", a.hellos)
	}
	// Somebody who goes on wanting gets new handshakes, at the slowest pace.
	a.hellos = 0
	var first []byte
	w.drop = func(p *packet) bool {
		if first == nil {
			first = p.msg.Body
		}
		return true
	}
	for range 100 {
		a.set.Want(w.now)
		a.tick()
		w.run(time.Second)
	}
	if a.gaveUp != 1 || a.hellos < 24 || a.hellos > 34 {
		t.Errorf("%d HELLOs in 100 s, gave up %d times", a.hellos, a.gaveUp)
	}
	if bytes.Equal(a.set.attempt.message(a.set.peerID).Body, first) {
		t.Error("the same HELLO for 100 s")
	}
	w.drop = nil
	w.run(5 * time.Second)
	if a.set.Current(w.now) == nil {
		t.Error("no session once the peer is there")
	}
}

// The path vanishes both ways: the one who sends notices after 1.5 s.
func TestSilentPeer(t *testing.T) {
	for seed := range uint64(20) {
		w, a, b := newWorld(t, seed)
		w.chat(5*time.Second, 70*time.Millisecond, a, b)
		var hello time.Duration
		w.drop = func(p *packet) bool {
			if p.msg != nil && hello == 0 {
				hello = w.now
			}
			return true
		}
		at := w.now
		w.chat(3*time.Second, 70*time.Millisecond, a)
		if hello-at < helloAfter-100*time.Millisecond || hello-at > helloAfter+watch+100*time.Millisecond {
			t.Errorf("HELLO after %v", hello-at)
		}
		w.drop = nil
		w.run(5 * time.Second)
		a.got, b.got = nil, nil
		w.chat(time.Second, 100*time.Millisecond, a, b)
		if len(a.got) < 9 || len(b.got) < 9 {
			t.Errorf("%d and %d came afterwards", len(a.got), len(b.got))
		}
	}
}

// Data one way only: the receiver's keepalives tell that it is there.
func TestOneWayData(t *testing.T) {
	w, a, b := newWorld(t, 1)
	a.say("first")
	w.run(100 * time.Millisecond)
	a.hellos, b.keeps = 0, 0
	said := w.chat(60*time.Second, 20*time.Millisecond, a)
	if a.hellos != 0 {
		t.Errorf("%d HELLOs", a.hellos)
	}
	if b.keeps < 60 || b.keeps > 125 {
		t.Errorf("%d keepalives in 60 s", b.keeps)
	}
	if len(b.got) != said+1 {
		t.Errorf("%d of %d came", len(b.got), said)
	}
	if a.keeps > 1 {
		t.Errorf("%d keepalives of the one who sends", a.keeps)
	}
	// One datagram gets one keepalive, and then all is quiet.
	w.run(10 * time.Second)
	b.keeps, a.ticks, b.ticks = 0, 0, 0
	a.say("one")
	w.run(20 * time.Second)
	if b.keeps != 1 {
		t.Errorf("%d keepalives for one datagram", b.keeps)
	}
	if a.ticks > 30 || b.ticks > 30 {
		t.Errorf("%d and %d ticks", a.ticks, b.ticks)
	}
}

func TestIdleHasNoTimers(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.chat(5*time.Second, 100*time.Millisecond, a, b)
	w.run(5 * time.Second)
	a.ticks, b.ticks = 0, 0
	w.run(165 * time.Second)
	if a.ticks != 0 || b.ticks != 0 {
		t.Errorf("%d and %d ticks while idle", a.ticks, b.ticks)
	}
	x := a.set.Current(w.now)
	w.run(10 * time.Second) // the keys end
	if x == nil || !x.Ended() || !a.set.Empty() || !b.set.Empty() {
		t.Error("keys outlived 180 s")
	}
	if a.next != 0 || b.next != 0 || a.ticks > 2 {
		t.Errorf("next %v and %v after %d ticks", a.next, b.next, a.ticks)
	}
	w.chat(time.Second, 100*time.Millisecond, b)
	if a.gotAt < w.now-500*time.Millisecond {
		t.Error("no new session afterwards")
	}
}

func TestRenewal(t *testing.T) {
	w, a, b := newWorld(t, 1)
	a.say("x")
	w.run(time.Second)
	said := w.chat(time.Hour, 400*time.Millisecond, a, b)
	if len(a.got)+len(b.got) != said+1 {
		t.Errorf("%d of %d came", len(a.got)+len(b.got), said+1)
	}
	if a.hellos < 29 || a.hellos > 31 || b.hellos != 0 {
		t.Errorf("%d and %d HELLOs in an hour", a.hellos, b.hellos)
	}

	// The initiator's HELLOs do not get through: the other side's do, later.
	w, a, b = newWorld(t, 1)
	a.say("x")
	w.run(time.Second)
	w.drop = func(p *packet) bool { return p.from == a && p.msg != nil && p.msg.Type == wire.Hello }
	start := w.now
	for b.hellos == 0 && w.now-start < 200*time.Second {
		w.chat(time.Second, 500*time.Millisecond, a, b)
	}
	if got := w.now - start; got < 149*time.Second || got > 151*time.Second {
		t.Errorf("the responder renewed after %v", got)
	}
	w.chat(60*time.Second, 500*time.Millisecond, a, b)
	if x := a.set.Current(w.now); x == nil || x.Initiator() {
		t.Error("the responder's session is not used")
	}
}

func TestRenewalByCount(t *testing.T) {
	w, a, b := newWorld(t, 1)
	b.say("x")
	w.run(time.Second)
	x := a.set.Current(w.now)
	x.departs[0].counter.Store(renewPackets)
	a.say("one more")
	w.run(time.Second)
	if y := a.set.Current(w.now); y == x || y == nil || a.hellos != 1 {
		t.Error("2^31 packets do not renew the keys")
	}
	a.set.Current(w.now).departs[0].counter.Store(packetLimit)
	b.set.Current(w.now).departs[0].counter.Store(packetLimit)
	if a.set.Current(w.now) == nil {
		t.Fatal("the session before is not used")
	}
	x.departs[0].counter.Store(packetLimit)
	if a.set.Current(w.now) != nil {
		t.Error("a used-up key is used")
	}
	a.say("and more")
	w.run(time.Second)
	if b.got[len(b.got)-1] != "and more" {
		t.Error("no new session after the last packet of the last key")
	}
}

// Our HELLO is lost for good, while the peer's makes a session: ours is soon given up,
// and nobody is told that the peer is not there.
func TestPeersHelloIsEnough(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.drop = func(p *packet) bool { return p.from == a && p.msg != nil && p.msg.Type == wire.Hello }
	a.say("x")
	w.run(time.Second)
	b.say("y")
	w.run(together + time.Second)
	if len(a.got) != 1 || len(b.got) != 1 {
		t.Errorf("a got %q, b got %q", a.got, b.got)
	}
	if a.set.attempt != nil || a.gaveUp != 0 {
		t.Errorf("still trying, or gave up %d times", a.gaveUp)
	}
}

// One datagram to a peer that is gone: HELLOs for half a minute, and then nothing.
func TestPeerIsGone(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.chat(time.Second, 100*time.Millisecond, a, b)
	w.run(5 * time.Second)
	w.drop = func(*packet) bool { return true }
	a.hellos = 0
	a.say("into the dark")
	w.run(40 * time.Second)
	if a.hellos < 8 || a.hellos > 12 {
		t.Errorf("%d HELLOs", a.hellos)
	}
	a.ticks, a.hellos = 0, 0
	w.run(60 * time.Second)
	if a.hellos != 0 || a.ticks != 0 {
		t.Errorf("afterwards %d HELLOs, %d ticks", a.hellos, a.ticks)
	}
}

// A session that was opened without Confirm is confirmed before it would expire.
func TestForgottenConfirm(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.drop = func(p *packet) bool { return p.sealed != nil }
	a.say("x")
	w.run(time.Second)
	y := b.set.pending[0]
	y.received.Store(int64(w.now))
	w.run(pendingLife)
	if b.set.Current(w.now) != y {
		t.Error("it expired")
	}
}

func TestPendingSessionsExpire(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.drop = func(p *packet) bool { return p.from == b || p.sealed != nil }
	a.say("x")
	w.run(200 * time.Millisecond)
	if len(b.set.pending) != 1 {
		t.Fatal("no pending session")
	}
	w.drop = func(p *packet) bool { return true }
	x := b.set.pending[0]
	w.run(pendingLife)
	if len(b.set.pending) != 0 || !x.Ended() || len(b.table) != 0 {
		t.Error("a pending session outlived 10 s")
	}
}

func TestUnknownIndex(t *testing.T) {
	w, a, b := newWorld(t, 1)
	n := 0
	for range 30 {
		before := a.set.sent
		a.set.OnUnknown(w.now)
		n += btoi(a.set.sent != before)
		a.set.attempt = nil
		w.run(100 * time.Millisecond)
	}
	if n != 3 {
		t.Errorf("%d handshakes in 3 s", n)
	}
	// Not while the peer is heard on what we have.
	a.restart()
	w.chat(3*time.Second, 100*time.Millisecond, a, b)
	a.set.OnUnknown(w.now)
	if a.set.attempt != nil {
		t.Error("a forged packet begins a handshake in the middle of things")
	}
	w.run(time.Minute)
	a.set.OnUnknown(w.now)
	if a.set.attempt == nil {
		t.Error("a peer not heard for a minute is not asked")
	}
}

// A machine slept, and its timers with it: keys that are too old seal and open nothing,
// whether the Set was called since or not.
func TestKeysEndInSleep(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.chat(time.Second, 100*time.Millisecond, a, b)
	x, y := a.set.Current(w.now), b.set.Current(w.now)
	if !sameSession(x, y) {
		t.Fatal("no common session")
	}
	end := int64(x.born + keyLife)
	n, ok := x.Reserve(0, 2, end-1)
	if !ok {
		t.Fatal("refused before its time")
	}
	first, second := x.Seal(nil, n, []byte("x")), x.Seal(nil, n+1, []byte("y"))
	before := x.used()
	for _, at := range []int64{end, end + int64(time.Hour)} {
		if _, ok := x.Reserve(0, 1, at); ok || x.used() != before {
			t.Errorf("%v late: reserved", time.Duration(at-end))
		}
	}
	end = int64(y.born + keyLife)
	room := make([]byte, 8)
	for _, at := range []int64{end, end + int64(time.Hour)} {
		if _, err := y.Open(room, first, at); err != ErrEnded {
			t.Errorf("%v late: %v", time.Duration(at-end), err)
		}
	}
	for _, p := range [][]byte{first, second} { // refusing them left no trace
		if _, err := y.Open(room, p, end-1); err != nil {
			t.Error(err)
		}
	}
}

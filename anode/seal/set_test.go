package seal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const rtt = 20 * time.Millisecond

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
				if len(p.sealed) != Overhead {
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
		if len(a.set.live) == 2 && x.Initiator() != a.set.lower() {
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
		if p.msg.Type == TypeHello {
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
	if bytes.Equal(a.set.message().Body, first) {
		t.Error("the same HELLO for 100 s")
	}
	w.drop = nil
	w.run(5 * time.Second)
	if a.set.Current(w.now) == nil {
		t.Error("no session once the peer is there")
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
	w.drop = func(p *packet) bool { return p.from == a && p.msg != nil && p.msg.Type == TypeHello }
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
	x.counter.Store(renewPackets)
	a.say("one more")
	w.run(time.Second)
	if y := a.set.Current(w.now); y == x || y == nil || a.hellos != 1 {
		t.Error("2^31 packets do not renew the keys")
	}
	a.set.Current(w.now).counter.Store(packetLimit)
	b.set.Current(w.now).counter.Store(packetLimit)
	if a.set.Current(w.now) == nil {
		t.Fatal("the session before is not used")
	}
	x.counter.Store(packetLimit)
	if a.set.Current(w.now) != nil {
		t.Error("a used-up key is used")
	}
	a.say("and more")
	w.run(time.Second)
	if b.got[len(b.got)-1] != "and more" {
		t.Error("no new session after the last packet of the last key")
	}
}

// A clock set back by ten years, and a Set that forgot what it sent.
func TestClockSetBack(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.chat(time.Second, 100*time.Millisecond, a, b)
	clock := a.local.Clock
	a.local.Clock = func() time.Time { return clock().AddDate(-10, 0, 0) }
	a.restart()
	at := w.now
	a.say("after ten years")
	b.gotAt = 0
	w.run(time.Second)
	if b.gotAt < at || b.got[len(b.got)-1] != "after ten years" {
		t.Error("a clock set back locks out")
	}
	if b.gotAt-at > 60*time.Millisecond {
		t.Errorf("it took %v", b.gotAt-at)
	}
	// Within one run the stamps grow whatever the clock does.
	before := a.set.sent
	a.set.begin(w.now)
	if after := a.set.sent; bytes.Compare(after[:], before[:]) <= 0 {
		t.Error("the stamp did not grow")
	}
}

// The message with the greatest stamp that there is leaves room for a next one.
func TestReservedStamps(t *testing.T) {
	w, a, b := newWorld(t, 1)
	huge := Stamp(bytes.Repeat([]byte{0xff}, stampSize))
	a.set.Want(w.now)
	body := Stale{a.set.attempt.hello.Index, huge}.Append(nil)
	if err := a.set.OnStale(w.now, body); err == nil {
		t.Error("a reserved stamp was taken from STALE")
	}
	a.set.sent = huge
	a.set.sent[0] = 0x7f
	if err := a.set.begin(w.now); err != nil {
		t.Fatal(err)
	}
	reply, x, err := b.set.OnHello(w.now, 3, a.set.message().Body)
	if err == nil || reply != nil || x != nil {
		t.Error("a reserved stamp was taken from HELLO")
	}
}

func TestReplayedHello(t *testing.T) {
	w, a, b := newWorld(t, 1)
	var old [][]byte
	w.drop = func(p *packet) bool {
		if p.msg != nil && p.msg.Type == TypeHello {
			old = append(old, p.msg.Body)
		}
		return false
	}
	for range 5 {
		a.restart()
		a.say("x")
		w.run(time.Second)
	}
	session := b.set.Current(w.now)
	// The newest is dropped; older ones get one STALE a second.
	if reply, x, err := b.set.OnHello(w.now, 3, old[4]); reply != nil || x != nil || err != ErrDuplicate {
		t.Errorf("the newest again: %v, %v, %v", reply, x, err)
	}
	fresh := NewSet(b.local, address(a), 0)
	fresh.peerID, fresh.greatest = 3, b.set.greatest
	if _, x, err := fresh.OnHello(w.now, 3, old[4]); x != nil || err != ErrDuplicate {
		t.Errorf("the newest stamp again: %v", err)
	}
	stales := 0
	for range 10 {
		for _, h := range old[:2] {
			reply, x, err := b.set.OnHello(w.now, 3, h)
			if x != nil {
				t.Fatal("an old HELLO made a session")
			}
			if reply != nil {
				if stales++; reply.Type != TypeStale || err != nil {
					t.Errorf("answered %x, %v", reply.Type, err)
				}
			} else if err != ErrStale {
				t.Error(err)
			}
		}
		w.run(500 * time.Millisecond)
	}
	if stales != 5 {
		t.Errorf("%d STALEs in 5 s", stales)
	}
	if b.set.Current(w.now) != session {
		t.Error("old HELLOs changed the session")
	}

	// After a restart they make pending sessions, which come to nothing, and do not
	// crowd out a new HELLO.
	b.restart()
	for range 50 {
		for _, h := range old {
			b.set.OnHello(w.now, 3, h)
			b.tick()
		}
		w.run(7 * time.Millisecond)
	}
	if b.set.Current(w.now) != nil || b.set.greatest != (Stamp{}) {
		t.Error("replayed HELLOs were confirmed")
	}
	a.restart()
	n := len(b.got)
	a.say("I am new")
	for range 20 {
		for _, h := range old {
			b.set.OnHello(w.now, 3, h)
			b.tick()
		}
		w.run(7 * time.Millisecond)
	}
	if len(b.got) != n+1 {
		t.Error("replayed HELLOs kept a new one out")
	}
}

// Replays after a restart of the responder, while the initiator's clock is behind
// them: STALE lifts it above.
func TestReplaysAheadOfTheClock(t *testing.T) {
	w, a, b := newWorld(t, 1)
	var old [][]byte
	w.drop = func(p *packet) bool {
		if p.msg != nil && p.msg.Type == TypeHello {
			old = append(old, p.msg.Body)
		}
		return false
	}
	for range 3 {
		a.restart()
		a.say("x")
		w.run(time.Second)
	}
	clock := a.local.Clock
	a.local.Clock = func() time.Time { return clock().AddDate(-10, 0, 0) }
	a.restart()
	b.restart()
	b.got = nil
	for range 3 {
		for _, h := range old[:3] {
			b.set.OnHello(w.now, 3, h)
		}
		b.tick()
		w.run(time.Second)
	}
	a.say("I am behind")
	for range 200 {
		for _, h := range old[1:3] {
			b.set.OnHello(w.now, 3, h)
			b.tick()
		}
		w.run(10 * time.Millisecond)
	}
	if len(b.got) != 1 {
		t.Error("replayed HELLOs kept one with a clock set back out")
	}
}

func TestCookie(t *testing.T) {
	w, a, b := newWorld(t, 1)
	var cookies Cookies
	endpoint := []byte("udp 192.0.2.1:8737")
	sent := 0
	w.drop = func(p *packet) bool {
		if p.msg == nil || p.msg.Type != TypeHello {
			return false
		}
		h, err := ParseHello(p.msg.Body)
		if err != nil {
			t.Fatal(err)
		}
		if cookies.Check(w.now, endpoint, address(a), h.Cookie) {
			return false
		}
		challenge := h.Challenge(cookies.Make(w.now, endpoint, address(a)))
		if len(challenge.Body) > len(p.msg.Body) {
			t.Error("COOKIE is larger than its HELLO")
		}
		sent++
		w.send(&packet{from: b, to: a, msg: challenge})
		return true
	}
	start := w.now
	a.say("x")
	w.run(time.Second)
	if sent != 1 || len(b.got) != 1 || b.gotAt-start > 50*time.Millisecond {
		t.Errorf("%d COOKIEs, b got %q after %v", sent, b.got, b.gotAt-start)
	}
	if len(b.set.pending) != 0 || len(b.set.live) != 1 {
		t.Error("the HELLO with a cookie is another HELLO")
	}

	// Forged ones.
	w.drop = func(*packet) bool { return true }
	a.restart()
	if _, err := a.set.OnCookie(w.now, Challenge{}.Append(nil)); err != ErrUnexpected {
		t.Errorf("without a handshake: %v", err)
	}
	a.say("y")
	h := a.set.attempt.hello
	wrong := h.Challenge([16]byte{1}).Body
	for i := range 18 {
		wrong[i] ^= 1
		if _, err := a.set.OnCookie(w.now, wrong); err != ErrUnexpected {
			t.Errorf("byte %d wrong: %v", i, err)
		}
		wrong[i] ^= 1
	}
	replies := 0
	for i := range 100 {
		m, err := a.set.OnCookie(w.now, h.Challenge([16]byte{byte(i)}).Body)
		if err != nil {
			t.Fatal(err)
		}
		replies += btoi(m != nil)
	}
	if replies != cookieReplies {
		t.Errorf("%d HELLOs for 100 COOKIEs", replies)
	}
	// Whatever the cookie, it is the same HELLO.
	b.restart()
	first, x, err := b.set.OnHello(w.now, 3, a.set.message().Body)
	if x == nil || err != nil {
		t.Fatal(err)
	}
	a.set.attempt.hello.Cookie[3]++
	again, x, err := b.set.OnHello(w.now, 3, a.set.message().Body)
	if x != nil || err != nil || again != first {
		t.Errorf("with another cookie: %v, %v", again, err)
	}
}

// STALE is taken from a true answer only, and once a second.
func TestForgedStale(t *testing.T) {
	w, a, _ := newWorld(t, 1)
	if err := a.set.OnStale(w.now, Stale{}.Append(nil)); err != ErrUnexpected {
		t.Errorf("without a handshake: %v", err)
	}
	a.set.Want(w.now)
	index := func() uint16 { return a.set.attempt.hello.Index }
	if err := a.set.OnStale(w.now, Stale{index() + 1, a.set.sent.next()}.Append(nil)); err != ErrUnexpected {
		t.Errorf("another index: %v", err)
	}
	before := a.set.sent
	before[7]--
	if err := a.set.OnStale(w.now, Stale{index(), before}.Append(nil)); err != ErrUnexpected {
		t.Errorf("not greater than ours: %v", err)
	}
	far := a.set.sent
	far[2]++
	if err := a.set.OnStale(w.now, Stale{index(), far}.Append(nil)); err != nil || a.set.sent != far.next() {
		t.Errorf("%v, next stamp %x, want %x", err, a.set.sent, far.next())
	}
	if err := a.set.OnStale(w.now+staleEvery-1, Stale{index(), far.next()}.Append(nil)); err != ErrStale {
		t.Errorf("twice in a second: %v", err)
	}
	if err := a.set.OnStale(w.now+staleEvery, Stale{index(), far.next()}.Append(nil)); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

// Our HELLO is lost for good, while the peer's makes a session: ours is soon given up,
// and nobody is told that the peer is not there.
func TestPeersHelloIsEnough(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.drop = func(p *packet) bool { return p.from == a && p.msg != nil && p.msg.Type == TypeHello }
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

// Which of several sessions is sent on; times in milliseconds.
func TestCurrent(t *testing.T) {
	type s struct {
		ours                    bool
		began, confirmed, heard time.Duration
	}
	_, a, _ := newWorld(t, 1) // a has the lower or the higher address
	lower, higher := a.set.lower(), !a.set.lower()
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
		{"three", []s{{ours: lower, began: 0, confirmed: 10}, {ours: higher, began: 5, confirmed: 20}, {ours: higher, began: 100, confirmed: 110}}, 2},
	} {
		set := NewSet(a.local, a.other.local.Identity.Address(), 0)
		for _, l := range c.live {
			x, _ := pair(t)
			x.initiator = l.ours
			x.life = life{state: confirmed, began: time.Hour + l.began*time.Millisecond,
				born: time.Hour + l.began*time.Millisecond, confirmed: time.Hour + l.confirmed*time.Millisecond}
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
		if set.Current(last.life.born+keyLife-1) != last || set.Current(last.life.born+keyLife) != nil {
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
		x.initiator = a.set.lower() == (i == 0)
		x.life = life{began: time.Hour, born: time.Hour}
		set.confirm(time.Hour+i, x)
	}
	if len(set.live) != 3 || len(set.ended) != 1 || set.Current(time.Hour+9) != set.live[0] || set.live[0].life.confirmed != time.Hour {
		t.Error("the session in use was ended for a new one")
	}
}

// TLVs that do not add up end a handshake.
func TestBrokenTLVs(t *testing.T) {
	w, a, b := newWorld(t, 1)
	stamp := stampOf(epoch)
	state, err := newHandshake(a.local, address(b), true)
	if err != nil {
		t.Fatal(err)
	}
	msg, _, _, err := state.WriteMessage(nil, append(stamp[:], 1, 9, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, x, err := b.set.OnHello(w.now, 3, Hello{Noise: msg}.Append(nil)); x != nil || err != ErrBody {
		t.Errorf("HELLO: %v", err)
	}
	a.set.Want(w.now)
	a.set.Tick(w.now)
	h := a.set.attempt.hello
	state, err = newHandshake(b.local, address(a), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := readMessage(state, h.Noise); err != nil {
		t.Fatal(err)
	}
	if msg, _, _, err = state.WriteMessage(nil, []byte{1, 9, 0}); err != nil {
		t.Fatal(err)
	}
	if x, err := a.set.OnWelcome(w.now, 5, Welcome{Your: h.Index, Noise: msg}.Append(nil)); x != nil || err != ErrBody {
		t.Errorf("WELCOME: %v", err)
	}
	if do, _ := a.set.Tick(w.now); !do.GaveUp || !a.set.Empty() {
		t.Error("the handshake goes on with used keys")
	}
	// Such are not sent either.
	a.local.Caps = []byte{1, 9, 0}
	b.local.Caps = make([]byte, maxCaps+1)
	a.say("x")
	w.run(time.Second)
	if len(b.got) != 1 {
		t.Error("our own broken TLVs end a handshake")
	}
}

func TestCookiesAge(t *testing.T) {
	_, a, b := newWorld(t, 1)
	var c Cookies
	for _, start := range []time.Duration{1, time.Hour} {
		k := c.Make(start, []byte("e"), address(a))
		if !c.Check(start+cookieSecretAge-1, []byte("e"), address(a), k) {
			t.Error("a young cookie fails")
		}
		if c.Check(start, []byte("f"), address(a), k) || c.Check(start, []byte("e"), address(b), k) ||
			c.Check(start, []byte("e"), address(a), [16]byte{}) {
			t.Error("a wrong cookie passes")
		}
		c.Check(start+cookieSecretAge, nil, address(a), k)
		if !c.Check(start+2*cookieSecretAge-1, []byte("e"), address(a), k) {
			t.Error("a cookie of the previous secret fails")
		}
		if c.Check(start+2*cookieSecretAge, []byte("e"), address(a), k) {
			t.Error("an old cookie passes")
		}
		c = Cookies{}
		k = c.Make(start, []byte("e"), address(a))
		if c.Check(start+2*cookieSecretAge, []byte("e"), address(a), k) {
			t.Error("an old cookie passes after a long pause")
		}
		c = Cookies{}
	}
}

// A secret that the other side does not have.
func TestWrongSecret(t *testing.T) {
	w, a, b := newWorld(t, 1)
	a.local.PSK = [32]byte{1}
	if !a.local.Private() || b.local.Private() {
		t.Error("Private")
	}
	a.say("x")
	w.run(3 * time.Second)
	if a.set.Current(w.now) != nil || b.set.Current(w.now) != nil || a.errs[ErrAuth] == 0 {
		t.Errorf("a session without the secret; a's errors %v", a.errs)
	}
	b.local.PSK = a.local.PSK
	b.restart()
	w.run(15 * time.Second)
	if len(b.got) != 1 {
		t.Error("no session with the secret")
	}
}

// Two machines with one key: sessions are with one of them.
func TestTwoMachines(t *testing.T) {
	w, a, b := newWorld(t, 1)
	c := w.add("c", 2, 6) // b's key
	c.other = a
	c.restart()
	a.say("x")
	w.run(time.Second)
	if a.set.PeerID() != 5 {
		t.Fatal("not with b")
	}
	hello := func(s *side) []byte {
		s.set.begin(w.now)
		return s.set.message().Body
	}
	if _, x, err := a.set.OnHello(w.now, 6, hello(c)); x != nil || err != ErrMachine {
		t.Errorf("c's HELLO: %v", err)
	}
	// c answers a HELLO that was meant for b, while b is there.
	h := hello(a)
	reply, _, err := c.set.OnHello(w.now, 3, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.set.OnWelcome(w.now, 6, reply.Body); err != ErrMachine {
		t.Errorf("c's WELCOME: %v", err)
	}
	// And when b is gone.
	a.set.Current(w.now).Erase()
	x, err := a.set.OnWelcome(w.now, 6, reply.Body)
	if err != nil || a.set.PeerID() != 6 || x.PeerID() != 6 || len(a.set.live) != 1 {
		t.Errorf("c's WELCOME: %v", err)
	}
	_ = b
}

// A peer that lost its state has another peer ID: whoever speaks first, it does not
// take until the old keys end.
func TestOtherPeerID(t *testing.T) {
	for _, who := range []string{"a", "b", "both"} {
		w, a, b := newWorld(t, 1)
		w.chat(3*time.Second, 100*time.Millisecond, a, b)
		b.local.PeerID = 9
		b.restart()
		at := w.now
		a.gotAt, b.gotAt = 0, 0
		w.chat(5*time.Second, 100*time.Millisecond, pick(who, a, b)...)
		for _, s := range pick(who, a, b) {
			if s.other.gotAt < at {
				t.Errorf("%s talks: nothing came in 5 s", who)
			}
		}
		if a.set.PeerID() != 9 {
			t.Errorf("%s talks: the peer ID is %d", who, a.set.PeerID())
		}
		// Stamps are each machine's own.
		a.set.greatest[1]++
		clock := b.local.Clock
		b.local.Clock = func() time.Time { return clock().AddDate(-1, 0, 0) }
		a.set.Close()
		b.local.PeerID = 8
		b.restart()
		b.set.Want(w.now)
		if _, x, err := a.set.OnHello(w.now, 8, b.set.message().Body); x == nil {
			t.Errorf("another machine's stamps count: %v", err)
		} else if a.set.Confirm(w.now, x); a.set.greatest != x.life.stamp {
			t.Error("another machine's stamps are kept")
		}
		a.restart()
		b.restart()
		b.local.Clock = clock
		// And after all keys have ended.
		w.run(200 * time.Second)
		b.local.PeerID = 10
		b.restart()
		b.say("new again")
		w.run(time.Second)
		if a.set.PeerID() != 10 || a.got[len(a.got)-1] != "new again" {
			t.Errorf("%s talks: without a session the peer ID is %d", who, a.set.PeerID())
		}
	}
}

// Loss, reordering and duplication, for a long time.
func TestBadLink(t *testing.T) {
	for seed := range uint64(4) {
		w, a, b := newWorld(t, seed)
		w.loss, w.twice = 0.3, 0.2
		w.delay = func() time.Duration { return time.Duration(5+w.rand.IntN(400)) * time.Millisecond }
		said := w.chat(20*time.Minute, 300*time.Millisecond, a, b)
		w.run(time.Second)
		seen := map[string]bool{}
		for _, m := range append(a.got, b.got...) {
			if seen[m] {
				t.Fatalf("seed %d: %q came twice", seed, m)
			}
			seen[m] = true
		}
		if len(seen) < said*60/100 {
			t.Errorf("seed %d: %d of %d came", seed, len(seen), said)
		}
		if a.errs[ErrAuth]+b.errs[ErrAuth] != 0 {
			t.Errorf("seed %d: %v, %v", seed, a.errs, b.errs)
		}
	}
}

// No eight bytes of what is said are on the wire, in any message.
func TestNothingInClear(t *testing.T) {
	w, a, b := newWorld(t, 1)
	w.record, w.loss = true, 0.2
	w.chat(200*time.Second, 200*time.Millisecond, a, b)
	said := map[string]bool{}
	for _, s := range append(a.got, b.got...) {
		for i := 0; i+4 <= len(s); i++ {
			said[s[i:i+4]] = true
		}
	}
	for _, p := range w.wire {
		for i := 0; i+4 <= len(p); i++ {
			if said[string(p[i:i+4])] {
				t.Fatalf("%q is in %x", p[i:i+4], p)
			}
		}
	}
}

// A million messages and mutations of true ones: no panic, no growth, and afterwards
// all works.
func TestNothingGrows(t *testing.T) {
	w, a, b := newWorld(t, 1)
	var real [][]byte
	w.drop = func(p *packet) bool {
		if p.msg != nil {
			real = append(real, p.msg.Body)
		}
		return false
	}
	for range 5 {
		a.restart()
		w.chat(time.Second, 100*time.Millisecond, a, b)
	}
	w.drop = nil
	session := b.set.Current(w.now)
	r := rand.New(rand.NewPCG(5, 5))
	n := 1_000_000
	for i := range n {
		body := bytes.Clone(real[r.IntN(len(real))])
		switch r.IntN(200) {
		case 0: // as it is
		case 1: // noise only: the expensive path
			body[17+r.IntN(len(body)-17)] ^= 1 << r.IntN(8)
		case 2, 3, 4, 5:
			body = body[:r.IntN(len(body))]
		default:
			body[0] ^= byte(1 + r.IntN(255))
		}
		if i%10 == 0 {
			w.now += time.Duration(r.IntN(1000)) * time.Microsecond
		}
		peerID := uint8(3)
		if r.IntN(10) == 0 {
			peerID = uint8(r.IntN(16))
		}
		switch r.IntN(4) {
		case 0:
			b.set.OnHello(w.now, peerID, body)
		case 1:
			b.set.OnWelcome(w.now, peerID, body)
		case 2:
			b.set.OnCookie(w.now, body)
		case 3:
			b.set.OnStale(w.now, body)
		}
		if i%1000 == 0 {
			b.set.OnUnknown(w.now)
		}
		if i%100 == 0 {
			b.set.Tick(w.now)
		}
		if len(b.set.live) > maxLive || len(b.set.pending) > maxPending || len(b.set.ended) > 20 {
			t.Fatalf("%d live, %d pending, %d ended", len(b.set.live), len(b.set.pending), len(b.set.ended))
		}
	}
	if w.now-time.Hour < keyLife && session.Ended() {
		t.Error("the session in use was ended")
	}
	b.tick()
	a.got, b.got = nil, nil
	said := w.chat(5*time.Second, 100*time.Millisecond, a, b)
	if len(a.got)+len(b.got) < said*6/10 {
		t.Errorf("%d of %d came afterwards", len(a.got)+len(b.got), said)
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

func TestRandomnessFails(t *testing.T) {
	w, a, _ := newWorld(t, 1)
	a.local.Rand = bytes.NewReader(nil)
	if err := a.set.Want(w.now); err == nil {
		t.Error("a handshake without random numbers")
	}
	a.local.Rand = bytes.NewReader(make([]byte, 1000)) // zeros are no scalar
	if err := a.set.Want(w.now); err == nil {
		t.Error("a handshake with a key of zeros")
	}
	if !a.set.Empty() {
		t.Error("something remains")
	}
	if got := fmt.Sprint(pending, confirmed, ended); got != "pending confirmed ended" {
		t.Error(got)
	}
}

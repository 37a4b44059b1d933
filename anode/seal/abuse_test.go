package seal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"anodenet/anode/wire"
)

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
	a.set.begin(w.now, nil)
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
	if err := a.set.begin(w.now, nil); err != nil {
		t.Fatal(err)
	}
	reply, x, err := b.set.OnHello(w.now, 3, a.set.attempt.message(a.set.peerID).Body)
	if err == nil || reply != nil || x != nil {
		t.Error("a reserved stamp was taken from HELLO")
	}
}

func TestReplayedHello(t *testing.T) {
	w, a, b := newWorld(t, 1)
	var old [][]byte
	w.drop = func(p *packet) bool {
		if p.msg != nil && p.msg.Type == wire.Hello {
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
				if stales++; reply.Type != wire.Stale || err != nil {
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
		if p.msg != nil && p.msg.Type == wire.Hello {
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
		if p.msg == nil || p.msg.Type != wire.Hello {
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
	first, x, err := b.set.OnHello(w.now, 3, a.set.attempt.message(a.set.peerID).Body)
	if x == nil || err != nil {
		t.Fatal(err)
	}
	a.set.attempt.hello.Cookie[3]++
	again, x, err := b.set.OnHello(w.now, 3, a.set.attempt.message(a.set.peerID).Body)
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
	a.say("x")
	w.run(3 * time.Second)
	if a.set.Current(w.now) != nil || b.set.Current(w.now) != nil || a.errs[ErrAuth] == 0 {
		t.Errorf("a session without the secret; a's errors %v", a.errs)
	}
	b.local.PSK = a.local.PSK
	b.restart()
	b.set.SetStanding(true, true) // others get no answer
	w.run(15 * time.Second)
	if len(b.got) != 1 {
		t.Error("no session with the secret")
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

// TLVs that do not add up end a handshake.
func TestBrokenTLVs(t *testing.T) {
	w, a, b := newWorld(t, 1)
	stamp := stampOf(epoch)
	state, err := newHandshake(a.local, address(b), true, new([32]byte), nil)
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
	state, err = newHandshake(b.local, address(a), false, new([32]byte), nil)
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

package main_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// turns waits until another host has a state here.
func (h *host) turns(other *host, state string) time.Duration {
	h.t.Helper()
	return within(h.t, dialWait, fmt.Sprintf("%s to be %s at %s", other.name, state, h.name), func() bool { return h.stateOf(other) == state })
}

// requested waits until another host is on the list of those who ask or were introduced.
func (h *host) requested(other *host, state string) {
	h.t.Helper()
	within(h.t, dialWait, other.name+"'s request at "+h.name, func() bool {
		var list struct {
			Requests []struct{ Address, State string }
		}
		h.decode(h.anode("peers", "requests", "--json"), &list)
		return slices.ContainsFunc(list.Requests, func(r struct{ Address, State string }) bool {
			return r.Address == other.address.String() && r.State == state
		})
	})
}

// acquainted has two hosts join a third one, f, by links.
func acquainted(f *host, hosts ...*host) {
	for _, h := range hosts {
		h.joins(f.invites(h.name).Link, f.name)
	}
}

// reaches reports whether a TCP connection to another host's port 7 succeeds.
func (h *host) reaches(other *host, wait time.Duration) bool {
	errno, _ := h.refusal(other, 7, wait)
	return errno == 0
}

// apart has neither of two hosts reach the other's port.
func apart(t *testing.T, when string, a, b *host) {
	t.Helper()
	for _, x := range [][2]*host{{a, b}, {b, a}} {
		if x[0].reaches(x[1], 500*time.Millisecond) {
			t.Errorf("%s, %s reaches %s", when, x[0].name, x[1].name)
		}
	}
}

// together has two hosts reach each other's port, both of them within a time from a moment on.
func together(t *testing.T, when string, a, b *host, from time.Time, most time.Duration) {
	t.Helper()
	for _, x := range [][2]*host{{a, b}, {b, a}} {
		within(t, dialWait, when+", a connection from "+x[0].name, func() bool { return x[0].reaches(x[1], 500*time.Millisecond) })
	}
	took := time.Since(from)
	if t.Logf("%s, both have connected after %v", when, took); took > most {
		t.Errorf("%s, both have connected only after %v", when, took)
	}
}

// TestNetPeopleIntroduce: two who know a third alone are made known to each other. Neither reaches the other
// before both have accepted, whichever did so first, and afterwards they need the third no more. Who was removed and is
// introduced again by another device of the same person stays out.
func TestNetPeopleIntroduce(t *testing.T) {
	t.Parallel()
	f, a, b, c := newMachine(t, "f"), newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "c")
	join(1, f, a, b, c)
	for _, h := range []*host{f, a, b, c} {
		h.fresh(debugging...)
		h.echoTCP(7)
	}
	acquainted(f, a, b, c)
	f.anode("peers", "introduce", "a", "b")
	f.anode("peers", "introduce", "a", "c")
	for _, x := range [][2]*host{{a, b}, {b, a}, {a, c}, {c, a}} {
		x[0].requested(x[1], "introduced")
	}
	apart(t, "introduced", a, b)
	a.anode("peers", "accept", b.address.String())
	c.anode("peers", "accept", a.address.String())
	a.requested(b, "asked")
	c.requested(a, "asked")
	b.requested(a, "asking")
	a.requested(c, "asking")
	time.Sleep(time.Second)
	apart(t, "accepted by a", a, b)
	apart(t, "accepted by c", a, c)
	if out, code := a.tryAnode("why", "b"); code != 5 || !strings.Contains(out, "connected when b accepts too") {
		t.Errorf("why b: %d, %s", code, out)
	}

	// a takes its yes back, and b hears of it. Then a says it again.
	a.anode("peers", "remove", "b")
	b.requested(a, "introduced")
	if s := a.stateOf(b); s != "" {
		t.Errorf("b is %s", s)
	}
	apart(t, "taken back by a", a, b)
	time.Sleep(10 * time.Second) // one ASK in that time is listed
	a.anode("peers", "ask", b.address.String(), "--name", "b")
	b.requested(a, "asking")

	// Both of a and c are killed meanwhile. Who accepts second needs no click of the first.
	for _, h := range []*host{a, c} {
		h.down(syscall.SIGKILL)
		h.up(debugging...)
	}
	apart(t, "accepted by a, started anew", a, b)
	a.requested(b, "asked")
	b.anode("peers", "accept", a.address.String())
	together(t, "accepted by a, then b", a, b, time.Now(), time.Second)
	a.anode("peers", "accept", c.address.String())
	together(t, "accepted by c, then a", a, c, time.Now(), time.Second)
	a.turns(b, "friend")
	b.turns(a, "friend")

	f.down(syscall.SIGKILL)
	together(t, "without f", a, b, time.Now(), dialWait)
	for _, h := range []*host{a, b} {
		h.down(syscall.SIGKILL)
	}
	for _, h := range []*host{a, b} {
		h.up(debugging...)
	}
	together(t, "after both started anew", a, b, time.Now(), dialWait)

	f.up(debugging...)
	f.anode("peers", "set", "a", "--mine")
	a.anode("peers", "set", "f", "--mine")
	a.anode("peers", "remove", b.address.String())
	if b.reaches(a, 500*time.Millisecond) { // b has not removed a
		t.Error("removed, b reaches a")
	}
	f.anode("peers", "introduce", "a", "b")
	f.anode("peers", "set", "b", "--mine") // and that introduces it, as one of a's own
	time.Sleep(2 * time.Second)
	if s := a.stateOf(b); s == "friend" || s == "approved" {
		t.Errorf("b, which was removed, is %s again", s)
	}
	if b.reaches(a, 500*time.Millisecond) {
		t.Error("introduced again, b reaches a")
	}
}

// TestNetPeopleBothAtOnce: both accept at the same time, while who introduced them is gone.
func TestNetPeopleBothAtOnce(t *testing.T) {
	t.Parallel()
	f, a, b := newMachine(t, "f"), newMachine(t, "a"), newMachine(t, "b")
	join(1, f, a, b)
	for _, h := range []*host{f, a, b} {
		h.fresh(debugging...)
		h.echoTCP(7)
	}
	acquainted(f, a, b)
	f.anode("peers", "introduce", "a", "b")
	a.requested(b, "introduced")
	b.requested(a, "introduced")
	f.down(syscall.SIGKILL)
	atOnce([]*host{a, b}, func(_ int, h *host) {
		h.anode("peers", "accept", map[*host]*host{a: b, b: a}[h].address.String())
	})
	together(t, "accepted by both at once", a, b, time.Now(), time.Second)
	a.turns(b, "friend")
	b.turns(a, "friend")
}

// TestNetPeopleIntroduceNAT: the same behind NATs that no direct path leads through. Who made them known
// relays, and no word of the introduction says so.
func TestNetPeopleIntroduceNAT(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	f := newMachine(t, "f")
	l.a, l.b = newMachine(t, "a"), newMachine(t, "b")
	l.put(l.a, behind("random"), 1, nil)
	l.put(l.b, behind("random"), 2, nil)
	l.put(f, centre, firstRelay, nil)
	l.rules()
	for _, h := range []*host{f, l.a, l.b} {
		h.fresh(debugging...)
		h.echoTCP(7)
	}
	acquainted(f, l.a, l.b)
	f.anode("peers", "introduce", "a", "b")
	l.a.requested(l.b, "introduced")
	l.b.requested(l.a, "introduced")
	apart(t, "introduced", l.a, l.b)
	l.a.anode("peers", "accept", l.b.address.String())
	l.b.requested(l.a, "asking")
	apart(t, "accepted by a", l.a, l.b)
	l.b.anode("peers", "accept", l.a.address.String())
	accepted := time.Now()
	t.Logf("after both accepted, the first ping comes after %v", l.a.meets(l.b))
	together(t, "accepted by both", l.a, l.b, accepted, 2*time.Second)
	l.b.meets(l.a)
	l.a.turns(l.b, "friend")
	l.b.turns(l.a, "friend")
	if got := l.way(l.a, l.b); got != relay {
		t.Errorf("the path is %s", got)
	}
	f.down(syscall.SIGKILL)
	f.up(debugging...)
	l.a.meets(l.b)
	for _, h := range []*host{l.a, l.b} {
		h.down(syscall.SIGKILL)
		h.up(debugging...)
	}
	together(t, "after both started anew", l.a, l.b, time.Now(), dialWait)
}

// TestNetPeopleRemoved: within a second after a friend was removed, nothing of it gets through, and what
// it tells is not taken.
func TestNetPeopleRemoved(t *testing.T) {
	t.Parallel()
	a, b, c := newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "c")
	join(1, a, b, c)
	for _, h := range []*host{a, b, c} {
		h.fresh(debugging...)
	}
	acquainted(a, b, c)
	a.echoTCP(7)
	if errno, _ := b.refusal(a, 7, dialWait); errno != 0 {
		t.Errorf("before, b cannot connect: %v", errno)
	}
	p := b.pinging(a, 20*time.Millisecond, 100)
	time.Sleep(500 * time.Millisecond)
	before := time.Now()
	a.anode("peers", "remove", "b")
	done := time.Now()
	time.Sleep(2 * time.Second)
	p.stop()
	if sent, answered := p.score(time.Time{}, before); answered < sent-1 {
		t.Errorf("before, %d of %d pings were answered", answered, sent)
	}
	sent, answered := p.score(done.Add(time.Second), time.Now())
	first, _ := p.score(done, done.Add(time.Second))
	t.Logf("removing takes %v; in the second after, %d pings were sent; later %d of %d were answered", done.Sub(before), first, answered, sent)
	if answered > sent/2 || sent == 0 { // strangers' pings are answered, a few
		t.Errorf("%d of %d pings were answered a second after", answered, sent)
	}
	if errno, _ := b.refusal(a, 7, time.Second); errno == 0 {
		t.Error("b connects although it was removed")
	}
	// An introduction is what friends alone may send.
	b.anode("peers", "add", c.address.String(), "c")
	b.tryAnode("peers", "introduce", "a", "c")
	time.Sleep(time.Second)
	var list struct{ Requests []struct{ Address string } }
	a.decode(a.anode("peers", "requests", "--json"), &list)
	if len(list.Requests) > 0 {
		t.Errorf("a takes what b tells: %+v", list.Requests)
	}
	if s := a.stateOf(b); s == "friend" || s == "approved" {
		t.Errorf("b is %s", s)
	}
	if out, code := b.tryAnode("ping", a.address.String(), "-c1", "-W1"); code != 0 {
		t.Errorf("as a stranger, b is not answered: %s", out)
	}
}

// TestNetPeopleRecorded: all packets of a join are recorded, and sent again, from elsewhere, to the
// issuer after it started anew, which has lost its sessions. Nobody is let in, and no use is spent; on the wire
// there is no ID of the invitation.
func TestNetPeopleRecorded(t *testing.T) {
	t.Parallel()
	a, b, evil := newHost(t, "a"), newHost(t, "b"), newMachine(t, "evil")
	join(1, a, b, evil)
	onlyIPv4(a, b)
	a.up(without...)
	b.up(without...)
	v := a.invites("--uses", "5")
	cable := a.capture("eth1")
	b.anode("join", v.Link, "--as", "a")
	within(t, dialWait, "the join to be over", func() bool { return b.stateOf(a) == "friend" && a.stateOf(b) == "friend" })
	time.Sleep(500 * time.Millisecond)
	var recorded [][]byte
	hellos := 0
	id, err := hex.DecodeString(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range cable.stop() {
		if len(p) < 14+20+8 || !isUDP(p) {
			continue
		}
		if bytes.Contains(p, id) || bytes.Contains(p, []byte(v.ID)) {
			t.Error("a packet has the invitation's ID")
		}
		to := netip.AddrFrom4([4]byte(p[14+16 : 14+20]))
		if data := p[14+20+8:]; to == netip.MustParseAddr("10.0.1.1") {
			recorded = append(recorded, data)
			if h, _, err := wire.Parse(data); err == nil && h.Type == wire.Hello {
				hellos++
			}
		}
	}
	if hellos < 1 || len(recorded) < 6 {
		t.Fatalf("%d packets to the issuer were recorded, %d of them HELLOs: that proves nothing", len(recorded), hellos)
	}
	for _, with := range []string{"the guest removed", "the guest let in"} {
		if with == "the guest removed" {
			b.down(syscall.SIGKILL)
			a.anode("peers", "remove", b.address.String())
		} else {
			a.anode("peers", "add", b.address.String(), "b")
		}
		a.down(syscall.SIGKILL)
		a.up(without...)
		before := a.issued(v.ID)
		flood := fire(evil, 400, func(n int) shot {
			from := netip.MustParseAddrPort("10.0.1.2:8737") // b's own
			if n/len(recorded)%2 == 1 {
				from = netip.MustParseAddrPort("10.0.1.3:9999")
			}
			return shot{from, netip.MustParseAddrPort("10.0.1.1:8737"), recorded[n%len(recorded)]}
		})
		time.Sleep(3 * time.Second)
		sent := flood.stop()
		after := a.issued(v.ID)
		t.Logf("%s: %d packets of %d recorded ones were sent again; %d uses left, %d guests", with, sent, len(recorded), after.Uses, len(after.Guests))
		if sent < 2*len(recorded) || after.Uses != before.Uses || len(after.Guests) != len(before.Guests) || len(after.Late) != len(before.Late) {
			t.Errorf("%s: after the replay %+v, before %+v", with, after, before)
		}
		if s := a.stateOf(b); with == "the guest removed" && s != "" && s != "stranger" {
			t.Errorf("%s: it is %s", with, s)
		}
	}
	// The issuer still takes guests.
	b.up(without...)
	b.anode("peers", "remove", a.address.String())
	a.anode("peers", "remove", b.address.String())
	w := a.invites()
	if out, code := b.tryAnode("join", w.Link, "--as", "a", "--timeout", "20s"); code != 0 {
		t.Errorf("after the replay, a guest is not let in: %s", out)
	}
}

package info2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFlooder: one host sends 1000 messages a second to a servent of fifty. It
// is cut off within a minute, and everybody's own messages arrive.
func TestFlooder(t *testing.T) {
	s := newSim(t, 17)
	s.grow(50)
	s.run(3 * time.Minute)
	target := s.nodes[7]
	flooder := s.addCrude(ip("172.30.0.1"))
	mid, cutAfter := uint32(0), time.Duration(0)
	start := s.now
	var link *simEnd
	var flood func()
	flood = func() {
		if s.now.Sub(start) > time.Minute {
			return
		}
		if link == nil || link.conn.dead {
			if link != nil && cutAfter == 0 {
				cutAfter = s.now.Sub(start)
			}
			// It comes back at once, as often as it can.
			link = s.dialCrude(flooder, target)
			s.write(link, []byte(helloLine))
		}
		mid = (mid + 1) % 1000000
		s.write(link, frame{kind: kindSend, mid: midOf(mid), text: "buy"}.append(nil))
		s.after(time.Millisecond, flood)
	}
	flood()
	list := s.talk(30, 2*time.Second)
	s.run(30 * time.Second)
	f := s.figures(list, 0, 1)
	junk := 0
	for _, text := range s.nodes[20].texts {
		if text == "buy" {
			junk++
		}
	}
	t.Logf("cut off after %v; %d of about %d messages went through; others: %v", cutAfter, junk, 60000, f)
	for c, n := range target.core.fx.counters.nonZero() {
		t.Logf("  target %v %d", c, n)
	}
	if cutAfter == 0 || cutAfter > time.Minute || junk > 150 {
		t.Error("the flooder was not cut off")
	}
	if len(list) != 30 || f.delivered != 1 || f.twice != 0 || f.median > 2*time.Second {
		t.Error("the flood kept others' messages away")
	}
	for _, n := range s.nodes {
		checkBounds(t, n)
	}
}

// TestVictim: hosts that answer every friend request with a victim's address
// bring it at most three connection attempts from each of 500 servents, however often
// they say it.
func TestVictim(t *testing.T) {
	t.Parallel()
	s := newSim(t, 19)
	victim := s.addCrude(ip("198.51.100.9"))
	for i := range 20 {
		liar := s.addCrude(netip.AddrFrom4([4]byte{198, 18, byte(i), 1}))
		liar.opens = func(e *simEnd) {}
		liar.crude = func(e *simEnd, data []byte) {
			switch string(data) {
			case helloLine:
				s.write(e, []byte(okLine))
			case friendRequestLine:
				s.write(e, []byte(victim.addr.String()))
				s.after(time.Second, func() { s.write(e, []byte(victim.addr.String())) })
				s.after(2*time.Second, func() { s.shut(e) })
			}
		}
	}
	for i := range 500 {
		n := s.addNode(i)
		// Nobody is at most of these addresses, so that servents keep asking.
		for range 3 {
			n.core.hosts.add(s.now, netip.AddrFrom4([4]byte{198, 18, byte(s.rng.IntN(20)), 1}), netip.Addr{})
		}
		n.core.pump(s.now)
		s.act(n)
	}
	s.run(100 * time.Minute)
	most, total := 0, 0
	for _, n := range victim.attempts {
		most = max(most, n)
		total += n
	}
	t.Logf("100 minutes: %d servents tried the victim, %d times, at most %d each; %d replies nobody asked for", len(victim.attempts), total, most, s.total(FriendUnasked))
	if len(victim.attempts) < 250 {
		t.Error("the lie did not even spread: the test is none")
	}
	if most > hearsayTries {
		t.Errorf("%d attempts from one servent", most)
	}
}

// TestForgedLogoff: LOGOFFs that name servents who stay close no link.
func TestForgedLogoff(t *testing.T) {
	s := newSim(t, 23)
	s.grow(50)
	s.run(3 * time.Minute)
	// Links come and go for reasons of their own, which are counted.
	left := func() uint64 { return uint64(len(s.links())) + s.total(Pruned) + s.total(Twins) }
	before := left()
	forger := s.addCrude(ip("172.30.0.1"))
	e := s.dialCrude(forger, s.nodes[3])
	s.write(e, []byte(helloLine))
	for i, n := range s.nodes {
		s.run(time.Second)
		s.write(e, frame{kind: kindLogoff, mid: midOf(uint32(i)), addr: n.addr}.append(nil))
	}
	s.run(10 * time.Second)
	after := left()
	list := s.talk(10, 2*time.Second)
	s.run(10 * time.Second)
	f := s.figures(list, 0, 1)
	t.Logf("%d links before, %d after %d relayed LOGOFFs; %v", before, after, s.total(LogoffRelayed), f)
	if after < before || s.total(LogoffRelayed) == 0 || f.delivered != 1 {
		t.Error("a forged LOGOFF closed links")
	}
	for _, n := range s.nodes {
		for _, l := range n.core.links.list {
			if l.said.suspect {
				t.Errorf("%v still suspects %v, who has answered", n.addr, l.addr)
			}
		}
	}

	// Its own LOGOFF does close its link, and only that.
	s.write(e, frame{kind: kindLogoff, mid: midOf(999), addr: forger.addr}.append(nil))
	s.run(time.Second)
	if n := left(); !e.conn.dead || n < before || s.total(LogoffDirect) != 1 {
		t.Errorf("the forger's own LOGOFF: its link closed %v; %d of %d links left", e.conn.dead, n, before)
	}
}

// TestSameIdentifier: two texts under one identifier are one message (memo
// 2.2.2.1): everybody gets one of them, once, and nothing circles.
func TestSameIdentifier(t *testing.T) {
	s := newSim(t, 29)
	s.grow(50)
	s.run(3 * time.Minute)
	hosts := []*simEnd{}
	for i, n := range []*simNode{s.nodes[1], s.nodes[40]} {
		e := s.dialCrude(s.addCrude(netip.AddrFrom4([4]byte{172, 30, 0, byte(i)})), n)
		s.write(e, []byte(helloLine))
		hosts = append(hosts, e)
	}
	s.run(time.Second)
	s.write(hosts[0], []byte("SEND 42 from here"))
	s.write(hosts[1], []byte("SEND 000042 from there"))
	s.run(10 * time.Second)
	out := s.total(MessagesOut)
	for _, n := range s.nodes {
		if len(n.texts) != 1 || n.twice != 0 {
			t.Errorf("%v heard %q", n.addr, n.texts)
		}
	}
	s.run(5 * time.Minute)
	if s.total(OtherText) == 0 || s.total(MessagesOut) != out {
		t.Errorf("%d counted as another text; %d messages before, %d after", s.total(OtherText), out, s.total(MessagesOut))
	}
}

// TestInjection: whatever a text holds, it is one message at every next hop.
func TestInjection(t *testing.T) {
	s := newSim(t, 31)
	s.grow(5)
	s.run(time.Minute)
	e := s.dialCrude(s.addCrude(ip("172.30.0.1")), s.nodes[0])
	s.write(e, []byte(helloLine))
	s.run(time.Second)
	for _, in := range []string{
		"SEND 1 a\n\x1b[2J\nLOGOFF", "SEND 2 b\x1b]0;x\x07", "SEND 3 c\u202ed", "SEND 4 e\rSEND 5 f", "SEND 6 \xff\xfe", "SEND 7 g\u2028SEND 8 h", "SEND 9 i\n \nFRIEND",
	} {
		s.write(e, []byte(in))
		s.run(2 * time.Second)
	}
	if _, err := s.nodes[1].core.say(s.now, Clean("mine\n\nLOGOFF 123456 "+s.nodes[2].addr.String()+"\n\n")); err != nil {
		t.Fatal(err)
	}
	s.act(s.nodes[1])
	s.run(3 * time.Second)
	want := []string{
		"a ␛[2J LOGOFF", "b␛]0;x␇", "c\ufffdd", "e SEND 5 f", "\ufffd\ufffd", "g SEND 8 h", "i   FRIEND",
		"mine  LOGOFF 123456 10.2.0.1",
	}
	for _, n := range s.nodes {
		if !slices.Equal(n.texts, want) {
			t.Errorf("%v heard %q", n.addr, n.texts)
		}
	}
	if n := s.total(LogoffRelayed) + s.total(LogoffDirect) + s.total(DroppedUnknown) + s.total(DroppedMalformed); n != 0 {
		t.Errorf("%d messages came out of texts", n)
	}
}

// TestFragilePeers: programs that register by BACKCONNECT and close, and that fall
// when a connection that they get holds anything except our hello and one message,
// or when we leave the closing to them. They hear everything, each once, however
// many they are and whatever else goes on.
func TestFragilePeers(t *testing.T) {
	s := newSim(t, 37)
	s.grow(5)
	s.run(time.Minute)
	type fragile struct {
		node          *simNode
		heard, opened int
		fallen        string
	}
	var all []*fragile
	for i := range neighboursMax + 1 {
		f := &fragile{node: s.addCrude(netip.AddrFrom4([4]byte{10, 99, 0, byte(i)}))}
		all = append(all, f)
		got := make(map[*simEnd]string)
		f.node.opens = func(e *simEnd) { got[e] = ""; f.opened++ }
		f.node.over = func(e *simEnd) { delete(got, e) }
		f.node.crude = func(e *simEnd, data []byte) {
			if _, open := got[e]; !open {
				if string(data) != okLine { // to what it opened itself
					f.fallen = "heard " + string(data) + " after our end"
				}
				return
			}
			got[e] += string(data)
			rest, greeted := strings.CutPrefix(got[e], helloLine)
			switch {
			case !greeted:
				f.fallen = "began with " + got[e]
			case rest == "":
				s.write(e, []byte(okLine+"INFO2/OK\n\n"))
			case strings.HasPrefix(rest, "SEND ") && strings.Count(rest, "\n\n") == 1:
				f.heard++
				if f.heard%2 == 0 { // some ask, and must get no answer there
					s.write(e, []byte("FRIEND REQUEST"))
				}
				s.after(5*time.Second, func() {
					if _, open := got[e]; open {
						f.fallen = "it had to close"
					}
				})
			default:
				f.fallen = "heard " + rest
			}
		}
	}
	register := func() {
		for _, f := range all {
			e := s.dialCrude(f.node, s.nodes[0])
			s.write(e, []byte(helloLine))
			s.after(time.Second, func() { s.write(e, []byte("BACKCONNECT 127.0.0.1")) })
			s.after(2*time.Second, func() { s.shut(e) })
			s.run(3 * time.Second)
		}
	}
	register()
	said := len(s.talk(20, 5*time.Second))
	s.run(time.Minute)
	full := 0
	for i, f := range all {
		switch {
		case f.fallen != "":
			t.Errorf("%d fell: %s", i, f.fallen)
		case f.heard == 0 && f.opened == 0:
			full++
		case f.heard != said || f.opened != said:
			t.Errorf("%d heard %d of %d in %d connections", i, f.heard, said, f.opened)
		}
	}
	if said != 20 || full != 1 {
		t.Errorf("%d said, %d found no place", said, full)
	}
	// Long after that nobody dials them to make a link.
	s.run(12 * time.Hour)
	for i, f := range all {
		if f.fallen != "" || f.opened > said {
			t.Errorf("%d: %d connections, fallen: %s", i, f.opened, f.fallen)
		}
	}
}
